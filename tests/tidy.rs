//! What the source must look like, as tests: direction of dependencies, banned words, line width.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::fs;
use std::path::{Path, PathBuf};

/// Longest line, in characters.
const COLUMNS_MAX: usize = 120;

/// Longest file, in lines, tests included. A file that grows beyond has two subjects.
const LINES_MAX: usize = 600;

/// Module → words its files must not contain, outside comments and tests.
const FORBIDDEN: &[(&str, &[&str])] = &[
    (
        "src/balancer",
        &[
            "pingora",
            "tokio",
            "Instant::now",
            "SystemTime::now",
            "rand::rng",
            "rand::random",
            "std::fs",
            "std::thread",
            "std::env",
            "crate::acme",
            "crate::admin",
            "crate::app",
            "crate::cli",
            "crate::config",
            "crate::health",
            "crate::issued",
            "crate::proxy",
            "crate::shared",
            "crate::telemetry",
        ],
    ),
    (
        "src/wire",
        &["pingora", "tokio", "std::fs", "std::thread", "Instant::now", "rand::", "crate::"],
    ),
    (
        "src/config",
        &[
            "pingora",
            "tokio",
            "crate::admin",
            "crate::app",
            "crate::cli",
            "crate::health",
            "crate::proxy",
            "crate::shared",
            "crate::telemetry",
        ],
    ),
    (
        "src/tls",
        &[
            "pingora",
            "tokio",
            "Instant::now",
            "SystemTime::now",
            "UnixTime::now",
            "std::fs",
            "std::thread",
            "std::env",
            "crate::admin",
            "crate::app",
            "crate::cli",
            "crate::config",
            "crate::health",
            "crate::proxy",
            "crate::shared",
            "crate::supervisor",
            "crate::telemetry",
        ],
    ),
    (
        "src/telemetry",
        &[
            "pingora::",
            "crate::acme",
            "crate::admin",
            "crate::app",
            "crate::cli",
            "crate::health",
            "crate::proxy",
        ],
    ),
    (
        "src/shared.rs",
        &[
            "pingora",
            "crate::admin",
            "crate::app",
            "crate::config",
            "crate::health",
            "crate::proxy",
        ],
    ),
    (
        "src/supervisor",
        &[
            "pingora",
            "tokio",
            "std::thread",
            "crate::admin",
            "crate::app",
            "crate::balancer",
            "crate::cli",
            "crate::config",
            "crate::health",
            "crate::proxy",
            "crate::telemetry",
        ],
    ),
    (
        "src/outbound.rs",
        &[
            "crate::admin",
            "crate::app",
            "crate::balancer",
            "crate::cli",
            "crate::config",
            "crate::health",
            "crate::proxy",
            "crate::shared",
            "crate::supervisor",
            "crate::telemetry",
        ],
    ),
    (
        "src/proxy",
        &[
            "crate::acme",
            "crate::admin",
            "crate::app",
            "crate::cli",
            "crate::health",
            "crate::supervisor",
        ],
    ),
    (
        "src/health",
        &["crate::acme", "crate::admin", "crate::app", "crate::cli", "crate::supervisor"],
    ),
    (
        "src/acme",
        &[
            "pingora",
            "crate::admin",
            "crate::app",
            "crate::cli",
            "crate::health",
            "crate::proxy",
            "crate::supervisor",
        ],
    ),
    (
        "src/issued.rs",
        &[
            "pingora",
            "tokio",
            "std::fs",
            "crate::acme",
            "crate::admin",
            "crate::app",
            "crate::balancer",
            "crate::cli",
            "crate::config",
            "crate::health",
            "crate::outbound",
            "crate::proxy",
            "crate::shared",
            "crate::supervisor",
            "crate::telemetry",
        ],
    ),
    (
        "src/admin",
        &[
            "crate::acme",
            "crate::app",
            "crate::cli",
            "crate::health",
            "crate::proxy",
            "crate::supervisor",
        ],
    ),
    ("src/app", &["crate::cli"]),
];

/// Words that are banned everywhere, with what to use.
const BANNED: &[(&str, &str)] = &[
    ("todo!(", "an issue"),
    ("unimplemented!(", "an issue"),
    ("#[allow(", "#[expect(…, reason = \"…\")]"),
    ("Manager", "a noun of the glossary"),
];

fn files(directory: &str, extension: &str) -> Vec<PathBuf> {
    fn walk(directory: &Path, extension: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, extension, found);
            } else if path.extension().is_some_and(|own| own == extension) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    if Path::new(directory).is_dir() {
        walk(Path::new(directory), extension, &mut found);
    } else {
        found.push(directory.into());
    }
    found.sort();
    found
}

/// The lines of a file before its tests, with their numbers, comments taken off. A file of tests has none.
fn code(path: &Path) -> Vec<(usize, String)> {
    if path.to_string_lossy().ends_with("tests.rs") {
        return Vec::new();
    }
    let source = fs::read_to_string(path).unwrap();
    let lines = source.lines().take_while(|line| !line.starts_with("#[cfg(test)]"));
    let bare = lines.map(|line| line.split("//").next().unwrap_or("").to_owned());
    (1..).zip(bare).collect()
}

