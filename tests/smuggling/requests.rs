//! Spoiled requests, through Homing to a backend that records them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::thread;

use crate::cases::{self, Case};
use crate::exchange::{deliver, judge_backend, judge_client, lossy};
use crate::harness::{Client, Edge};
use crate::recorder::{Entry, Recorder};
use crate::request::{End, Reading, Request};
use crate::{seed, tell};

/// Edges and backends of their own that share the cases: each waits mostly.
pub(crate) const LANES: usize = 4;

/// How many failures are told.
pub(crate) const TOLD: usize = 40;

/// Asked behind each case: what came before it has arrived when it is answered.
const SENTINEL: &str = "/sentinel";

/// An app before this backend.
pub(crate) fn app(address: SocketAddr) -> String {
    format!(
        "default_app: shop\napps:\n  - name: shop\n    affinity: off\n    health: off\n    timeouts: {{ first_byte: 3s }}\n    backends: [{{ id: web.1, address: \"{address}\" }}]\n"
    )
}

pub(crate) fn edge(address: SocketAddr) -> Edge {
    Edge::start(&app(address))
}

/// A failure, for people.
pub(crate) fn told(number: usize, name: &str, bytes: &[u8], why: &str) -> String {
    let short = |text: &str, chars| text.chars().take(chars).collect::<String>();
    let bytes = short(&lossy(bytes), 600);
    format!("case {number}, {}\n  bytes: {bytes:?}\n  {}", short(name, 200), short(why, 900))
}

/// Takes out what was begun by earlier cases: its end may reach the backend late.
fn forget_late(entries: &mut Vec<Entry>, begun: &[Request]) {
    entries.retain(|entry| match entry {
        Entry::Unfinished(Some(late)) => {
            !begun.iter().any(|own| late.head_says(own) && own.body.starts_with(&late.body))
        }
        Entry::Unfinished(None) | Entry::Strange(..) | Entry::Whole(_) => true,
    });
}

fn run(
    edge: &Edge,
    recorder: &Recorder,
    case: &Case,
    begun: &mut Vec<Request>,
) -> Result<&'static str, String> {
    let delivery = &case.delivery;
    let expected = Reading::of(&delivery.bytes);
    let saw = deliver(edge.address(), delivery, &expected);
    let sentinel = Client::connect(edge.address()).get(SENTINEL, "Connection: close\r\n");
    if sentinel.status != 200 {
        return Err(format!("the next client got {sentinel:?}"));
    }
    let mut entries = recorder.take(&case.name);
    entries.retain(|entry| !matches!(entry, Entry::Whole(request) if request.path == SENTINEL));
    forget_late(&mut entries, begun);
    begun.extend(expected.begun().cloned());
    let whole = judge_backend(&expected, &entries)?;
    judge_client(&expected, &delivery.bytes, &saw, whole)?;
    Ok(match expected.end {
        End::Clean => "right",
        End::Cut(_) => "cut",
        End::Refused(..) => "refused",
    })
}

#[test]
fn no_request_is_read_otherwise_by_the_backend_than_by_a_strict_reader() {
    let cases = cases::all(seed());
    let failures = Mutex::new(Vec::new());
    let counts = Mutex::new(BTreeMap::<&str, usize>::new());
    thread::scope(|scope| {
        for lane in 0..LANES {
            let (cases, failures, counts) = (&cases, &failures, &counts);
            scope.spawn(move || {
                let recorder = Recorder::start();
                let edge = edge(recorder.address);
                let mut begun = Vec::new();
                for (number, case) in cases.iter().enumerate().skip(lane).step_by(LANES) {
                    match run(&edge, &recorder, case, &mut begun) {
                        Ok(kind) => *counts.lock().unwrap().entry(kind).or_default() += 1,
                        Err(why) => {
                            let sent = &case.delivery.bytes;
                            failures.lock().unwrap().push(told(number, &case.name, sent, &why));
                        }
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    tell(&format!(
        "{} streams: {:?}, {} wrong",
        cases.len(),
        counts.into_inner().unwrap(),
        failures.len()
    ));
    let shown = &failures[..failures.len().min(TOLD)];
    assert!(failures.is_empty(), "{} wrong\n{}", failures.len(), shown.join("\n"));
}
