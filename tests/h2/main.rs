//! HTTP/2 from clients, rule by rule and flood by flood, over raw sockets against the real binary.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test stops at what it did not expect"
)]

mod backend;
mod case;
mod connection;
mod frames;
mod requests;
mod standin;
mod wire;

use std::panic::{AssertUnwindSafe, catch_unwind};

use self::backend::Backend;
use self::case::{Case, judge};

#[test]
fn every_rule_is_kept() {
    let backend = Backend::start();
    let edge = standin::start(backend.address);
    let cases: Vec<Case> = frames::all().into_iter().chain(requests::all()).collect();
    let mut failures = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let judged = catch_unwind(AssertUnwindSafe(|| judge(case, number, edge, &backend)));
        let told = match judged {
            Ok(Ok(())) => continue,
            Ok(Err(text)) => text,
            Err(panic) => {
                panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "panic".to_owned())
            }
        };
        failures.push(format!("{}: {told}", case.rule));
    }
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), cases.len(), failures.join("\n"));
}