#[test]
fn modules_name_only_what_lies_below_them() {
    let mut broken = Vec::new();
    for (module, words) in FORBIDDEN {
        for path in files(module, "rs") {
            for (number, line) in code(&path) {
                for word in words.iter().filter(|word| line.contains(**word)) {
                    broken.push(format!(
                        "{}:{number}: `{module}` must not name `{word}`",
                        path.display()
                    ));
                }
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn nothing_banned_is_used() {
    let mut broken = Vec::new();
    for path in files("src", "rs") {
        for (number, line) in code(&path) {
            for (word, instead) in BANNED.iter().filter(|(word, _)| line.contains(word)) {
                broken.push(format!(
                    "{}:{number}: `{word}` is banned, use {instead}",
                    path.display()
                ));
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn lines_and_files_fit_a_reader() {
    let mut broken = Vec::new();
    for path in ["src", "tests", "benches"].iter().flat_map(|directory| files(directory, "rs")) {
        let source = fs::read_to_string(&path).unwrap();
        for (number, line) in (1..).zip(source.lines()) {
            // A string of expected text may be longer than a line should be.
            if line.chars().count() > COLUMNS_MAX && !line.contains('"') {
                broken.push(format!(
                    "{}:{number}: longer than {COLUMNS_MAX} columns",
                    path.display()
                ));
            }
        }
        let lines = source.lines().count();
        if lines > LINES_MAX {
            broken.push(format!("{}: {lines} lines, more than {LINES_MAX}", path.display()));
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for() {
    for path in ["src", "tests/it"].iter().flat_map(|directory| files(directory, "rs")) {
        let source = fs::read_to_string(&path).unwrap();
        assert!(
            source.starts_with("//! "),
            "{} begins without a word on its purpose",
            path.display()
        );
    }
}

#[test]
fn the_documents_are_there_and_name_files_that_exist() {
    for name in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        let text = fs::read_to_string(name).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap_or("");
            let outside = path.is_empty() || path.contains("://");
            assert!(
                outside || Path::new(path).exists(),
                "{name} links to {path}, which does not exist"
            );
        }
    }
}

#[test]
fn every_cause_is_reached_by_a_test_and_explained_to_users() {
    let pages: String =
        files("tests/it", "rs").iter().map(|page| fs::read_to_string(page).unwrap()).collect();
    let readme = fs::read_to_string("README.md").unwrap();
    for cause in homing::balancer::assign::Cause::ALL {
        let cause = cause.as_str();
        assert!(pages.contains(&format!("\"{cause}\"")), "no end-to-end test reaches `{cause}`");
        assert!(readme.contains(&format!("`{cause}`")), "README does not say what `{cause}` is");
    }
}

#[test]
fn every_fault_of_a_request_is_seen_on_the_wire_and_explained() {
    let tests = fs::read_to_string("tests/it/validation.rs").unwrap();
    let page = fs::read_to_string("docs/validation.md").unwrap();
    let seen_by_status =
        ["target too long", "field too long", "too many fields", "head too long", "head too slow"];
    for fault in homing::wire::fault::Fault::ALL {
        let words = fault.as_str();
        let is_seen = tests.contains(&format!("\"{words}\"")) || seen_by_status.contains(&words);
        assert!(is_seen, "no test on the wire for `{words}`");
        assert!(page.contains(&format!("`{words}`")), "docs/validation.md lacks `{words}`");
    }
}

#[test]
fn the_fields_of_the_access_log_are_those_of_its_page() {
    let source = fs::read_to_string("src/telemetry/access_log.rs").unwrap();
    let body = source.split("struct Line<'r> {").nth(1).unwrap().split("\n}").next().unwrap();
    let written: Vec<&str> = body
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| line.split(':').next().unwrap())
        .collect();
    let page = fs::read_to_string("docs/access-log.md").unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let names = rows.flat_map(|row| row.split('|').nth(1).unwrap().split(','));
    let told: Vec<&str> = names.map(|name| name.trim().trim_matches('`')).collect();
    assert_eq!(written, told);
}

/// `HOMING_BLESS=1 cargo test --test tidy` writes the page; read it before you keep it.
#[test]
fn the_page_of_failures_is_what_the_program_says() {
    const PAGE: &str = "docs/failures.md";
    let homing = std::process::Command::new(env!("CARGO_BIN_EXE_homing"));
    let told = { homing }.arg("failures").output().unwrap().stdout;
    let told = String::from_utf8(told).unwrap();
    if std::env::var_os("HOMING_BLESS").is_some() {
        fs::write(PAGE, &told).unwrap();
    }
    assert_eq!(fs::read_to_string(PAGE).unwrap(), told);
    let rows = told.lines().filter(|line| line.starts_with("| H") || line.starts_with("| N"));
    assert_eq!(rows.count(), homing::balancer::failure::Failure::ALL.len());
}
