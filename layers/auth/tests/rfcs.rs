//! Each test that `docs/rfcs.md` names is there.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

/// `file::test` in `tests/`, or a module of `src/` that has tests.
fn is_there(name: &str) -> bool {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: String| fs::read_to_string(root.join(path)).ok();
    let by_file = name.split_once("::").and_then(|(file, test)| {
        let source = read(format!("tests/{file}.rs"))?;
        Some(source.contains(&format!("fn {test}(")))
    });
    let module = || read(format!("src/{}.rs", name.replace("::", "/")));
    by_file.unwrap_or_else(|| module().is_some_and(|source| source.contains("#[test]")))
}

/// What stands between backticks in the last column of the tables.
fn named(table: &str) -> Vec<&str> {
    let rows = table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---"));
    let last = rows.filter_map(|row| row.trim_end_matches([' ', '|']).rsplit('|').next());
    last.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect()
}

#[test]
fn every_test_that_the_table_names_exists() {
    let named = named(include_str!("../docs/rfcs.md"));
    assert!(named.len() > 40, "{}", named.len());
    let missing: Vec<_> = named.into_iter().filter(|name| !is_there(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(!is_there("rfcs::no_such_test") && !is_there("no::such::module"));
}
