//! The page that lists the cases, held against the tests.

use std::collections::BTreeSet;
use std::fs;

/// What holds the tests together, and is no group of them.
const OTHERS: [&str; 3] = ["main", "page", "wire"];

/// The names of the tests, as `group::case`.
fn tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in fs::read_dir("tests/router").unwrap() {
        let path = file.unwrap().path();
        let group = path.file_stem().unwrap().to_str().unwrap();
        if OTHERS.contains(&group) {
            continue;
        }
        let source = fs::read_to_string(&path).unwrap();
        let found = source.split("#[test]\nfn ").skip(1);
        names.extend(found.map(|rest| format!("{group}::{}", rest.split('(').next().unwrap())));
    }
    names
}

/// The names in the first column of the tables, and what the second says.
fn rows(page: &str) -> Vec<(String, String)> {
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let mut cells = row.trim_matches('|').split('|').map(str::trim);
        let name = cells.next().unwrap().trim_matches('`').to_owned();
        (name, cells.next().unwrap().to_owned())
    })
    .collect()
}

#[test]
fn every_case_on_the_page_has_a_test_and_the_other_way_round() {
    let page = fs::read_to_string("docs/heroku-router.md").unwrap();
    let rows = rows(&page);
    let told: BTreeSet<String> = rows.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(told.len(), rows.len(), "a case stands twice on the page");
    let tests = tests();
    let missing: Vec<_> = tests.difference(&told).collect();
    let untested: Vec<_> = told.difference(&tests).collect();
    assert!(
        missing.is_empty() && untested.is_empty(),
        "not told: {missing:?}, not tested: {untested:?}"
    );
    for (name, said) in rows {
        assert!(said == "same" || said.len() > 10, "{name}: neither `same` nor a reason: {said}");
    }
}
