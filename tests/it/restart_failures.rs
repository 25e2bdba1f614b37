//! Restarts that cannot succeed, that meet others, and processes that are killed.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::thread;

use crate::harness::{
    Backend, Edge, Jar, Launch, QUICK, Told, eventually, install, is_refused, kill, shop,
};

const FAILED: &str = "homing_restarts_total{outcome=\"failed\"}";

/// Serves nothing until the file `go` is there.
const HELD: &str = "left=1500\nwhile [ ! -e \"${0%/*}/go\" ] && [ $left -gt 0 ]; do left=$((left - 1)); sleep 0.02; done\n[ $left -gt 0 ] && exec $HOMING \"$@\"";

fn replaceable(arguments: &[&str]) -> (Backend, Edge) {
    let backend = Backend::named("web.1");
    let edge =
        Launch::new("", &shop(QUICK, &[&backend])).replaceable().with(arguments).start_ready();
    (backend, edge)
}

fn go(edge: &Edge) {
    fs::write(edge.directory().join("go"), "").unwrap();
}

/// A restart fails in these words, and nothing changed.
#[track_caller]
fn fails(edge: &Edge, said: &[&str]) {
    let (worker, mut jar) = (edge.worker(), Jar::default());
    jar.get(edge.address(), "/");
    let before = edge.metric(FAILED);
    edge.command(&["restart"]).is_refused(1, said);
    assert_eq!(edge.worker(), worker);
    edge.counts(FAILED, before + 1.0);
    let log = edge.log().join("\n");
    said.iter().for_each(|part| assert!(log.contains(part), "{part}: {log}"));
    jar.get(edge.address(), "/");
    eventually("its pin is followed", || (edge.affinity("followed", "") > 0.5).then_some(()));
}

#[test]
fn a_wrong_file_changes_nothing_and_every_mistake_is_told() {
    let (_backend, edge) = replaceable(&[]);
    edge.rewrite(QUICK, &format!("{QUICK}    timeouts: {{ idle: never }}\n    affinty: off\n"));
    fails(&edge, &["homing.yaml:", "expected a duration", "unknown key `affinty`"]);
    edge.rewrite("    timeouts: { idle: never }\n    affinty: off\n", "");
    edge.command(&["restart"]).is_done("serves");
}

#[test]
fn a_port_that_is_taken_changes_nothing() {
    let (_backend, edge) = replaceable(&[]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _other = TcpListener::bind(taken).unwrap();
    let listeners = "listeners: [{ address: \"127.0.0.1:0\" }";
    edge.rewrite(listeners, &format!("{listeners}, {{ address: \"{taken}\" }}"));
    fails(&edge, &[&format!("cannot listen on {taken}"), "another process listens there"]);
}

#[test]
fn a_key_that_cannot_be_read_changes_nothing() {
    let (_backend, edge) = replaceable(&[]);
    edge.rewrite("{ file: key }", "{ file: gone }");
    fails(&edge, &["gone"]);
}

#[test]
fn a_program_that_is_none_changes_nothing() {
    let (_backend, edge) = replaceable(&[]);
    let junk = edge.directory().join("junk");
    fs::write(&junk, b"\x7fELF and so on").unwrap();
    fs::rename(junk, edge.program()).unwrap();
    fails(&edge, &["cannot run", edge.program().to_str().unwrap()]);
}

#[test]
fn a_program_that_ends_changes_nothing() {
    let (_backend, edge) = replaceable(&[]);
    install(&edge, "exit 7");
    fails(&edge, &["the worker ended before it served (exit status: 7)"]);
}

#[test]
fn a_program_that_hangs_changes_nothing() {
    let (_backend, edge) = replaceable(&["--start-limit", "2s"]);
    install(&edge, "exec sleep 60");
    fails(&edge, &["the worker did not serve within 2s"]);
}

#[test]
fn of_two_restarts_at_once_the_second_is_refused() {
    let (_backend, edge) = replaceable(&[]);
    install(&edge, HELD);
    thread::scope(|scope| {
        let first = scope.spawn(|| edge.command(&["restart"]));
        edge.wait_for_log(" restarting");
        edge.command(&["restart"]).is_refused(1, &["a restart is under way already"]);
        go(&edge);
        first.join().unwrap().is_done("serves");
    });
}

#[test]
fn a_reload_during_a_restart_is_answered() {
    let (_backend, edge) = replaceable(&[]);
    install(&edge, HELD);
    thread::scope(|scope| {
        let restart = scope.spawn(|| edge.command(&["restart"]));
        edge.wait_for_log(" restarting");
        edge.rewrite(
            "apps:\n  - name: shop\n",
            "apps:\n  - name: shop\n    domains: [a.example]\n",
        );
        edge.command(&["reload"]).is_done("is accepted");
        go(&edge);
        restart.join().unwrap().is_done("serves");
    });
    assert_eq!(edge.status()["apps"][0]["domains"][0], "a.example");
}

/// A change that came between would be lost: it waits for the successor.
#[test]
fn a_command_during_the_handing_over_is_done_by_the_successor() {
    let (_backend, edge) = replaceable(&[]);
    let before = edge.worker();
    // A backend that answers no probe keeps the successor for the time that a probe may take.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let line = format!(
        "    backends:\n      - {{ id: web.2, address: \"{}\" }}\n",
        silent.local_addr().unwrap()
    );
    thread::scope(|scope| {
        // Watched files are read by the one that runs, too: that one must not know web.2.
        edge.rewrite("grace_period: 5s", "grace_period: 5s, watch: off");
        edge.command(&["reload"]).is_done("is accepted");
        edge.rewrite("    backends:\n", &line);
        let restart = scope.spawn(|| edge.command(&["restart"]));
        let _probe = silent.accept().unwrap();
        let drain = edge.command(&["drain", "shop/web.1"]);
        drain.is_done("drain");
        restart.join().unwrap().is_done("serves");
    });
    assert_ne!(edge.worker(), before);
    assert_eq!(edge.backend_status("web.1")["administrative"], "drain");
    assert_eq!(edge.backend_status("web.1")["admission"], "pinned_only");
}

