//! A drain under load, and the backend stopped right after it.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::figures::unix_ms;
use crate::harness::eventually;
use crate::load::Load;
use crate::site::Site;
use crate::socketio::Clients;
use crate::{tell, turn};

const DEADLINE: &str = "2s";
const DEADLINE_MS: u64 = 2_000;

/// The deadline is kept in whole seconds of the clock, so up to one of them may be missing; and after it,
/// a busy machine takes its time.
const EARLY_MS: u64 = 1_000;
const LATE_MS: u64 = 2_000;

const LEFT: &str = "web.1";

#[test]
fn a_backend_stopped_right_after_its_drain_is_missed_by_nobody() {
    let _turn = turn();
    let site = Site::start("1h");
    let mut load = Load::start(site.edge.address());
    let mut chat = site.chat.as_ref().map(|_| Clients::start(&load.shared));
    load.goes_on(500);
    let home = |shown: &std::sync::Arc<crate::load::Shown>| shown.home.lock().unwrap().clone();
    let pinned = load.clients.iter().filter(|own| home(own).as_deref() == Some(LEFT)).count();
    let streams = load.streams.iter().filter(|own| home(own).as_deref() == Some(LEFT)).count();
    assert!(pinned > 0 && streams > 0, "there is somebody to move");

    load.let_leave(LEFT);
    let _so_far = load.figures().worst();
    let (asked, begun) = (unix_ms(), Instant::now());
    let done = site.well(&["drain", "shop/web.1", "--deadline", DEADLINE, "--wait"]);
    let took = begun.elapsed();
    site.backends[0].stop();
    assert!(done.out.contains("nobody is left"), "{done:?}");
    load.goes_on(3_000);
    eventually("every client is elsewhere", || {
        let mut all = load.clients.iter().chain(&load.streams);
        all.all(|own| home(own).as_deref() != Some(LEFT)).then_some(())
    });
    load.stop();
    chat.iter_mut().for_each(Clients::stop);

    let figures = load.figures();
    let led_away = figures.led_away.load(Ordering::SeqCst);
    tell(&format!(
        "drain: {took:.1?} for {pinned} clients and {streams} streams; worst latency {:.0?}; {led_away} led \
         away; {}",
        figures.worst(),
        figures.line()
    ));
    figures.lost_nothing("the end");
    assert_eq!(led_away, (pinned + streams) as u64, "each client moves once");
    site.edge.counts_affinity("moved", "drain_deadline", (pinned + streams) as f64);
    let cuts = figures.cuts();
    assert_eq!(cuts.len(), streams, "its streams end, and no others: {cuts:?}");
    for cut in cuts {
        let after = cut.ended.saturating_sub(asked);
        let due = DEADLINE_MS - EARLY_MS..=DEADLINE_MS + LATE_MS;
        assert!(cut.home == LEFT && due.contains(&after), "{after} ms: {cut:?}");
    }
    assert!(took < Duration::from_millis(DEADLINE_MS + LATE_MS) * 2, "{took:?}");
    site.end();
}
