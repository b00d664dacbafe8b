// Counts what was passed, and compares it with the floor.
//
//   node score.mjs SUITE_DIRECTORY RESULT_JSON FLOOR [--list | --check]
//
// The README beside this file documents the answer to every "check" test of the suite's repository.
// Where it isn't today's, or there is none, that is said; `--check` prints the tables with today's
// answers, and its reasons.

import fs from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'

const [suite, resultFile, floorFile, wanted] = process.argv.slice(2)
const { default: groups } = await import(pathToFileURL(path.resolve(suite, 'tests/index.mjs')))
const results = JSON.parse(fs.readFileSync(resultFile, 'utf8'))

const score = {}
const rest = []
const checks = []
for (const group of groups) {
  for (const test of group.tests) {
    if (test.browser_only) continue
    const kind = test.kind ?? 'required'
    const result = results[test.id]
    score[kind] ??= { passed: 0, of: 0 }
    score[kind].of += 1
    if (result === true) score[kind].passed += 1
    else rest.push(`${kind} ${test.id}: ${Array.isArray(result) ? result.join(': ') : 'not run'}`)
    if (kind === 'check') checks.push({ group, id: test.id, answer: result === true ? 'yes' : 'no' })
  }
}
if (wanted === '--list') console.log(rest.sort().join('\n'))

// | `id` | yes or no | why |
const documented = new Map()
for (const line of fs.readFileSync(new URL('README.md', import.meta.url), 'utf8').split('\n')) {
  const row = /^\| `([^`]+)` \| (yes|no) \| (.*) \|$/.exec(line)
  if (row) documented.set(row[1], { answer: row[2], why: row[3] })
}
if (wanted === '--check') {
  for (const group of new Set(checks.map(check => check.group))) {
    console.log(`\n### ${group.name}\n\n| test | | why |\n| --- | --- | --- |`)
    for (const { id, answer } of checks.filter(check => check.group === group)) {
      console.log(`| \`${id}\` | ${answer} | ${documented.get(id)?.why ?? ''} |`)
    }
  }
  console.log()
}
// The release asks other questions, some of them under the same names.
const isRepository = fs.existsSync(path.join(suite, 'test-engine'))
for (const { id, answer } of isRepository ? checks : []) {
  const said = documented.get(id)?.answer ?? 'nothing'
  if (said !== answer) console.log(`${id}: the README says ${said}, and the answer is ${answer}`)
}

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
