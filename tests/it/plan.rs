//! What a file would change, said before it does.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::harness::{Backend, Edge, Jar, Lively, QUICK, Told, homing, shop, upgrade};

/// A running edge, and a file beside its own.
struct Planned {
    edge: Edge,
    next: PathBuf,
}

impl Planned {
    fn of(backends: &[&Backend]) -> Self {
        let server = "server: { threads: 2, grace_period: 5s, watch: off }\n";
        let edge = Edge::start_with(server, &shop(QUICK, backends));
        let next = edge.directory().join("next.yaml");
        fs::copy(edge.file(), &next).unwrap();
        Self { edge, next }
    }

    #[track_caller]
    fn change(&self, from: &str, to: &str) {
        let source = fs::read_to_string(&self.next).unwrap();
        assert!(source.contains(from), "{source}");
        fs::write(&self.next, source.replace(from, to)).unwrap();
    }

    fn plan(&self, more: &[&str]) -> Told {
        let mut words = vec!["plan", "-c", self.next.to_str().unwrap()];
        words.extend(more);
        homing(&words).into()
    }
}

impl Drop for Planned {
    /// Whatever was planned: nothing changed.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!((self.edge.generation(), self.edge.get("/").status), (1.0, 200));
            assert_eq!(self.edge.metric("homing_config_reloads_total{outcome=\"refused\"}"), 0.0);
        }
    }
}

#[test]
fn nothing_changes() {
    let backend = Backend::named("web.1");
    Planned::of(&[&backend]).plan(&[]).is_done("nothing changes");
}

#[test]
fn what_moves_nobody_is_harmless() {
    let (a, b) = (Backend::named("web.1"), Backend::named("web.2"));
    let planned = Planned::of(&[&a]);
    Jar::default().get(planned.edge.address(), "/");
    let line = format!("    backends:\n      - {{ id: web.2, address: \"{}\" }}\n", b.address());
    planned.change("    backends:\n", &line);
    let told = planned.plan(&[]);
    told.is_done("+ shop/web.2");
    told.is_done("1 backend joins, no client moves; no restart needed.");
}

#[test]
fn what_moves_clients_says_how_many_and_what_finishes_first() {
    let (a, b) = (Lively::named("web.1"), Backend::named("web.2"));
    let planned = Planned::of(&[&a.backend]);
    let mut socket = planned.edge.client();
    upgrade(&mut socket, "");
    for _ in 0..2 {
        Jar::default().get(planned.edge.address(), "/");
    }
    planned.edge.counts("homing_backend_bound_clients{app=\"shop\",backend=\"web.1\"}", 3.0);
    planned.change("web.1", "web.2");
    planned.change(&a.backend.address().to_string(), &b.address().to_string());
    let told = planned.plan(&[]);
    assert_eq!(told.code, Some(3), "{told:?}");
    for part in ["- shop/web.1", "+ shop/web.2", "about 3 clients move", "1 stream finishes first"]
    {
        assert!(told.out.contains(part), "{part}: {}", told.out);
    }
    let told = planned.plan(&["--json"]);
    assert_eq!(told.code, Some(3));
    let plan: Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!((plan["bound_clients"].as_u64(), plan["streams"].as_u64()), (Some(3), Some(1)));
    assert_eq!(
        (plan["joining"]["backends"].as_u64(), plan["leaving"]["backends"].as_u64()),
        (Some(1), Some(1))
    );
    let removed = plan["lines"].as_array().unwrap().iter().find(|line| line["backend"] == "web.1");
    assert_eq!(removed.unwrap()["moves_pins"], true);
}

#[test]
fn what_needs_a_restart_is_named() {
    let backend = Backend::named("web.1");
    let planned = Planned::of(&[&backend]);
    planned.change("threads: 2", "threads: 3");
    planned.change(
        "listeners: [{ address: \"127.0.0.1:0\" }]",
        "listeners: [{ address: \"127.0.0.1:0\" }, { address: \"127.0.0.1:0\" }]",
    );
    let told = planned.plan(&[]);
    assert_eq!(told.code, Some(4), "{told:?}");
    assert!(told.out.contains("a restart is needed for listeners, server.threads."), "{told:?}");
    let plan: Value = serde_json::from_str(&planned.plan(&["--json"]).out).unwrap();
    assert_eq!(plan["needs_restart"], serde_json::json!(["listeners", "server.threads"]));
}

#[test]
fn what_belongs_to_no_app_is_told_by_plan_and_by_reload() {
    let backend = Backend::named("web.1");
    let planned = Planned::of(&[&backend]);
    let more = "watch: off, connections: 500 }\ntrusted_proxies: [10.0.0.0/8]";
    planned.change("watch: off }", more);
    let told = planned.plan(&[]);
    let changes = ["server.connections auto -> 500", "trusted_proxies [] -> [10.0.0.0/8]"];
    for change in changes {
        told.is_done(&format!("~ *  {change}\n"));
    }
    told.is_done("no client moves; no restart needed.");
    let edge = Edge::start_with("server: { watch: off }\n", &shop(QUICK, &[&backend]));
    edge.rewrite("watch: off }", more);
    let told = edge.command(&["reload"]);
    told.is_done("generation 2 is accepted\n");
    changes.iter().for_each(|change| told.is_done(&format!("\n~ {change}\n")));
    edge.command(&["reload"]).is_done("generation 3 is accepted\n");
}

#[test]
fn every_mistake_is_told() {
    let backend = Backend::named("web.1");
    let planned = Planned::of(&[&backend]);
    planned.change(QUICK, &format!("{QUICK}    timeouts: {{ idle: never }}\n    affinty: off\n"));
    planned
        .plan(&[])
        .is_refused(2, &["next.yaml:", "expected a duration", "unknown key `affinty`"]);
}

#[test]
fn another_state_directory_is_another_homing() {
    let backend = Backend::named("web.1");
    let planned = Planned::of(&[&backend]);
    planned.change("state_dir: state", "state_dir: elsewhere");
    planned.plan(&[]).is_refused(1, &["cannot reach Homing at", "elsewhere", "is Homing running"]);
}
