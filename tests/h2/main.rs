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
mod leaving;
mod library;
mod process;
mod requests;
mod windows;
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
        "default_app: shop\n\
         apps:\n  - name: shop\n    health: {{ interval: 1s }}\n    limits: {{ app_in_flight: off }}\n    \
         backends: [{{ id: web.1, address: \"{}\" }}]\n",
        backend.address
    );
    Edge::start_with(head, &apps)
}

fn cases() -> Vec<Case> {
    [frames::all(), windows::all(), requests::all()].into_iter().flatten().collect()
}

/// `HOMING_BLESS=1 cargo test --test h2` writes the rules; read them before you keep them.
#[test]
fn the_page_has_every_rule_and_every_fault() {
    const PAGE: &str = "docs/http2.md";
    const BEGIN: &str = "| rule | what comes |\n| --- | --- |\n";
    let page = std::fs::read_to_string(PAGE).unwrap();
    for fault in homing::wire::frame::FrameFault::ALL {
        assert!(page.contains(&format!("\n| `{}` |", fault.as_str())), "{PAGE} lacks {fault:?}");
    }
    let row =
        |case: &Case| format!("| {} | {} |\n", case.rule.replace('|', "\\|"), case.may.told());
    let rows: String = cases().iter().map(row).collect();
    let (text, _) = page.split_once(BEGIN).unwrap_or((&page, ""));
    let told = [text, BEGIN, &rows].concat();
    if std::env::var_os("HOMING_BLESS").is_some() {
        std::fs::write(PAGE, &told).unwrap();
    }
    assert_eq!(std::fs::read_to_string(PAGE).unwrap(), told);
}

#[test]
fn every_rule_is_kept() {
    let backend = Backend::start();
    let edge = start(&backend);
    let address = edge.address();
    let cases = cases();
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
