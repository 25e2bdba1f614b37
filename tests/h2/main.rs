//! HTTP/2 from clients, rule by rule and flood by flood, over raw sockets against the real binary.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test stops at what it did not expect"
)]

#[expect(dead_code, unused_imports, reason = "shared with tests/it, which uses all of it")]
#[path = "../it/harness/mod.rs"]
mod harness;

#[expect(dead_code, reason = "shared with tests/change, which uses all of it")]
#[path = "../shared/mod.rs"]
mod shared;

mod abuse;
mod answers;
mod backend;
mod case;
mod connection;
mod flood;
mod frames;
mod library;
mod process;
mod requests;
mod wire;

use std::panic::{AssertUnwindSafe, catch_unwind};

use self::backend::Backend;
use self::case::{Case, judge};
use self::harness::Edge;

/// A listener for HTTP/2 in the clear before this backend.
fn start(backend: &Backend) -> Edge {
    let head = "listeners: [{ address: \"127.0.0.1:0\", protocols: [h2c] }]\n\
         server: { threads: 2, grace_period: 5s, head_timeout: 2s, keepalive_timeout: 60s }\n";
    let apps = format!(
        "default_app: shop\napps:\n  - name: shop\n    health: {{ interval: 1s }}\n    limits: {{ app_in_flight: off }}\n    backends:\n      \
         - {{ id: web.1, address: \"{}\" }}\n",
        backend.address
    );
    Edge::start_with(head, &apps)
}

#[test]
fn every_rule_is_kept() {
    let backend = Backend::start();
    let edge = start(&backend);
    let address = edge.address();
    let cases: Vec<Case> = frames::all().into_iter().chain(requests::all()).collect();
    let mut failures = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let judged = catch_unwind(AssertUnwindSafe(|| judge(case, number, address, &backend)));
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
