//! Reloads under load.

use std::thread;
use std::time::{Duration, Instant};

use crate::harness::eventually;
use crate::load::Load;
use crate::secure;
use crate::site::{Pair, Shape, Site};
use crate::socketio::Clients;
use crate::{Dice, full, tell, turn};

/// How many reloads, and how often.
const COUNT_FULL: usize = 200;
const COUNT_SHORT: usize = 30;
const PACE: Duration = Duration::from_millis(290);

/// In how long the whole of them must be done.
const LIMIT_FULL: Duration = Duration::from_secs(60);

const GENERATION: &str = "homing_config_generation";

#[test]
fn reloads_under_load_lose_no_request_move_no_pin_and_cut_no_stream() {
    let _turn = turn();
    let mut site = Site::start("1h");
    let extras = ["extra.1", "extra.2"].map(Pair::start);
    let mut load = Load::start(site.edge.address());
    let mut chat = site.chat.as_ref().map(|_| Clients::start(&load.shared));
    let mut secure = secure::Clients::start(&site, &load);
    let worker = site.worker();
    let mut dice = Dice(3);
    let count = if full() { COUNT_FULL } else { COUNT_SHORT };
    let _so_far = load.figures().worst();

    let (begun, mut slowest) = (Instant::now(), Duration::ZERO);
    for number in 0..count {
        let next = changed(&site, &extras, &mut dice);
        let asked = Instant::now();
        reload(&site, &next, number);
        slowest = slowest.max(asked.elapsed());
        site.shape = next;
        load.figures().lost_nothing(&format!("reload {number}"));
        // As many in a minute, not one after another.
        let due = begun + PACE * u32::try_from(number + 1).unwrap();
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    let took = begun.elapsed();
    load.goes_on(1_000);
    load.stop();
    chat.iter_mut().for_each(Clients::stop);
    secure.stop();

    let figures = load.figures();
    tell(&format!(
        "reloads: {count} in {took:.1?} (slowest {slowest:.1?}); worst latency {:.0?}; {}",
        figures.worst(),
        figures.line()
    ));
    figures.lost_nothing("the end");
    assert!(figures.cuts().is_empty(), "streams were cut: {:?}", figures.cuts());
    assert!(!full() || took <= LIMIT_FULL, "{count} reloads took {took:?}");
    assert_eq!(site.worker(), worker, "the same process serves");
    let outcome = |name: &str| {
        site.edge.metric(&format!("homing_config_reloads_total{{outcome=\"{name}\"}}"))
    };
    assert!(outcome("accepted") >= count as f64);
    assert!(outcome("refused") == 0.0);
    site.end();
}

/// Another list: shuffled, other weights, backends at their other address, more backends or fewer.
fn changed(site: &Site, extras: &[Pair], dice: &mut Dice) -> Shape {
    let mut next = site.shape.clone();
    let mut pairs: Vec<&Pair> = site.backends.iter().collect();
    pairs.extend(extras.iter().filter(|_| dice.roll(2) == 0));
    next.shop = pairs
        .into_iter()
        .map(|pair| {
            let mut entry = pair.entry(0);
            let kept = site.shape.shop.iter().find(|own| own.id == entry.id);
            let other = kept.is_none_or(|own| own.address == entry.address) == (dice.roll(3) == 0);
            if other {
                entry = pair.entry(1);
            }
            entry.weight = 1 + dice.roll(1_000);
            entry
        })
        .collect();
    dice.shuffle(&mut next.shop);
    dice.shuffle(&mut next.chat);
    next.chat.iter_mut().for_each(|entry| entry.weight = 1 + dice.roll(10));
    next
}

/// Has another file read, in one of the ways there are, and waits until it is accepted.
fn reload(site: &Site, next: &Shape, number: usize) {
    let before = site.edge.metric(GENERATION);
    let accepted = || {
        eventually("another generation", || (site.edge.metric(GENERATION) > before).then_some(()));
    };
    match number % 6 {
        0 => {
            site.swap_certificate();
            site.replace(next);
            accepted();
        }
        1 | 4 => {
            site.replace(next);
            site.edge.signal("-HUP");
            accepted();
        }
        2 => {
            site.overwrite(next);
            drop(site.well(&["reload"]));
        }
        _ => {
            site.replace(next);
            drop(site.well(&["reload"]));
        }
    }
    assert!(site.edge.metric(GENERATION) > before, "the generation counts");
}
