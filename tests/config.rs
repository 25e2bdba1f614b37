//! The configuration: a corpus of broken files with the text each must get, and the files that ship.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::fs;
use std::path::Path;
use std::process::Command;

use homing::config;

const BROKEN: &str = "tests/config/err";

fn check(directory: &str, file: &str) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_homing"))
        .args(["check", "-c", file])
        .current_dir(directory)
        .env("HOME", "/nonexistent")
        .env_remove("STATE_DIRECTORY")
        .output()
        .unwrap();
    assert!(output.stdout.is_empty(), "{file}: nothing is answered on standard output");
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// `HOMING_BLESS=1 cargo test --test config` writes what is printed; read it before you keep it.
#[test]
fn every_broken_file_gets_the_expected_text() {
    let mut names: Vec<String> = fs::read_dir(BROKEN)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".yaml"))
        .collect();
    names.sort();
    assert!(names.len() >= 30, "{} files", names.len());
    let mut wrong = Vec::new();
    for name in names {
        let (code, printed) = check(BROKEN, &name);
        assert_eq!(code, Some(2), "{name}: {printed}");
        let path = Path::new(BROKEN).join(name.replace(".yaml", ".expected"));
        if std::env::var_os("HOMING_BLESS").is_some() {
            fs::write(&path, &printed).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        if printed != expected {
            wrong.push(format!("--- {name}, expected:\n{expected}--- printed:\n{printed}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_files_that_ship_are_accepted() {
    for name in ["minimal.yaml", "edge.yaml"] {
        let (code, printed) = check("conf", name);
        assert_eq!((code, printed.as_str()), (Some(0), ""), "{name}");
    }
}

/// Every key that the source reads, by section.
fn keys_of_the_source() -> Vec<String> {
    let mut keys = Vec::new();
    for name in ["mod.rs", "affinity.rs", "app.rs"] {
        let source = fs::read_to_string(Path::new("src/config/lower").join(name)).unwrap();
        for call in ["optional(\"", "required(\""] {
            keys.extend(
                source
                    .split(call)
                    .skip(1)
                    .filter_map(|rest| rest.split('"').next())
                    .map(str::to_owned),
            );
        }
        // Keys that are read in a loop stand at the beginning of a line of their own.
        let looped = source
            .lines()
            .filter_map(|line| line.trim().strip_prefix("(\"")?.split_once("\", &mut "));
        keys.extend(looped.map(|(key, _)| key.to_owned()));
    }
    keys.sort();
    keys.dedup();
    keys
}

#[test]
fn the_long_file_shows_every_key() {
    let shown = fs::read_to_string("conf/edge.yaml").unwrap();
    let keys = keys_of_the_source();
    assert!(keys.len() > 40, "{keys:?}");
    let is_shown = |key: &String| {
        shown.match_indices(&format!("{key}:")).any(|(place, _)| {
            let before = shown[..place].chars().next_back();
            before.is_none_or(|before| !before.is_alphanumeric() && before != '_')
        })
    };
    let missing: Vec<_> = keys.iter().filter(|key| !is_shown(key)).collect();
    assert!(missing.is_empty(), "conf/edge.yaml does not show {missing:?}");
}

#[test]
fn the_smallest_file_of_the_readme_is_the_one_that_ships() {
    let readme = fs::read_to_string("README.md").unwrap();
    let minimal = fs::read_to_string("conf/minimal.yaml").unwrap();
    let bare: String = minimal
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| format!("{line}\n"))
        .collect();
    assert!(readme.contains(bare.trim()), "README.md does not show conf/minimal.yaml");
}

#[test]
fn a_table_of_100_000_domains_is_read_and_found() {
    let mut file =
        String::from("state_dir: /tmp\nlisteners: [{ address: \"127.0.0.1:0\" }]\napps:\n");
    for number in 0..100_000 {
        file.push_str(&format!(
            "- {{ name: app-{number}, domains: [d{number}.example.com], backends: [{{ id: web.1, address: \"127.0.0.1:1\" }}] }}\n"
        ));
    }
    let config = config::parse(Path::new("big.yaml"), file).unwrap();
    assert_eq!(config.apps.len(), 100_000);
}
