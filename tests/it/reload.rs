//! Another configuration in the process that runs: every way to ask for it, and what it leaves alone.

use std::fs;
use std::os::unix::fs::symlink;

use crate::harness::{
    Backend, Client, Edge, Jar, Launch, Lively, QUICK, echoes, eventually, shop, upgrade,
};

const ACCEPTED: &str = "homing_config_reloads_total{outcome=\"accepted\"}";
const REFUSED: &str = "homing_config_reloads_total{outcome=\"refused\"}";

/// Reads the file again only when told to.
const TOLD: &str = "server: { threads: 2, grace_period: 5s, watch: off }\n";

/// One backend, and a change that shows: the weight of it.
fn weighed(head: &str) -> (Backend, Edge) {
    let backend = Backend::named("web.1");
    let apps = format!(
        "default_app: shop\napps:\n  - name: shop\n{QUICK}    backends:\n      - {{ id: web.1, address: \"{}\", weight: 1 }}\n",
        backend.address()
    );
    let edge = Edge::start_with(head, &apps);
    (backend, edge)
}

fn weight(edge: &Edge) -> u64 {
    edge.backend_status("web.1")["weight"].as_u64().unwrap()
}

#[test]
fn a_hangup_reloads() {
    let (_backend, edge) = weighed(TOLD);
    edge.rewrite("weight: 1", "weight: 7");
    edge.signal("-HUP");
    edge.counts(ACCEPTED, 1.0);
    assert_eq!((weight(&edge), edge.generation()), (7, 2.0));
}

#[test]
fn the_command_reloads_and_says_which_generation_that_is() {
    let (_backend, edge) = weighed(TOLD);
    edge.rewrite("weight: 1", "weight: 7");
    edge.command(&["reload"]).is_done("generation 2 is accepted");
    assert_eq!((weight(&edge), edge.metric(ACCEPTED)), (7, 1.0));
}

#[test]
fn a_file_that_was_written_in_place_is_read() {
    let (_backend, edge) = weighed("");
    edge.rewrite("weight: 1", "weight: 7");
    edge.counts(ACCEPTED, 1.0);
    assert_eq!(weight(&edge), 7);
}

#[test]
fn a_file_that_was_replaced_by_a_rename_is_read() {
    let (_backend, edge) = weighed("");
    let next = fs::read_to_string(edge.file()).unwrap().replace("weight: 1", "weight: 7");
    let beside = edge.directory().join("next");
    fs::write(&beside, next).unwrap();
    fs::rename(beside, edge.file()).unwrap();
    edge.counts(ACCEPTED, 1.0);
    assert_eq!(weight(&edge), 7);
}

#[test]
fn a_config_map_of_kubernetes_is_read_when_its_link_leads_elsewhere() {
    let backend = Backend::named("web.1");
    let launch = Launch::new("", &shop(QUICK, &[&backend]));
    let at = |name: &str| launch.directory().join(name);
    let (link, data) = (at("homing.yaml"), at("..data"));
    for name in ["..first", "..second"] {
        fs::create_dir(at(name)).unwrap();
    }
    let source = fs::read_to_string(&link).unwrap();
    fs::rename(&link, at("..first/homing.yaml")).unwrap();
    let second = source.replace("name: shop", "name: mall").replace("app: shop", "app: mall");
    fs::write(at("..second/homing.yaml"), second).unwrap();
    symlink("..first", &data).unwrap();
    symlink("..data/homing.yaml", &link).unwrap();
    let next = at("..next");
    symlink("..second", &next).unwrap();
    let edge = launch.start_ready();
    fs::rename(next, data).unwrap();
    edge.counts(ACCEPTED, 1.0);
    assert_eq!(edge.status()["apps"][0]["name"], "mall");
}

#[test]
fn watch_off_leaves_it_to_commands() {
    let (_backend, edge) = weighed(TOLD);
    edge.rewrite("weight: 1", "weight: 7");
    // More than a second goes by.
    let probes = "homing_health_probes_total{app=\"shop\",backend=\"web.1\",result=\"passed\"}";
    let before = edge.metric(probes);
    eventually("time passes", || (edge.metric(probes) >= before + 12.0).then_some(()));
    assert_eq!((weight(&edge), edge.generation()), (1, 1.0));
}

#[test]
fn a_wrong_file_is_refused_whole_with_every_mistake() {
    let (backend, edge) = weighed(TOLD);
    let settings = format!("{QUICK}    timeouts: {{ idle: never }}\n    affinty: off\n");
    edge.rewrite(QUICK, &settings);
    edge.rewrite("weight: 1", "weight: 7");
    let mistakes = ["homing.yaml:", "expected a duration", "unknown key `affinty`"];
    edge.command(&["reload"]).is_refused(2, &mistakes);
    assert_eq!((edge.metric(REFUSED), edge.metric(ACCEPTED)), (1.0, 0.0));
    assert_eq!((weight(&edge), edge.generation()), (1, 1.0));
    eventually("the log says so, too", || {
        let log = edge.log().join("\n");
        let all = ["reload refused, nothing changed"].into_iter().chain(mistakes);
        all.into_iter().all(|part| log.contains(part)).then_some(())
    });
    assert_eq!(edge.get("/").text(), backend.id());
}

#[test]
fn a_wrong_file_that_was_noticed_is_refused_once_and_the_next_one_read() {
    let (_backend, edge) = weighed("");
    edge.rewrite("weight: 1", "weight: heavy");
    edge.counts(REFUSED, 1.0);
    edge.rewrite("weight: heavy", "weight: 7");
    edge.counts(ACCEPTED, 1.0);
    assert_eq!((weight(&edge), edge.metric(REFUSED)), (7, 1.0));
}

