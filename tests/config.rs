//! The configuration: a corpus of broken files with the text each must get, and the files that ship.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use homing::balancer::failure::Failure;
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

/// A fresh checkout leaves the keys readable for all, which is refused.
fn protect_keys() {
    for key in fs::read_dir(Path::new(BROKEN).join("keys")).unwrap() {
        fs::set_permissions(key.unwrap().path(), fs::Permissions::from_mode(0o600)).unwrap();
    }
}

/// `HOMING_BLESS=1 cargo test --test config` writes what is printed; read it before you keep it.
#[test]
fn every_broken_file_gets_the_expected_text() {
    protect_keys();
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
        let path = Path::new(BROKEN).join(name.replace(".yaml", ".expected"));
        if std::env::var_os("HOMING_BLESS").is_some() {
            fs::write(&path, &printed).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        if printed != expected || code != Some(2) {
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
    for file in fs::read_dir("src/config/lower").unwrap() {
        let source = fs::read_to_string(file.unwrap().path()).unwrap();
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

/// A file with these lines at the top, and these in its only app, is accepted.
#[track_caller]
fn accepted(top: &str, app: &str) -> config::Config {
    let file = format!(
        "state_dir: /tmp\n{top}\nlisteners: [{{ address: \"127.0.0.1:80\" }}]\napps:\n- name: shop\n  \
         domains: [shop.example.com]\n{app}\n  backends: [{{ id: web.1, address: \"127.0.0.1:1\" }}]\n"
    );
    config::parse(Path::new("f.yaml"), file).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_switch_may_be_any_word_of_yaml() {
    for word in ["off", "no", "false"] {
        assert_eq!(accepted(&format!("admin: {word}"), "").admin, None, "{word}");
        let log = accepted(&format!("access_log: {word}"), "").access_log;
        assert_eq!(log.format, config::model::LogFormat::Off, "{word}");
        assert_eq!(accepted("", &format!("  affinity: {word}")).apps[0].affinity, None, "{word}");
    }
}

#[test]
fn an_app_that_says_on_keeps_what_the_defaults_say() {
    let idle = |defaults: &str| {
        let config = accepted(&format!("defaults: {{ affinity: {defaults} }}"), "  affinity: on");
        config.apps[0].affinity.as_ref().unwrap().limits.idle.as_secs()
    };
    assert_eq!(idle("{ idle: 10m }"), 600);
    assert_eq!(idle("off"), 86_400);
}

#[test]
fn defaults_may_leave_the_rest_to_the_apps() {
    let config = accepted(
        "defaults: { health: { host: shop.internal }, affinity: { cookie: { path: /shop } } }",
        "  path_prefixes: [/shop]\n  health: { path: /healthz }",
    );
    assert_eq!(&*config.apps[0].affinity.as_ref().unwrap().cookie.path, "/shop");
}

#[test]
fn an_app_has_the_page_of_the_defaults_unless_it_says_otherwise() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("down.html"), "<p>Zurück um acht</p>").unwrap();
    let page = |own: &str| {
        let file = format!(
            "state_dir: /tmp\ndefaults: {{ errors: {{ pages: {{ maintenance: down.html }} }} }}\nlisteners: [{{ address: \"127.0.0.1:80\" }}]\n\
             apps: [{{ name: shop, domains: [a.example], {own} backends: [] }}]\n"
        );
        let config = config::parse(&directory.path().join("f.yaml"), file).unwrap();
        let facts = Failure::Maintenance.facts();
        let pages = config.apps[0].policy.errors.pages.clone();
        pages.of(facts).next().map(|page| page.kept.as_ref().unwrap().fill(facts, "id"))
    };
    assert_eq!(page("").unwrap(), "<p>Zurück um acht</p>");
    assert_eq!(page("errors: { pages: { maintenance: off } },"), None);
    assert_eq!(page("errors: { status: rfc9110 },").unwrap(), "<p>Zurück um acht</p>");
}

#[test]
fn only_so_many_pages_are_fetched() {
    let parsed = |apps: usize| {
        let app = |number| {
            format!(
                "- {{ name: app-{number}, domains: [d{number}.example.com], backends: [], \
                 errors: {{ pages: {{ default: \"http://a.example/{number}\", H12: \"http://a.example/x\" }} }} }}\n"
            )
        };
        let apps: String = (1..=apps).map(app).collect();
        let listeners = "listeners: [{ address: \"127.0.0.1:0\" }]";
        config::parse(Path::new("f.yaml"), format!("state_dir: /tmp\n{listeners}\napps:\n{apps}"))
    };
    assert_eq!(parsed(255).unwrap().apps.len(), 255);
    let error = parsed(256).unwrap_err().to_string();
    assert!(error.contains("expected at most 256 different URLs of pages"), "{error}");
}

#[test]
fn an_alias_stands_for_what_was_written() {
    let config = accepted(
        "server: { threads: &most 10, grace_period: &pause 1m }",
        "  health: { interval: *pause, rise: *most }",
    );
    let health = config.apps[0].policy.health.as_ref().unwrap();
    assert_eq!((health.interval.as_secs(), health.thresholds.rise), (60, 10));
}

#[test]
fn a_table_of_100_000_domains_is_read_and_found() {
    let mut file = String::from(
        "state_dir: /tmp\nlisteners: [{ address: \"127.0.0.1:0\" }]\n\
         defaults: { timeouts: { connect: 2s }, health: { interval: 3s } }\napps:\n",
    );
    for number in 0..100_000 {
        file.push_str(&format!(
            "- {{ name: app-{number}, domains: [d{number}.example.com], health: {{ path: /up }}, backends: [{{ id: web.1, address: \"127.0.0.1:1\" }}] }}\n"
        ));
    }
    let config = config::parse(Path::new("big.yaml"), file).unwrap();
    assert_eq!(config.apps.len(), 100_000);
}

/// The keys of a section of conf/edge.yaml, and what they say there.
fn said(document: &serde_yaml::Value, section: &str) -> Vec<(String, String)> {
    let place = match section {
        "server" => &document["server"],
        section => &document["defaults"][section],
    };
    let text = |value: &serde_yaml::Value| match value.as_u64() {
        Some(number) => number.to_string(),
        None => value.as_str().unwrap().to_owned(),
    };
    match place.as_mapping() {
        Some(keys) => {
            let key = |key: &serde_yaml::Value| format!("{section}.{}", key.as_str().unwrap());
            keys.iter().map(|(name, value)| (key(name), text(value))).collect()
        }
        None => vec![(section.to_owned(), text(place))],
    }
}

#[test]
fn the_page_of_limits_has_the_keys_and_defaults_of_the_long_file() {
    /// Keys of `server` that are no limits of what clients do, or are told on another page.
    const ELSEWHERE: [&str; 4] = ["threads", "grace_period", "restart_grace_period", "watch"];
    let file = fs::read_to_string("conf/edge.yaml").unwrap();
    let document: serde_yaml::Value = serde_yaml::from_str(&file).unwrap();
    let sections = ["server", "timeouts", "backend_h2", "limits", "rate_limit"];
    let mut expected: Vec<_> =
        sections.iter().flat_map(|section| said(&document, section)).collect();
    expected.retain(|(key, _)| ELSEWHERE.iter().all(|name| *key != format!("server.{name}")));
    let page = fs::read_to_string("docs/limits.md").unwrap();
    let cell = |row: &str, index| row.split('|').nth(index).unwrap().trim().replace('`', "");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let mut told: Vec<_> = rows.map(|row| (cell(row, 1), cell(row, 2))).collect();
    expected.sort();
    told.sort();
    assert_eq!(told, expected);
    // What stands there is what holds without it.
    let policy = &accepted("", "").apps[0].policy;
    let limits = file.split("\n  limits:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let timeouts = file.split("\n  timeouts:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let said = accepted("", &format!("  limits:\n{limits}\n  timeouts:\n{timeouts}"));
    assert_eq!(
        (policy.limits, policy.timeouts),
        (said.apps[0].policy.limits, said.apps[0].policy.timeouts)
    );
}
