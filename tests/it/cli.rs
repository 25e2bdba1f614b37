//! The commands, as an operator meets them.

use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use crate::harness::{Backend, Edge, QUICK, homing, scratch, shop};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn ends(output: &Output, code: i32) {
    assert_eq!(
        output.status.code(),
        Some(code),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
}

const GOOD: &str = "state_dir: state\nlisteners: [{ address: \"127.0.0.1:0\" }]\nadmin: off\napps:\n  - name: shop\n    domains: [shop.example.com]\n    backends: [{ id: web.1, address: \"127.0.0.1:3001\" }]\n";

#[test]
fn a_good_file_is_answered_with_nothing() {
    let directory = scratch();
    let path = directory.path().join("homing.yaml");
    std::fs::write(&path, GOOD).unwrap();
    let output = homing(&["check", "-c", path.to_str().unwrap()]);
    ends(&output, 0);
    assert!(output.stdout.is_empty() && output.stderr.is_empty());
    assert!(!directory.path().join("state").exists(), "checking makes nothing");
}

#[test]
fn a_wrong_file_is_code_2_and_a_missing_one_too() {
    let directory = scratch();
    let path = directory.path().join("homing.yaml");
    std::fs::write(&path, GOOD.replace("domains", "domain")).unwrap();
    for command in ["check", "run"] {
        let output = homing(&[command, "-c", path.to_str().unwrap()]);
        ends(&output, 2);
        assert!(output.stdout.is_empty());
        assert!(
            text(&output.stderr).contains("did you mean `domains`?"),
            "{}",
            text(&output.stderr)
        );
    }
    let output = homing(&["check", "-c", "/nonexistent.yaml"]);
    ends(&output, 2);
    assert_eq!(
        text(&output.stderr),
        "error: cannot read /nonexistent.yaml: No such file or directory (os error 2)\n"
    );
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let directory = scratch();
    let (path, key) = (directory.path().join("homing.yaml"), directory.path().join("key"));
    std::fs::write(&path, format!("affinity_keys: [{{ file: key }}]\n{GOOD}")).unwrap();
    std::fs::write(&key, "x".repeat(40)).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    let output = homing(&["check", "-c", path.to_str().unwrap()]);
    ends(&output, 2);
    let error = text(&output.stderr);
    assert!(
        error.contains("may be read by others (mode 0640)") && error.contains("help: chmod 600 "),
        "{error}"
    );
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    ends(&homing(&["check", "-c", path.to_str().unwrap()]), 0);
}

#[test]
fn a_port_in_use_is_said_with_a_way_out() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let demo = homing(&["demo", "--address", &address, "--admin", "127.0.0.1:0"]);
    ends(&demo, 1);
    let error = text(&demo.stderr);
    assert!(error.starts_with(&format!("error: cannot listen on {address}: ")), "{error}");
    assert!(error.contains("help: choose other ports: homing demo --address"), "{error}");
    let directory = scratch();
    let path = directory.path().join("homing.yaml");
    std::fs::write(&path, GOOD.replace("127.0.0.1:0", &address)).unwrap();
    let run = homing(&["run", "-c", path.to_str().unwrap()]);
    ends(&run, 1);
    assert!(
        text(&run.stderr).contains("help: another process listens there"),
        "{}",
        text(&run.stderr)
    );
}

#[test]
fn the_demo_shows_the_main_job() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_homing"))
        .args(["demo", "--address", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(demo.stdout.take().unwrap()));
    let first = lines.next().unwrap().unwrap();
    std::thread::spawn(move || lines.for_each(drop));
    let address =
        first.split("http://").nth(1).unwrap().split('/').next().unwrap().parse().unwrap();
    let mut jar = crate::harness::Jar::default();
    let first = jar.get(address, "/").text();
    let home = first.strip_suffix(" remembers visit 1 of yours\n").unwrap().to_owned();
    for visit in 2..6 {
        assert_eq!(
            jar.get(address, "/").text(),
            format!("{home} remembers visit {visit} of yours\n")
        );
    }
    demo.kill().unwrap();
    demo.wait().unwrap();
}

#[test]
fn a_key_is_made_once_and_only_its_owner_may_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let directory = scratch();
    let path = directory.path().join("homing.yaml");
    std::fs::write(&path, GOOD).unwrap();
    let key = directory.path().join("state/affinity.key");
    let mut secrets = Vec::new();
    for _ in 0..2 {
        let mut run = Command::new(env!("CARGO_BIN_EXE_homing"))
            .args(["run", "-c", path.to_str().unwrap()])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        crate::harness::eventually("the key", || key.exists().then_some(()));
        run.kill().unwrap();
        run.wait().unwrap();
        secrets.push(std::fs::read(&key).unwrap());
    }
    assert_eq!(secrets[0], secrets[1]);
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(
        std::fs::metadata(key.parent().unwrap()).unwrap().permissions().mode() & 0o777,
        0o700
    );
}

#[test]
fn a_token_can_be_looked_into() {
    let backend = Backend::named("web.1");
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    let token = edge.get("/").token().unwrap();
    let file = edge.file();
    let file = file.to_str().unwrap();
    let output = homing(&["token", "inspect", "-c", file, &token]);
    ends(&output, 0);
    let said = text(&output.stdout);
    for part in [
        "app          shop",
        "backend      web.1 at 127.0.0.1:",
        "key          ",
        "followed to web.1",
    ] {
        assert!(said.contains(part), "{part} in\n{said}");
    }
    let mut piped = Command::new(env!("CARGO_BIN_EXE_homing"))
        .args(["token", "inspect", "-c", file])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    piped.stdin.take().unwrap().write_all(format!("Cookie: a=1; {token}\n").as_bytes()).unwrap();
    // The same but for the ages, which a busy machine may see grow.
    let timeless = |said: &str| -> Vec<String> {
        said.lines().filter(|line| !line.ends_with(" ago")).map(str::to_owned).collect()
    };
    assert_eq!(timeless(&text(&piped.wait_with_output().unwrap().stdout)), timeless(&said));
    let bad = homing(&["token", "inspect", "-c", file, "web.1"]);
    ends(&bad, 0);
    assert!(text(&bad.stdout).contains("cause malformed"), "{}", text(&bad.stdout));
    ends(&homing(&["token", "inspect", "-c", file, "--app", "nobody", &token]), 2);
}

#[test]
fn help_teaches_and_wrong_usage_is_code_2() {
    let help = homing(&["--help"]);
    ends(&help, 0);
    let said = text(&help.stdout);
    for command in ["check", "completions", "demo", "run", "token"] {
        assert!(said.contains(command), "{command}");
    }
    ends(&homing(&["--version"]), 0);
    ends(&homing(&[]), 2);
    ends(&homing(&["run"]), 2);
    ends(&homing(&["fly"]), 2);
    for shell in ["bash", "zsh", "fish"] {
        let completions = homing(&["completions", shell]);
        ends(&completions, 0);
        assert!(text(&completions.stdout).contains("homing"));
    }
}
