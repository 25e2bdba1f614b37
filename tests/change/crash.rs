//! The worker killed under load.

use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::harness::eventually;
use crate::load::{KEEPING, Load};
use crate::site::Site;
use crate::socketio::Clients;
use crate::wire::{Trouble, Wire};
use crate::{full, tell, turn};

/// In how long there must be service again.
const LIMIT: Duration = Duration::from_secs(1);

/// Clients that come once, at one time.
const FRESH: u64 = 4;

#[test]
fn a_killed_worker_loses_what_it_had_in_hand_and_refuses_nobody() {
    let _turn = turn();
    let site = Site::start("1h");
    let mut load = Load::start(site.edge.address());
    let mut chat = site.chat.as_ref().map(|_| Clients::start(&load.shared));
    let rounds = if full() { 5 } else { 2 };
    let _so_far = load.figures().worst();
    for round in 0..rounds {
        kill(&site, &load, round);
    }
    load.stop();
    chat.iter_mut().for_each(Clients::stop);
    let figures = load.figures();
    tell(&format!(
        "killed workers: {rounds}; worst latency {:.0?}; {}",
        figures.worst(),
        figures.line()
    ));
    assert_eq!(site.edge.metric("homing_worker_crashes_total"), rounds as f64);
    site.end();
}

fn kill(site: &Site, load: &Load, round: usize) {
    // A worker that served for less than a second is started again with a pause.
    let served = Instant::now();
    eventually("the worker served for a while", || {
        (served.elapsed() > Duration::from_millis(1_500)).then_some(())
    });
    load.goes_on(500);
    let (before, figures) = (site.worker(), load.figures());
    let in_flight = || {
        let lost = [Trouble::Reset, Trouble::Ended, Trouble::Race];
        lost.map(|trouble| figures.count(trouble)).iter().sum::<u64>()
    };
    let (lost_before, cuts_before) = (in_flight(), figures.cuts().len());
    let of_each = || {
        let lost = load.clients.iter().map(|shown| shown.lost.load(Ordering::SeqCst));
        lost.collect::<Vec<_>>()
    };
    let each_before = of_each();

    let killed = Instant::now();
    let kill = Command::new("kill").args(["-KILL", &before.to_string()]).status();
    assert!(kill.unwrap().success());
    let answered = eventually("there is service again", || {
        let mut wire = Wire::connect(site.edge.address()).ok()?;
        let answer =
            wire.exchange("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").ok()?;
        (answer.status == 200).then(|| killed.elapsed())
    });
    load.goes_on(1_000);
    let (lost, cuts) = (in_flight() - lost_before, figures.cuts().len() - cuts_before);
    let after = site.worker();
    tell(&format!(
        "killed worker {round}: served again after {answered:.0?}, {lost} requests and {cuts} streams lost"
    ));
    assert_ne!(after, before, "another process serves");
    assert!(answered <= LIMIT, "served again after {answered:?}");
    let most = of_each().iter().zip(each_before).map(|(now, before)| now - before).max();
    assert!(most <= Some(1), "a connection loses one request: {most:?}");
    assert!(lost <= KEEPING as u64 + FRESH, "{lost} requests lost");
    let mut others = figures.troubles();
    for known in ["Reset", "Ended", "Race"] {
        others.remove(known);
    }
    assert!(others.is_empty(), "round {round}: {others:?}");
}