#[test]
fn a_worker_that_was_killed_is_replaced_with_what_was_accepted_last() {
    let backend = Backend::named("web.1");
    let edge = Edge::start_with(
        "server: { threads: 2, watch: off }\n",
        &shop(&format!("    domains: [a.example]\n{QUICK}"), &[&backend]),
    );
    edge.reload_with("a.example", "b.example");
    edge.command(&["drain", "shop/web.1"]).is_done("drain");
    edge.rewrite("b.example", "no domain at all");
    let (killed, mut jar) = (edge.worker(), Jar::default());
    kill("-KILL", killed);
    // Nobody is refused meanwhile.
    assert_eq!(jar.get(edge.address(), "/").status, 503);
    let after = eventually("another serves", || {
        let told = edge.command(&["status", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&told.out).ok()?;
        (status["process"] != killed).then_some(status)
    });
    assert_eq!(after["apps"][0]["domains"][0], "b.example");
    assert_eq!(after["apps"][0]["backends"][0]["administrative"], "drain");
    edge.counts("homing_worker_crashes_total", 1.0);
    // What is in the file is still told.
    edge.command(&["reload"]).is_refused(2, &["no domain at all"]);
}

#[test]
fn clients_that_come_while_no_worker_runs_are_served_by_the_next() {
    let (_backend, edge) = replaceable(&[]);
    install(&edge, HELD);
    let worker = edge.worker();
    kill("-KILL", worker);
    edge.wait_for_log("starting another");
    let mut client = edge.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let told: Told = edge.command(&["status"]);
    told.is_refused(1, &["no worker runs"]);
    go(&edge);
    assert_eq!(client.read().text(), "web.1");
}

#[test]
fn a_worker_ends_with_its_supervisor_and_the_port_is_free_again() {
    let (_backend, mut edge) = replaceable(&[]);
    let worker = edge.worker();
    edge.signal("-KILL");
    edge.wait();
    eventually("the worker ends", || {
        (!Path::new(&format!("/proc/{worker}")).exists()).then_some(())
    });
    assert!(is_refused(edge.address()));
    TcpListener::bind(edge.address()).unwrap();
    // What it left behind is in nobody's way.
    edge.command(&["status"]).is_refused(1, &["cannot reach Homing"]);
}

/// Whoever waits for the restart is told that there will be none.
#[test]
fn a_worker_ends_with_its_supervisor_during_a_restart_too() {
    let backend = Backend::named("web.1");
    let server = "server: { threads: 2, grace_period: 1s }\n";
    let mut edge = Launch::new(server, &shop(QUICK, &[&backend])).replaceable().start_ready();
    install(&edge, HELD);
    let worker = edge.worker();
    thread::scope(|scope| {
        let restart = scope.spawn(|| edge.command(&["restart"]));
        edge.wait_for_log(" restarting");
        edge.signal("-KILL");
        let end = || (!Path::new(&format!("/proc/{worker}")).exists()).then_some(());
        eventually("the worker ends", end);
        restart.join().unwrap().is_refused(1, &["Homing is stopping"]);
        // The successor finds nobody.
        go(&edge);
    });
    edge.wait();
}

#[test]
fn a_stop_during_a_restart_ends_everything() {
    let (_backend, mut edge) = replaceable(&[]);
    install(&edge, &format!("echo $$ > \"${{0%/*}}/pid\"\n{HELD}"));
    let worker = edge.worker();
    thread::scope(|scope| {
        let restart = scope.spawn(|| edge.command(&["restart"]));
        let pid = edge.directory().join("pid");
        let successor = eventually("the successor runs", || {
            fs::read_to_string(&pid).ok().filter(|pid| pid.ends_with('\n'))
        });
        edge.signal("-TERM");
        let told = restart.join().unwrap();
        assert_eq!(told.code, Some(1), "{told:?}");
        for process in [successor.trim().to_owned(), worker.to_string()] {
            let at = format!("/proc/{process}/exe");
            eventually("it ends", || fs::read_link(&at).err());
        }
    });
    assert_eq!(edge.wait().code(), Some(0));
}
