//! Restarts under load: good ones, and each way to fail.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::figures::{Cut, unix_ms};
use crate::harness::{PATIENCE, eventually};
use crate::load::{Load, WEBSOCKETS};
use crate::secure;
use crate::site::Site;
use crate::socketio::{self, Clients};
use crate::spoil::{SPOILS, Spoil};
use crate::wire::Wire;
use crate::{full, tell, turn};

/// Restarts that go well. Each way to fail comes once, in between.
const GOOD_FULL: usize = 20;
const GOOD_SHORT: usize = 5;

/// How long streams stay with the predecessor; the whole has more of them at one time.
const GRACE_FULL: (&str, u64) = ("10s", 10_000);
const GRACE_SHORT: (&str, u64) = ("4s", 4_000);

/// How long from one good restart to the next at least: so that deadlines come in between.
const PACE: Duration = Duration::from_millis(1_500);

/// How long after its deadline a stream may still be there, on a busy machine.
const SLACK_MS: u64 = 3_000;

/// How long after an answer the accept loops of a predecessor may still run.
const LAST_ACCEPTS_MS: u64 = 500;

/// Where the requests of the checked clients are counted.
const REQUESTS: &str = "homing_http_requests_total{app=\"shop\"";

const ASK: &str = "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";

/// A good restart: when it was asked for and when it was answered, in Unix milliseconds.
#[derive(Clone, Copy, Debug)]
struct Restarted {
    asked: u64,
    answered: u64,
}

