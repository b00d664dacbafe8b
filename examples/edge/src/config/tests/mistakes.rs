//! Mistakes, and what is said of each: `cases.txt` has files, and behind the line of dashes what
//! comes of them.

use super::*;

#[tokio::test]
async fn each_mistake_is_told_where_it_is_and_what_would_be_right() {
    let cases = include_str!("cases.txt");
    let mut said = Vec::new();
    for case in cases.trim_end().split("\n\n====\n\n") {
        let (source, expected) = case.split_once("\n----\n").unwrap_or((case, ""));
        let error = match parse(source) {
            Ok(_) => "nothing".to_owned(),
            Err(error) => error.to_string(),
        };
        said.push((format!("{source}\n----\n{error}"), error == expected));
    }
    let is_right = said.iter().all(|(_, is_right)| *is_right);
    let said: Vec<_> = said.into_iter().map(|(said, _)| said).collect();
    // So that it can be compared, and taken over if it is right.
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/tests/cases.txt");
    if !is_right && std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, format!("{}\n", said.join("\n\n====\n\n"))).unwrap();
    }
    assert!(is_right, "run with UPDATE=1, and look at the difference in {path}");
}
