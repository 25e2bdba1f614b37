//! Checks of the generator's own arithmetic and of what it reads, for `cargo test --benches`.

use std::time::Duration;

use super::{answer::Answer, histogram::Histogram, interval::Interval, request};

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nx-backend: 3001\r\nContent-Length: 4\r\n\r\nbody";

/// What is checked, and whether it holds.
pub(crate) fn checks() -> [(&'static str, bool); 9] {
    let mut histogram = Histogram::default();
    (1..=1000).for_each(|number| histogram.record(Duration::from_micros(number)));
    let is_near = |share: f64, micros: f64| {
        let found = histogram.quantile(share).as_secs_f64() * 1e6;
        (found / micros - 1.0).abs() < 0.01
    };
    let mut doubled = histogram.clone();
    doubled.merge(&histogram);
    let mut interval = Interval { moved: 1, waiting: 5, ..Interval::default() };
    interval.merge(&Interval {
        moved: 2,
        waiting: 3,
        latency: doubled.clone(),
        ..Interval::default()
    });
    let mut message = Vec::new();
    request::write_message(&mut message, 125);
    [
        ("a histogram's middle", is_near(0.5, 500.0)),
        ("a histogram's tail", is_near(0.999, 999.0)),
        ("a histogram's end", histogram.max() == Duration::from_millis(1) && is_near(1.0, 1000.0)),
        (
            "two histograms",
            doubled.len() == 2000 && doubled.quantile(0.5) == histogram.quantile(0.5),
        ),
        ("two intervals", (interval.moved, interval.waiting, interval.answers()) == (3, 3, 2000)),
        ("an answer as a whole", read(&mut Answer::default(), [ANSWER])),
        ("an answer in bytes", read(&mut Answer::default(), ANSWER.chunks(1))),
        ("an answer without a length", Answer::default().feed(b"HTTP/1.1 200 OK\r\n\r\n").is_err()),
        ("a message", message.len() == 131 && message[6] ^ message[2] == b'x'),
    ]
}

/// Whether the answer is complete with its last piece, and not before.
fn read<'p>(answer: &mut Answer, pieces: impl IntoIterator<Item = &'p [u8]>) -> bool {
    let states: Vec<bool> = pieces.into_iter().map(|it| answer.feed(it).unwrap_or(false)).collect();
    let is_complete = states.iter().rposition(|it| *it) == Some(states.len() - 1)
        && states.iter().filter(|it| **it).count() == 1;
    is_complete
        && (answer.status, answer.body_bytes) == (200, 4)
        && (answer.backend.as_str(), answer.cookie.as_str()) == ("3001", "a=b")
}
