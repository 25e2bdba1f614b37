//! Too many clients, slow clients, no descriptors, no disk.

use std::time::Duration;

use crate::crowd::{Crowd, Slow};
use crate::harness::{Backend, Edge, Jar, eventually, scratch, write_key};
use crate::load::{Faults, Load};
use crate::site::{LATE, file, good, memory, start_with_descriptors};
use crate::{full, tell, turn};

/// How much more memory may be taken behind a crowd than before it, in MiB. Allocators give back with a delay, and
/// keep some for next time; a few KiB left of each of the connections would already be more after two crowds of the
/// full form.
const MEMORY: u64 = 64;

fn backends() -> (Vec<Backend>, String) {
    let good: Vec<Backend> = ["good.1", "good.2"].iter().map(|id| good(id)).collect();
    let list: Vec<_> = good.iter().map(|own| (own.id().to_owned(), own.address())).collect();
    (good, file(&list, LATE))
}

#[test]
fn crowds_of_idle_and_of_slow_clients_hold_nobody_up_and_leave_no_memory_behind() {
    let _turn = turn();
    let (_backends, apps) = backends();
    // The crowd comes from one address, and each slow client has a request in flight.
    let head = "access_log: off\ndefaults: { limits: { app_in_flight: 1000 } }\n\
                server: { threads: 2, grace_period: 5s, head_timeout: 3s, connections_per_address: 8000 }\n";
    let edge = Edge::start_with(head, &apps);
    let (idle, slow) = if full() { (5_000, 334) } else { (1_000, 60) };
    let mut load = Load::start(edge.address(), 24, 6, Faults::None);
    load.goes_on(300);
    let before = memory(&edge);
    for round in 0..2 {
        let mut crowd = Crowd::default();
        assert_eq!(crowd.idle(edge.address(), idle, Duration::from_secs(10)), idle);
        for kind in [Slow::Head, Slow::Body, Slow::Reading] {
            crowd.slow(edge.address(), kind, slow);
        }
        load.goes_on(500);
        let peak = memory(&edge);
        crowd.slow_are_ended();
        eventually("who does not read is gone, too", || {
            (edge.metric("homing_client_connections") < (idle + 50) as f64).then_some(())
        });
        load.goes_on(300);
        drop(crowd);
        eventually("the crowd is gone", || {
            (edge.metric("homing_client_connections") < 100.0).then_some(())
        });
        load.goes_on(300);
        let mut behind = 0;
        eventually("memory returns", || {
            behind = memory(&edge);
            (behind <= before + MEMORY).then_some(())
        });
        tell(&format!(
            "round {round}, {idle} idle and {} slow: {before} MiB before, {peak} MiB with them, {behind} MiB behind; {}",
            3 * slow,
            load.line()
        ));
    }
    load.stop();
}

#[test]
fn who_is_connected_is_served_while_no_descriptor_is_left_and_everybody_is_afterwards() {
    let _turn = turn();
    let (_backends, apps) = backends();
    let directory = scratch();
    write_key(&directory.path().join("key"), crate::harness::SECRET);
    let source = format!(
        "state_dir: state\nadmin: {{ address: \"127.0.0.1:0\" }}\naffinity_keys: [{{ file: {}/key }}]\n\
         listeners: [{{ address: \"127.0.0.1:0\" }}]\naccess_log: off\n\
         server: {{ threads: 2, grace_period: 5s }}\n{apps}",
        directory.path().display()
    );
    let edge = start_with_descriptors(200, directory.path(), &source);
    edge.wait_until_ready();
    let mut kept = Vec::new();
    for _ in 0..8 {
        let (mut jar, mut client) = (Jar::default(), edge.client());
        let first = client.get("/", "");
        jar.take(&first);
        kept.push((client, jar, first.text()));
    }
    let mut crowd = Crowd::default();
    let waiting = crowd.idle(edge.address(), 600, Duration::from_millis(500));
    tell(&format!("no descriptors: {waiting} connections for 200 descriptors"));
    for _ in 0..20 {
        for (client, jar, home) in &mut kept {
            assert_eq!(client.get("/", &jar.header()).text(), *home);
        }
    }
    drop(crowd);
    for (client, jar, home) in &mut kept {
        assert_eq!(client.get("/", &jar.header()).text(), *home);
    }
    eventually("newcomers are served", || {
        let mut client = edge.client();
        client.send("GET / HTTP/1.1\r\nHost: shop.example.com\r\nConnection: close\r\n\r\n");
        (client.try_read("GET")?.status == 200).then_some(())
    });
}

#[test]
fn a_full_disk_costs_lines_of_the_log_and_nothing_else() {
    let _turn = turn();
    let (_backends, apps) = backends();
    let edge = Edge::start_with("access_log: { path: /dev/full }\n", &apps);
    let mut load = Load::start(edge.address(), 16, 4, Faults::None);
    load.goes_on(if full() { 20_000 } else { 1_000 });
    load.stop();
    eventually("the writes that failed are counted", || {
        (edge.metric("homing_access_log_errors_total") > 0.0).then_some(())
    });
    tell(&format!("full disk: {}", load.line()));
}
