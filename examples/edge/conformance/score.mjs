// Counts what was passed, and compares it with the floor.
//
//   node score.mjs SUITE_DIRECTORY RESULT_JSON FLOOR [--list]

import fs from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'

const [suite, resultFile, floorFile, list] = process.argv.slice(2)
const { default: groups } = await import(pathToFileURL(path.resolve(suite, 'tests/index.mjs')))
const results = JSON.parse(fs.readFileSync(resultFile, 'utf8'))

const score = {}
const rest = []
for (const test of groups.flatMap(group => group.tests)) {
  if (test.browser_only) continue
  const kind = test.kind ?? 'required'
  score[kind] ??= { passed: 0, of: 0 }
  score[kind].of += 1
  const result = results[test.id]
  if (result === true) score[kind].passed += 1
  else rest.push(`${kind} ${test.id}: ${Array.isArray(result) ? result.join(': ') : 'not run'}`)
}
if (list === '--list') console.log(rest.sort().join('\n'))

let fell = false
for (const line of fs.readFileSync(floorFile, 'utf8').trim().split('\n')) {
  const [kind, floor] = line.split(' ')
  const { passed, of } = score[kind]
  console.log(`${kind}: ${passed} of ${of} (floor ${floor})`)
  fell ||= passed < Number(floor)
}
const { passed, of } = score.check
console.log(`check: yes to ${passed} of ${of}`)
if (fell) {
  console.error('the score has fallen')
  process.exitCode = 1
}
