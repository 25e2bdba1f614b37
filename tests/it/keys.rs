//! Keys are rotated and retired while clients stay where they are.

use serde_json::Value;

use crate::harness::{Backend, Edge, Jar, Launch, QUICK, homing, scratch, shop};

/// An edge with the key that Homing makes, and clients of its two backends.
fn edge() -> ([Backend; 2], Edge, Vec<(Jar, String)>) {
    let backends = ["web.1", "web.2"].map(Backend::named);
    let edge = Launch::with_own_key("", &shop(QUICK, &backends.each_ref())).start_ready();
    let clients = (0..8).map(|_| {
        let mut jar = Jar::default();
        let home = jar.get(edge.address(), "/").text();
        (jar, home)
    });
    let clients = clients.collect();
    (backends, edge, clients)
}

fn keys(edge: &Edge) -> Vec<Value> {
    let told = edge.command(&["keys", "list", "--json"]);
    let answer: Value = serde_json::from_str(&told.out).unwrap();
    answer["keys"].as_array().unwrap().clone()
}

fn all_at_home(edge: &Edge, clients: &mut [(Jar, String)]) {
    for (jar, home) in clients {
        assert_eq!(jar.get(edge.address(), "/").text(), *home);
    }
}

#[test]
fn a_rotation_moves_nobody_and_seals_anew_what_is_used() {
    let (_backends, edge, mut clients) = edge();
    let old = keys(&edge)[0]["id"].as_str().unwrap().to_owned();
    edge.command(&["keys", "rotate"]).is_done("seals from now on");
    let both = keys(&edge);
    assert_eq!((both.len(), both[1]["id"].as_str()), (2, Some(old.as_str())));
    let renewed = clients[0].0.get(edge.address(), "/");
    assert!(renewed.token().is_some(), "sealed anew");
    all_at_home(&edge, &mut clients);
    all_at_home(&edge, &mut clients);
    edge.counts_affinity("followed", "", 17.0);
    let series = format!("homing_affinity_key_opens_total{{key=\"{old}\"}}");
    edge.counts(&series, 8.0);
    edge.command(&["restart"]).is_done("serves");
    edge.counts(&series, 8.0);
    all_at_home(&edge, &mut clients);
}

#[test]
fn a_key_that_clients_may_hold_tokens_under_is_given_up_by_force_only() {
    let (_backends, edge, mut clients) = edge();
    let old = keys(&edge)[0]["id"].as_str().unwrap().to_owned();
    edge.command(&["keys", "retire", &old]).is_refused(2, &["seals: rotate first"]);
    all_at_home(&edge, &mut clients);
    edge.command(&["keys", "rotate"]).is_done("");
    let why = ["clients may hold tokens", "8 requests came with it", "--force"];
    edge.command(&["keys", "retire", &old]).is_refused(2, &why);
    edge.command(&["keys", "retire", "00000000"]).is_refused(2, &["there is no key 00000000"]);
    edge.command(&["keys", "retire", &old, "--force"]).is_done("is retired");
    assert_eq!(keys(&edge).len(), 1);
    let mut seen = 0;
    for (jar, _) in &mut clients {
        seen += u32::from(jar.get(edge.address(), "/").token().is_some());
    }
    assert_eq!(seen, 8, "pinned anew");
    edge.counts_affinity("moved", "unknown_key", 8.0);
}

#[test]
fn listed_keys_are_the_operators_to_change() {
    let backend = Backend::named("web.1");
    let edge = Edge::start(&shop(QUICK, &[&backend]));
    edge.command(&["keys", "rotate"]).is_refused(2, &["listed in `affinity_keys`", "generate"]);
}

#[test]
fn a_key_is_made_in_a_file_of_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let directory = scratch();
    let file = directory.path().join("2026-12");
    let made = homing(&["keys", "generate", file.to_str().unwrap()]);
    assert_eq!(made.status.code(), Some(0));
    assert_eq!(made.stdout.len(), 9, "its id");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let again = homing(&["keys", "generate", file.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(1), "what is there stays");
}