#[test]
fn what_needs_a_restart_is_refused_by_name_with_the_command() {
    let (_backend, edge) = weighed(TOLD);
    let before = fs::read_to_string(edge.file()).unwrap();
    let listener = "listeners: [{ address: \"127.0.0.1:0\" }]";
    let two = "listeners: [{ address: \"127.0.0.1:0\" }, { address: \"127.0.0.1:0\" }]";
    for (from, to, name) in [
        (listener, two, "`listeners`"),
        ("admin: { address: \"127.0.0.1:0\"", "admin: { address: \"[::1]:0\"", "`admin.address`"),
        ("threads: 2", "threads: 3", "`server.threads`"),
    ] {
        edge.rewrite(from, to);
        let command = format!("`homing restart -c {}`", edge.file().display());
        edge.command(&["reload"]).is_refused(2, &[name, &command]);
        fs::write(edge.file(), &before).unwrap();
    }
    assert_eq!((edge.metric(REFUSED), edge.generation()), (3.0, 1.0));
}

#[test]
fn another_state_directory_is_refused() {
    let (_backend, edge) = weighed(TOLD);
    edge.rewrite("state_dir: state", "state_dir: elsewhere");
    // The commands would look for it there.
    edge.signal("-HUP");
    edge.counts(REFUSED, 1.0);
    edge.wait_for_log("`state_dir` cannot change while Homing runs");
    assert!(!edge.directory().join("elsewhere").exists());
}

#[test]
fn a_removed_backend_finishes_its_request_and_its_websocket() {
    let (old, new) = (Lively::named("web.1"), Backend::named("web.2"));
    let edge = Edge::start(&shop(QUICK, &[&old.backend]));
    let (mut slow, mut socket) = (edge.client(), edge.client());
    slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("it arrives", || old.backend.requests().pop());
    let pin = upgrade(&mut socket, "").token().unwrap();
    let next = fs::read_to_string(edge.file()).unwrap();
    let next = next.replace("web.1", "web.2");
    let next = next.replace(&old.backend.address().to_string(), &new.address().to_string());
    fs::write(edge.file(), next).unwrap();
    edge.command(&["reload"]).is_done("generation 2");
    edge.wait_for("web.2", "open");
    let moved = edge.client().get("/", &format!("Cookie: {pin}\r\n"));
    assert_eq!(moved.text(), "web.2");
    edge.counts_affinity("moved", "removed", 1.0);
    echoes(&mut socket, "still here");
    old.gate.open();
    assert_eq!(slow.read().text(), "web.1");
    echoes(&mut socket, "and still");
}

#[test]
fn a_changed_address_keeps_pins() {
    let (before, after, other) = (
        Backend::named("web.1"),
        Backend::new("web.1", |_, _| crate::harness::Reply::ok("moved in")),
        Backend::named("web.2"),
    );
    let edge = Edge::start(&shop(QUICK, &[&before]));
    let mut jar = Jar::default();
    jar.get(edge.address(), "/");
    let changed = shop(QUICK, &[&after, &other]);
    let source = fs::read_to_string(edge.file()).unwrap();
    let head = &source[..source.find("default_app").unwrap()];
    fs::write(edge.file(), format!("{head}{changed}")).unwrap();
    edge.command(&["reload"]).is_done("generation 2");
    edge.wait_for("web.1", "open");
    for _ in 0..10 {
        assert_eq!(jar.get(edge.address(), "/").text(), "moved in");
    }
    assert_eq!(edge.affinity("moved", "removed"), 0.0);
    edge.counts_affinity("followed", "", 10.0);
}

#[test]
fn health_and_requests_in_flight_survive() {
    let lively = Lively::named("web.1");
    let patient = QUICK.replace("100ms", "300ms").replace("fall: 1", "fall: 100");
    let edge = Edge::start(&shop(&patient, &[&lively.backend]));
    let mut slow = edge.client();
    slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    let series = "homing_backend_requests_in_flight{app=\"shop\",backend=\"web.1\"}";
    edge.counts(series, 1.0);
    // From here on a first verdict would be a bad one.
    lively.backend.set_healthy(false);
    for weight in 2..12 {
        let (from, to) = (format!(", weight: {}", weight - 1), format!(", weight: {weight} }}"));
        let source = fs::read_to_string(edge.file()).unwrap();
        let plain = source.replace(&format!("{from} }}"), " }");
        let address = format!("\"{}\" }}", lively.backend.address());
        let next = plain.replace(&address, &address.replace(" }", &to));
        fs::write(edge.file(), next).unwrap();
        edge.command(&["reload"]).is_done("is accepted");
        assert_eq!(edge.get("/").status, 200);
        assert_eq!(edge.backend_status("web.1")["admission"], "open");
    }
    assert_eq!(edge.metric(series), 1.0);
    assert_eq!(weight(&edge), 11);
    lively.gate.open();
    assert_eq!(slow.read().status, 200);
    edge.counts(series, 0.0);
    let log = edge.log();
    let reloads = log.iter().skip_while(|line| !line.contains("generation=2"));
    let changes: Vec<_> = reloads.filter(|line| line.contains("backend changed")).collect();
    assert!(changes.is_empty(), "{changes:?}");
}

#[test]
fn a_client_that_is_connected_notices_nothing() {
    let (_backend, edge) = weighed(TOLD);
    let mut client: Client = edge.client();
    let mut jar = Jar::default();
    jar.take(&client.get("/", ""));
    edge.reload_with("weight: 1", "weight: 7");
    let response = client.get("/", &jar.header());
    assert_eq!((response.status, response.header("connection")), (200, Some("keep-alive")));
    edge.counts_affinity("followed", "", 1.0);
}
