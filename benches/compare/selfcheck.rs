//! Checks that we still understand what the kernel and HTTP say: `cargo test --benches`.
//!
//! A benchmark that misreads a unit is worse than none, and a target without a test harness has no other place.

use std::{process, time::Duration};

use crate::{
    change,
    failure::Failure,
    h2load, kernel, load,
    statistic::{median, range},
    visit,
};

const STAT: &str =
    "42 (a (b) c) S 7 42 42 0 -1 4194560 100 0 0 0 150 250 30 40 20 0 1 0 12345 1000 200";

const H2LOAD: &str = "\
finished in 4.01s, 250.00 req/s, 36.02MB/s
requests: 1016 total, 1064 started, 1016 done, 1000 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 1000 2xx, 0 3xx, 0 4xx, 0 5xx
";

const ANSWER: &str =
    "HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nx-backend: 3001\r\n\r\nbody: text";

pub(crate) fn run() -> Result<(), Failure> {
    let stat = kernel::parse_stat(STAT);
    let h2 = h2load::parse(H2LOAD);
    let answer = visit::parse(ANSWER);
    let checks = [
        (
            "a process's times",
            stat.is_some_and(|it| it.times_are(Duration::from_secs(4), Duration::from_millis(700))),
        ),
        (
            "our own process",
            kernel::tree(process::id()).first().is_some_and(|it| it.id == process::id()),
        ),
        ("our own memory", kernel::tree_resident_bytes(process::id()) > 100_000),
        (
            "the machine's time",
            kernel::parse_machine_busy("cpu  1 2 3 99 99 4 5 6 7 8\n")
                == Some(Duration::from_millis(210)),
        ),
        (
            "an answer",
            answer.is_some_and(|it| {
                it.status == 200
                    && it.cookie.as_deref() == Some("a=b")
                    && it.backend.as_deref() == Some("3001")
            }),
        ),
        ("h2load's count", h2.as_ref().is_some_and(|it| it.units == 1000.0 && it.void.is_none())),
        ("h2load's time", h2.is_some_and(|it| it.elapsed == Duration::from_millis(4010))),
        (
            "h2load's failures",
            h2load::parse(&H2LOAD.replace("0 failed", "3 failed"))
                .is_some_and(|it| it.void.is_some()),
        ),
        ("a median of three", median([3.0, 1.0, 2.0].into_iter()) == 2.0),
        ("a median of two", median([1.0, 2.0].into_iter()) == 1.5),
        ("a range", range([3.0, 1.0, 2.0].into_iter()) == (1.0, 3.0)),
    ];
    let checks = checks.into_iter().chain(load::checks()).chain(change::checks());
    let failed: Vec<&str> = checks.filter(|(_, holds)| !holds).map(|(what, _)| what).collect();
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(format!("misread: {}", failed.join(", "))))
    }
}
