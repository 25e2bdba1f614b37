//! Backends that are killed, frozen, slow, that hang up, reset and talk nonsense.

use std::collections::BTreeMap;

use crate::harness::{Edge, eventually};
use crate::load::{Faults, Load, labels};
use crate::site::{FROZEN, GOOD, KILLED, Site, memory};
use crate::{full, tell, turn};

/// How much more memory may be taken behind the load than before it, in MiB: allocators keep what they had for a
/// while, and buffers of kept connections stay. A leak for each request would be more.
const MEMORY: u64 = 64;

#[test]
fn what_ails_one_backend_hurts_nobody_on_another() {
    let _turn = turn();
    let site = Site::start();
    let (clients, rest) = if full() { (64, 5_000) } else { (40, 500) };
    let mut load = Load::start(site.edge.address(), clients, 12, Faults::OfBackends);
    load.goes_on(rest);
    let before = memory(&site.edge);
    for fault in &site.faulty {
        let id = fault.id;
        let pinned = load.pinned_to(id);
        fault.set(true);
        load.goes_on(rest);
        fault.set(false);
        load.goes_on(rest / 2);
        tell(&format!("{id}, with {pinned} clients: {}", load.line()));
    }
    site.frozen.signal("-STOP");
    site.edge.wait_for(FROZEN, "closed");
    load.goes_on(rest);
    eventually("nobody stays with a frozen backend", || {
        (load.pinned_to(FROZEN) == 0).then_some(())
    });
    site.frozen.signal("-CONT");
    site.edge.wait_for(FROZEN, "open");
    load.goes_on(rest);
    tell(&format!("{FROZEN}: {}", load.line()));
    site.killed.signal("-KILL");
    site.edge.wait_for(KILLED, "closed");
    load.goes_on(rest);
    eventually("nobody stays with a dead backend", || (load.pinned_to(KILLED) == 0).then_some(()));
    tell(&format!("{KILLED}: {}", load.line()));
    let seen = load.stop();
    let after = memory(&site.edge);
    tell(&format!("memory: {before} MiB before, {after} MiB behind"));
    assert!(after <= before + MEMORY, "{before} MiB before, {after} MiB behind");
    assert!(GOOD.iter().all(|id| load.pinned_to(id) > 0), "clients stayed on the good ones");
    counters_say(&site.edge, &seen);
}

/// Waits until the counters of failed requests say what clients saw.
#[track_caller]
fn counters_say(edge: &Edge, seen: &BTreeMap<&'static str, u64>) {
    let (mut last, labels) = (BTreeMap::new(), labels());
    let mut agree = || {
        last.clear();
        for line in edge.ask("/metrics").text().lines() {
            let Some(rest) = line.strip_prefix("homing_http_requests_total{app=\"shop\",") else {
                continue;
            };
            let Some((label, value)) =
                rest.split_once("failure=\"").and_then(|(_, rest)| rest.split_once("\"} "))
            else {
                continue;
            };
            let value = value.parse::<f64>().unwrap() as u64;
            // A stream that breaks off is no failed answer.
            if let Some(label) =
                labels.get(label).filter(|_| value > 0 && !line.contains("status=\"101\""))
            {
                *last.entry(*label).or_insert(0) += value;
            }
        }
        (last == *seen).then_some(())
    };
    let end = std::time::Instant::now() + crate::harness::PATIENCE;
    while agree().is_none() {
        assert!(std::time::Instant::now() < end, "clients saw {seen:?}, counted are {last:?}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    tell(&format!("clients saw what is counted: {seen:?}"));
}
