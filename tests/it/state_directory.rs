//! What is kept between processes, damaged in every way: Homing starts, or says why not and what to do.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use crate::harness::{Backend, Edge, Launch, QUICK, Told, eventually, kill, shell, shop};

/// A directory with a file that makes its key by itself.
fn launch(backend: &Backend) -> Launch {
    Launch::new("# affinity_keys: none, one is made\n", &shop(QUICK, &[backend]))
}

/// A Homing that should end by itself.
struct Running(Option<Child>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ended = child.kill();
            let _reaped = child.wait();
        }
    }
}

fn run(directory: &Path) -> Told {
    let mut command = Command::new(env!("CARGO_BIN_EXE_homing"));
    command.arg("run").arg("-c").arg(directory.join("homing.yaml"));
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut running = Running(child.ok());
    eventually("it ends", || running.0.as_mut().unwrap().try_wait().unwrap());
    running.0.take().unwrap().wait_with_output().unwrap().into()
}

/// It does not start, names this path, and says what to do.
#[track_caller]
fn says_why_not(directory: &Path, path: &Path, said: &[&str]) {
    let told = run(directory);
    let mut parts = vec![path.to_str().unwrap(), "help:"];
    parts.extend(said);
    told.is_refused(1, &parts);
    assert!(!told.err.contains("panicked"), "{told:?}");
}

/// A state directory with everything in it, of a Homing that stopped.
fn used() -> (Backend, Edge) {
    let backend = Backend::named("web.1");
    let mut edge = launch(&backend).start_ready();
    edge.command(&["drain", "shop/web.1", "--deadline", "1h"]).is_done("drain");
    edge.signal("-TERM");
    assert_eq!(edge.wait().code(), Some(0));
    (backend, edge)
}

fn state(edge: &Edge, name: &str) -> PathBuf {
    edge.directory().join("state").join(name)
}

#[test]
fn what_the_operator_wants_cut_anywhere_is_refused() {
    let (_backend, mut edge) = used();
    let path = state(&edge, "administrative.json");
    let whole = fs::read(&path).unwrap();
    let text = whole.trim_ascii_end().len();
    for cut in (0..text).step_by(text / 10) {
        fs::write(&path, &whole[..cut]).unwrap();
        says_why_not(edge.directory(), &path, &["cannot be used", "restore it; or remove it"]);
    }
    fs::write(&path, whole).unwrap();
    edge.start_again();
    assert_eq!(edge.backend_status("web.1")["administrative"], "drain");
}

#[test]
fn what_the_operator_wants_may_be_removed_and_every_backend_is_ready() {
    let (_backend, mut edge) = used();
    fs::remove_file(state(&edge, "administrative.json")).unwrap();
    edge.start_again();
    assert_eq!(edge.backend_status("web.1")["administrative"], "ready");
}

#[test]
fn what_was_accepted_cut_anywhere_is_no_reason_not_to_start() {
    let (_backend, mut edge) = used();
    let path = state(&edge, "accepted.yaml");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    edge.start_again();
    assert_eq!(fs::read(&path).unwrap(), whole, "it is written anew");
    // A worker that takes the place of a killed one has the file to go by.
    for cut in (0..whole.len()).step_by(whole.len() / 10) {
        let worker = edge.worker();
        fs::write(&path, &whole[..cut]).unwrap();
        kill("-KILL", worker);
        eventually("another serves", || {
            let told = edge.command(&["status", "--json"]);
            let status: serde_json::Value = serde_json::from_str(&told.out).ok()?;
            (status["process"] != worker).then_some(())
        });
        let status = edge.status();
        assert_eq!(status["apps"][0]["backends"][0]["administrative"], "drain", "cut at {cut}");
    }
}

#[test]
fn the_key_cut_anywhere_is_refused() {
    let (_backend, mut edge) = used();
    let key = fs::read(state(&edge, "affinity.key")).unwrap();
    let text = key.trim_ascii_end().len();
    let config = fs::read(edge.directory().join("homing.yaml")).unwrap();
    let cuts: Vec<usize> = (0..text).collect();
    thread::scope(|scope| {
        for cuts in cuts.chunks(text.div_ceil(4)) {
            let (key, config) = (&key, &config);
            scope.spawn(move || {
                let directory = crate::harness::scratch();
                let path = directory.path().join("state/affinity.key");
                fs::create_dir(directory.path().join("state")).unwrap();
                fs::write(directory.path().join("homing.yaml"), config).unwrap();
                for cut in cuts {
                    crate::harness::write_key(&path, std::str::from_utf8(&key[..*cut]).unwrap());
                    says_why_not(directory.path(), &path, &[]);
                }
            });
        }
    });
    // Without its last byte, the end of the line, it is whole.
    fs::write(state(&edge, "affinity.key"), &key[..text]).unwrap();
    edge.start_again();
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    let (_backend, edge) = used();
    let path = state(&edge, "affinity.key");
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    says_why_not(edge.directory(), &path, &["chmod"]);
}

#[test]
fn a_directory_in_the_place_of_a_file_is_refused() {
    for name in ["administrative.json", "affinity.key", "lock"] {
        let (_backend, edge) = used();
        let path = state(&edge, name);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let named = if name == "lock" { path.parent().unwrap() } else { &path };
        says_why_not(edge.directory(), named, &["irectory"]);
    }
}

