//! Checks that we still understand what kernel, wrk and HTTP say: `cargo test --benches`.
//!
//! A benchmark that misreads a unit is worse than none, and a target without a test harness has no other place.

use std::{process, time::Duration};

use crate::{
    failure::Failure,
    generator::{self, Errors},
    kernel,
    statistic::{median, range},
    visit,
};

const WRK: &str = "\
Running 4s test @ http://127.0.0.1:40001/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.36ms    1.05ms  21.94ms   92.63%
    Req/Sec    50.40k     4.92k   61.51k    75.61%
  Latency Distribution
     50%  850.00us
     75%    1.43ms
     90%    2.02ms
     99%    1.50s
  205637 requests in 4.10s, 235.33MB read
  Socket errors: connect 1, read 2, write 3, timeout 4
  Non-2xx or 3xx responses: 5
Requests/sec:  50155.44
";

const STAT: &str =
    "42 (a (b) c) S 7 42 42 0 -1 4194560 100 0 0 0 150 250 30 40 20 0 1 0 12345 1000 200";

const ANSWER: &str =
    "HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nx-backend: 3001\r\n\r\nbody: text";

pub(crate) fn run() -> Result<(), Failure> {
    let load = generator::parse(WRK);
    let stat = kernel::parse_stat(STAT);
    let answer = visit::parse(ANSWER);
    let errors = Errors { status: 5, connect: 1, read: 2, write: 3, timeout: 4 };
    let checks = [
        (
            "wrk's count",
            load.as_ref().is_some_and(|it| (it.requests, it.seconds) == (205_637.0, 4.1)),
        ),
        (
            "wrk's microseconds",
            load.as_ref().is_some_and(|it| it.p50 == Duration::from_micros(850)),
        ),
        ("wrk's seconds", load.as_ref().is_some_and(|it| it.p99 == Duration::from_millis(1500))),
        ("wrk's errors", load.is_some_and(|it| it.errors == errors)),
        ("wrk's silence about errors", generator::parse(&WRK.replace("errors", "")).is_some()),
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
        ("a median of three", median([3.0, 1.0, 2.0].into_iter()) == 2.0),
        ("a median of two", median([1.0, 2.0].into_iter()) == 1.5),
        ("a range", range([3.0, 1.0, 2.0].into_iter()) == (1.0, 3.0)),
    ];
    let failed: Vec<&str> =
        checks.iter().filter(|(_, holds)| !holds).map(|(what, _)| *what).collect();
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(format!("misread: {}", failed.join(", "))))
    }
}
