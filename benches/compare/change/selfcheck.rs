//! Checks of what is pure here: a harness that judges wrongly is worse than none.

use std::time::Duration;

use super::{
    ledger::{Death, Figures, Phases, judge, latency},
    plan,
    scenario::{Scenario, Step},
    wanted::Wanted,
};
use crate::load::{Outcome, Sample, Trouble};

/// Ports of two backends.
const A: u16 = 1;
const B: u16 = 2;

/// What is checked, and whether it holds.
pub(crate) fn checks() -> Vec<(&'static str, bool)> {
    [sessions(), counts(), scenarios(), edges(), arguments()].concat()
}

/// One client whose answers come from `backends`, one each second from 0 on; the first second is the warm-up.
fn told(backends: &[u16], deaths: &[Death]) -> Figures {
    let seconds = 0..;
    let samples: Vec<Sample> = seconds
        .zip(backends)
        .map(|(second, backend)| sample(second, Outcome::Answered(*backend)))
        .collect();
    judge(&samples, deaths, phases())
}

fn sample(second: u64, outcome: Outcome) -> Sample {
    let due = Duration::from_secs(second);
    Sample {
        client: 0,
        due,
        sent: due + Duration::from_millis(1),
        done: due + Duration::from_millis(10),
        outcome,
        is_repeated: false,
    }
}

fn phases() -> Phases {
    Phases { warm: Duration::from_secs(1), changes: Duration::from_secs(2) }
}

fn dead(from: u64, to: u64) -> [Death; 1] {
    [Death { backend: A, from: Duration::from_secs(from), to: Duration::from_secs(to) }]
}

fn sessions() -> Vec<(&'static str, bool)> {
    // Lost, for good, displaced, elsewhere at the end; answers astray.
    let sums = |it: Figures| {
        let sessions = it.sessions;
        let clients = (sessions.lost, sessions.for_good, sessions.displaced, sessions.elsewhere);
        (clients, it.astray)
    };
    vec![
        ("a client at home", sums(told(&[A, A, A], &[])) == ((0, 0, 0, 0), 0)),
        ("a client astray and back", sums(told(&[A, B, A], &[])) == ((1, 0, 0, 0), 1)),
        ("a client moved for good", sums(told(&[A, B, B], &[])) == ((1, 1, 0, 1), 2)),
        (
            "a client of a dead backend that stays where it was sent",
            sums(told(&[A, A, B, B, B], &dead(2, 4))) == ((0, 0, 1, 1), 0),
        ),
        (
            "a client of a dead backend that is sent back later",
            sums(told(&[A, A, B, A, A], &dead(2, 3))) == ((1, 1, 1, 0), 2),
        ),
        (
            "a client that is sent away before the death",
            sums(told(&[A, B, B], &dead(2, 3))) == ((1, 0, 1, 1), 1),
        ),
        (
            "a client that is sent away after the return",
            sums(told(&[A, A, A, B], &dead(1, 2))) == ((1, 1, 0, 1), 1),
        ),
        (
            "a client of another backend that is sent away while one is dead",
            sums(told(&[B, B, A], &dead(2, 3))) == ((1, 1, 0, 1), 1),
        ),
    ]
}

fn counts() -> Vec<(&'static str, bool)> {
    let outcomes = [
        Outcome::Failed(Trouble::Refused),
        Outcome::Failed(Trouble::Refused),
        Outcome::Failed(Trouble::TimedOut),
        Outcome::Answered(A),
    ];
    let samples: Vec<Sample> =
        (0..).zip(outcomes).map(|(at, outcome)| sample(at, outcome)).collect();
    let figures = judge(&samples, &[], phases());
    let milliseconds =
        |range: std::ops::RangeInclusive<u64>| range.map(Duration::from_millis).collect();
    let thousand = latency(milliseconds(1..=1000));
    vec![
        ("what is counted after the warm-up", figures.requests == 3),
        ("a failure by its kind", figures.failed.get(&Trouble::Refused) == Some(&1)),
        ("failures in all", figures.failed_in_all() == 2),
        ("refusals have no latency", figures.before == latency(vec![])),
        ("time-outs have", figures.during.max == Duration::from_millis(10)),
        ("the generator's own delay", figures.lag.max == Duration::from_millis(1)),
        ("a p50", thousand.p50 == Duration::from_millis(500)),
        ("a p99.9", thousand.p999 == Duration::from_millis(999)),
        ("a maximum", thousand.max == Duration::from_secs(1)),
        ("one value", latency(milliseconds(7..=7)).p999 == Duration::from_millis(7)),
    ]
}

fn scenarios() -> Vec<(&'static str, bool)> {
    let steps = |scenario: Scenario| scenario.steps(20);
    let is_in_order = |scenario: Scenario| steps(scenario).is_sorted_by_key(|(at, _)| *at);
    let ends = |scenario: Scenario| steps(scenario).last().map_or(Duration::ZERO, |(at, _)| *at);
    vec![
        ("steps in order", Scenario::ALL.into_iter().all(is_in_order)),
        ("a hundred reloads", steps(Scenario::Reloads).len() == 100),
        ("three rotations", steps(Scenario::KeysRotate).len() == 3),
        ("five restarts", steps(Scenario::Restart).len() == 5),
        ("a still end", Scenario::ALL.into_iter().all(|it| ends(it) < Duration::from_secs(18))),
        ("nothing in quiet", steps(Scenario::Quiet).is_empty()),
    ]
}

fn edges() -> Vec<(&'static str, bool)> {
    let addresses = (1..=4).map(|port| ([127, 0, 0, 1], port).into()).collect();
    let start = Wanted::new(addresses);
    let reloaded = start.after(Step::Reload);
    let grown = start.after(Step::ScaleUp);
    let facts = |it: &Wanted| (it.backends(), it.elsewhere().to_vec());
    let mut each = vec![start.clone()];
    for _ in 0..100 {
        each.extend(each.last().map(|it| it.after(Step::Reload)));
    }
    let differ = |pair: &[Wanted]| {
        let [(left, left_elsewhere), (right, right_elsewhere)] = [facts(&pair[0]), facts(&pair[1])];
        left != right && left_elsewhere != right_elsewhere
    };
    vec![
        ("each reload changes a weight and a list", each.windows(2).all(differ)),
        ("a reload keeps the backends", reloaded.backends().len() == start.backends().len()),
        (
            "a fourth backend",
            grown.backends().len() == 4 && grown.backends()[..3] == start.backends(),
        ),
        ("another key", start.after(Step::Rotate).key == 1),
    ]
}

fn arguments() -> Vec<(&'static str, bool)> {
    let parse = |line: &str| {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        plan::parse(&words)
    };
    let names = |line: &str| parse(line).and_then(Result::ok).map(|it| it.scenarios);
    let is_refused = |line: &str| parse(line).is_some_and(|it| it.is_err());
    vec![
        ("without --change", parse("--bench --quick").is_none()),
        ("all scenarios", names("--bench --change") == Some(Scenario::ALL.to_vec())),
        (
            "some scenarios",
            names("--change restart,reloads --quick")
                == Some(vec![Scenario::Reloads, Scenario::Restart]),
        ),
        ("an unknown scenario", is_refused("--change earthquake")),
        ("too short a run", is_refused("--change --seconds 3")),
    ]
}