#[test]
fn a_lock_with_anything_in_it_is_taken() {
    let (_backend, mut edge) = used();
    for text in ["", "1", "no process"] {
        fs::write(state(&edge, "lock"), text).unwrap();
        edge.start_again();
        let lock = fs::read_to_string(state(&edge, "lock")).unwrap();
        assert_eq!(lock.trim(), edge.pid().to_string());
        edge.signal("-TERM");
        edge.wait();
    }
}

#[test]
fn a_control_socket_that_a_killed_homing_left_is_replaced() {
    let (_backend, mut edge) = used();
    fs::write(state(&edge, "control.sock"), "").unwrap();
    edge.start_again();
    edge.command(&["status"]).is_done("web.1");
}

#[test]
fn a_state_directory_that_is_none_is_refused() {
    let backend = Backend::named("web.1");
    let launch = launch(&backend);
    let path = launch.directory().join("state");
    fs::write(&path, "").unwrap();
    says_why_not(launch.directory(), &path, &["`state_dir`"]);
}

#[test]
fn a_state_directory_where_nothing_can_be_made_is_refused() {
    let backend = Backend::named("web.1");
    let launch = launch(&backend);
    let file = launch.directory().join("homing.yaml");
    let source = fs::read_to_string(&file).unwrap();
    fs::write(&file, source.replace("state_dir: state", "state_dir: /proc/self/homing")).unwrap();
    says_why_not(launch.directory(), Path::new("/proc/self/homing"), &["`state_dir`"]);
}

/// Root may write everywhere: there this shows nothing.
#[test]
fn a_state_directory_that_is_read_only_is_refused() {
    let (_backend, edge) = used();
    let path = edge.directory().join("state");
    fs::set_permissions(&path, Permissions::from_mode(0o500)).unwrap();
    if fs::write(path.join("root"), "").is_err() {
        says_why_not(edge.directory(), &path, &["`state_dir`"]);
    }
    fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_path_too_long_for_a_socket_is_refused() {
    let backend = Backend::named("web.1");
    let launch = launch(&backend);
    let file = launch.directory().join("homing.yaml");
    let long = "d".repeat(120);
    let source = fs::read_to_string(&file).unwrap();
    fs::write(&file, source.replace("state_dir: state", &format!("state_dir: {long}"))).unwrap();
    says_why_not(launch.directory(), &launch.directory().join(long), &["too long", "`state_dir`"]);
    // The longest that fits is used, by the commands, too.
    let rest = 87 - launch.directory().as_os_str().len() - 1;
    let (fits, over) = ("d".repeat(rest), "d".repeat(rest + 1));
    fs::write(&file, source.replace("state_dir: state", &format!("state_dir: {over}"))).unwrap();
    says_why_not(launch.directory(), &launch.directory().join(over), &["too long: 88 bytes"]);
    fs::write(&file, source.replace("state_dir: state", &format!("state_dir: {fits}"))).unwrap();
    let edge = launch.start_ready();
    edge.command(&["restart"]).is_done("serves");
}

/// No byte can be written to any file: as on a full disk.
#[test]
fn a_disk_that_is_full_lets_no_homing_start_that_has_to_write() {
    let backend = Backend::named("web.1");
    let launch = launch(&backend);
    let file = launch.directory().join("homing.yaml");
    let line = format!("ulimit -f 0; exec {} run -c \"$0\"", env!("CARGO_BIN_EXE_homing"));
    let told = shell(&line, &file);
    told.is_refused(1, &[launch.directory().join("state").to_str().unwrap(), "help:"]);
}

#[test]
fn a_disk_that_is_full_by_now_makes_a_command_fail_and_changes_nothing() {
    let backend = Backend::named("web.1");
    let edge = launch(&backend).start_ready();
    edge.command(&["drain", "shop/web.1"]).is_done("drain");
    let before = fs::read(state(&edge, "administrative.json")).unwrap();
    let worker = edge.worker().to_string();
    let limit = shell("prlimit --fsize=0: --pid \"$0\"", Path::new(&worker));
    assert_eq!(limit.code, Some(0), "{limit:?}");
    edge.command(&["ready", "shop/web.1"])
        .is_refused(1, &["cannot write it down, so nothing changed"]);
    edge.command(&["maintenance", "on", "-a", "shop"]).is_refused(1, &["nothing changed"]);
    assert_eq!(edge.worker().to_string(), worker, "it lives");
    assert_eq!(edge.backend_status("web.1")["administrative"], "drain");
    assert_eq!(edge.status()["apps"][0]["maintenance"], false);
    assert_eq!(fs::read(state(&edge, "administrative.json")).unwrap(), before);
    // A reload needs nothing written.
    edge.command(&["reload"]).is_done("is accepted");
    let unlimited = shell("prlimit --fsize=unlimited: --pid \"$0\"", Path::new(&worker));
    assert_eq!(unlimited.code, Some(0));
    edge.command(&["ready", "shop/web.1"]).is_done("ready");
    let names = fs::read_dir(edge.directory().join("state")).unwrap();
    let left: Vec<_> = names.map(|name| name.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_str().unwrap().starts_with('.')), "{left:?}");
}