#[test]
fn restarts_under_load_refuse_and_lose_nothing_whether_they_go_well_or_not() {
    let _turn = turn();
    let (good, (grace, grace_ms)) =
        if full() { (GOOD_FULL, GRACE_FULL) } else { (GOOD_SHORT, GRACE_SHORT) };
    let mut site = Site::start(grace);
    let mut load = Load::start(site.edge.address());
    let mut chat = site.chat.as_ref().map(|_| Clients::start(&load.shared));
    let mut secure = secure::Clients::start(&site, &load);
    let meter = Meter::start(site.edge.admin());
    load.goes_on(500);

    let mut spoils = SPOILS.iter();
    let (mut done, mut slowest) = (Vec::new(), Duration::ZERO);
    let (_so_far, begun) = (load.figures().worst(), Instant::now());
    for number in 0..good {
        let next = Instant::now() + PACE;
        slowest = slowest.max(restart_well(&mut site, &load, number, &mut done));
        let rounds = SPOILS.len().div_ceil(good);
        for spoil in spoils.by_ref().take(rounds) {
            restart_in_vain(&site, &load, *spoil);
        }
        load.goes_on(200);
        meter.fell_never();
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    let failed = SPOILS.len() - spoils.len();
    assert_eq!(failed, SPOILS.len(), "every way to fail had its turn");
    let took = begun.elapsed();
    wait_for_deadlines(&site, done.last().unwrap().answered + grace_ms + SLACK_MS);
    load.goes_on(500);
    load.stop();
    chat.iter_mut().for_each(Clients::stop);
    secure.stop();

    let figures = load.figures();
    tell(&format!(
        "restarts: {good} good and {failed} failed ones in {took:.1?} (slowest {slowest:.1?}); worst \
         latency {:.0?}; {} samples of the metrics; {}",
        figures.worst(),
        meter.samples.load(Ordering::SeqCst),
        figures.line()
    ));
    figures.lost_nothing("the end");
    check_cuts(&figures.cuts(), &done, grace_ms);
    assert!(figures.cuts().len() >= held(&site), "each stream met a deadline");
    check_counts(&site, &load);
    let count = |name: &str| site.edge.metric(name);
    let outcome = |name: &str| count(&format!("homing_restarts_total{{outcome=\"{name}\"}}"));
    assert_eq!((outcome("succeeded"), outcome("failed")), (good as f64, failed as f64));
    meter.stop();
    site.end();
}

/// How many streams are held.
fn held(site: &Site) -> usize {
    WEBSOCKETS + site.chat.as_ref().map_or(0, |_| socketio::CLIENTS)
}

/// A restart that adds a listener, or removes it again.
fn restart_well(
    site: &mut Site,
    load: &Load,
    number: usize,
    done: &mut Vec<Restarted>,
) -> Duration {
    let (before, lines) = (site.worker(), site.edge.log().len());
    let any = "127.0.0.1:0".parse().unwrap();
    let adds = number.is_multiple_of(2);
    site.shape.listeners.truncate(1);
    if adds {
        site.shape.listeners.push(any);
    }
    let gone = (!adds).then(|| second_listener(site, 0)).flatten();
    site.replace(&site.shape);
    let (begun, asked) = (Instant::now(), unix_ms());
    let out = site.well(&["restart"]).out;
    let took = begun.elapsed();
    done.push(Restarted { asked, answered: unix_ms() });
    if adds {
        // At once, without another try.
        let added = second_listener(site, lines).expect("the log names the listener");
        let mut wire = Wire::connect(added).expect("an added listener accepts");
        let response = wire.exchange("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert_eq!(response.expect("an added listener serves").status, 200);
        load.figures().requests.fetch_add(1, Ordering::SeqCst);
    } else {
        let gone = gone.expect("there was a second listener");
        eventually("a removed listener refuses", || Wire::connect(gone).err());
    }
    let status = site.status();
    let after = status["process"].as_u64().unwrap();
    assert_ne!(after, before, "another process serves");
    assert!(out.contains(&after.to_string()), "{out}");
    if number == 0 {
        // Later ones may have none: streams stay where they were begun.
        let held = held(site) as u64;
        eventually("the predecessor is listed with all streams", || {
            let status = site.status();
            let finishing = status["finishing"].as_array().unwrap();
            let own = finishing.iter().find(|own| own["process"] == before)?;
            (own["streams"] == held).then_some(())
        });
    }
    load.figures().lost_nothing(&format!("good restart {number}"));
    took
}

/// The second listener that a worker named last, in the log from a line on.
fn second_listener(site: &Site, from: usize) -> Option<SocketAddr> {
    let log = site.edge.log();
    let address = |line: &String| line.split("address=").nth(1)?.trim().parse().ok();
    let named = log[from..].iter().filter(|line| line.contains("listening"));
    let mut named = named.filter(|line| !line.contains("admin")).filter_map(address);
    named.rfind(|own| !site.edge.addresses().contains(own))
}

/// A restart whose successor fails: nothing changes, and the operator reads why.
fn restart_in_vain(site: &Site, load: &Load, spoil: Spoil) {
    let before = site.worker();
    let spoilt = spoil.make(site);
    let done = site.command(&["restart"]);
    assert!(!done.success, "{spoil:?}: {done:?}");
    for word in &spoilt.words {
        assert!(done.err.contains(word), "{spoil:?}: {word:?} is not in {}", done.err);
    }
    assert_eq!(site.worker(), before, "{spoil:?}: the same process serves");
    load.goes_on(50);
    spoilt.repair(site);
    load.figures().lost_nothing(&format!("{spoil:?}"));
}

/// Waits until no predecessor is left, which must be by then.
fn wait_for_deadlines(site: &Site, until: u64) {
    eventually("the predecessors are gone", || {
        let status = site.status();
        let left = status["finishing"].as_array().unwrap();
        assert!(left.is_empty() || unix_ms() < until, "still there: {left:?}");
        left.is_empty().then_some(())
    });
}

/// Each stream that ended did so at the deadline of the worker it was with, and not before.
fn check_cuts(cuts: &[Cut], done: &[Restarted], grace_ms: u64) {
    for cut in cuts {
        let replaced = |own: &&Restarted| own.answered + LAST_ACCEPTS_MS > cut.begun;
        let first = done.iter().find(replaced);
        let first = first.unwrap_or_else(|| panic!("nothing was replaced: {cut:?}"));
        assert!(cut.ended >= first.asked + grace_ms, "before its deadline: {cut:?}, {first:?}");
        // Begun while the worker changed, it may be with either.
        if cut.begun < first.asked {
            let last = first.answered + grace_ms + SLACK_MS;
            assert!(cut.ended <= last, "after its deadline: {cut:?}, {first:?}");
        }
    }
}

/// Homing counted what the clients did.
fn check_counts(site: &Site, load: &Load) {
    let of = |status: &str| {
        let text = site.edge.ask("/metrics").text();
        let series = series(&text);
        let own = |name: &str| name.starts_with(REQUESTS) && name.contains(status);
        series.iter().filter(|(name, _)| own(name)).map(|(_, value)| *value).sum::<f64>()
    };
    let figures = load.figures();
    for (status, counter) in [("200", &figures.requests), ("101", &figures.upgrades)] {
        let (label, clients) =
            (format!("status=\"{status}\""), counter.load(Ordering::SeqCst) as f64);
        let end = Instant::now() + PATIENCE;
        while of(&label) < clients && Instant::now() < end {
            thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(of(&label), clients, "{label} as Homing and as the clients count them");
    }
}

/// Reads the metrics again and again: counters only grow, and somebody always answers.
struct Meter {
    stop: Arc<AtomicBool>,
    samples: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Meter {
    fn start(admin: SocketAddr) -> Self {
        let (stop, samples) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (end, count) = (Arc::clone(&stop), Arc::clone(&samples));
        let thread = thread::spawn(move || {
            let (mut last, mut kept) = (BTreeMap::new(), None::<Wire>);
            while !end.load(Ordering::SeqCst) {
                // Now on a new connection, now on a kept one, as Prometheus does.
                let fresh = count.load(Ordering::SeqCst) % 2 == 0;
                let _closed = kept.take_if(|wire| wire.used && wire.is_closed());
                let mut wire =
                    kept.take().filter(|_| !fresh).map_or_else(|| Wire::connect(admin), Ok);
                let answer = wire.as_mut().map(|wire| wire.exchange(ASK)).expect("metrics listen");
                let answer = answer.expect("metrics are always served");
                let goes = answer.header("connection") == Some("close");
                kept = wire.ok().filter(|_| !goes);
                let now = series(&answer.text());
                for (name, before) in &last {
                    let value = now.get(name).copied().unwrap_or(0.0);
                    assert!(value >= *before, "{name} fell from {before} to {value}");
                }
                last = now;
                count.fetch_add(1, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(20));
            }
        });
        Self { stop, samples, thread }
    }

    /// Stops the test if a counter fell.
    fn fell_never(&self) {
        assert!(!self.thread.is_finished(), "the meter stopped, and said why");
    }

    fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().expect("counters only grow");
    }
}

/// The counters of requests and of affinity, and their sums.
fn series(text: &str) -> BTreeMap<String, f64> {
    let families = ["homing_http_requests_total", "homing_affinity_requests_total"];
    let mut all = BTreeMap::new();
    for line in text.lines() {
        let Some(family) = families.iter().find(|family| line.starts_with(**family)) else {
            continue;
        };
        let (name, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap();
        all.insert(name.to_owned(), value);
        *all.entry((*family).to_owned()).or_default() += value;
    }
    all
}
