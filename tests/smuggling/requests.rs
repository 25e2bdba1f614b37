//! Spoiled requests, through Homing to a backend that records them.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread;

use crate::cases::{self, Case};
use crate::exchange::{deliver, judge_backend, judge_client, lossy};
use crate::harness::{Client, Edge};
use crate::recorder::{Entry, Recorder};
use crate::request::{End, Reading};
use crate::{seed, tell};

/// Edges and backends of their own that share the cases: each waits mostly.
const LANES: usize = 4;

/// How many failures are told.
const TOLD: usize = 40;

/// Asked behind each case: what came before it has arrived when it is answered.
const SENTINEL: &str = "/sentinel";

fn edge(recorder: &Recorder) -> Edge {
    let address = recorder.address;
    Edge::start(&format!(
        "default_app: shop\napps:\n  - name: shop\n    affinity: off\n    health: off\n    backends: [{{ id: web.1, address: \"{address}\" }}]\n"
    ))
}

fn run(edge: &Edge, recorder: &Recorder, case: &Case) -> Result<&'static str, String> {
    let delivery = &case.delivery;
    let expected = Reading::of(&delivery.bytes);
    let saw = deliver(edge.address(), delivery, &expected);
    let sentinel = Client::connect(edge.address()).get(SENTINEL, "Connection: close\r\n");
    if sentinel.status != 200 {
        return Err(format!("the next client got {sentinel:?}"));
    }
    let mut entries = recorder.take(&case.name);
    entries.retain(|entry| !matches!(entry, Entry::Whole(request) if request.path == SENTINEL));
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
                let edge = edge(&recorder);
                for (number, case) in cases.iter().enumerate().skip(lane).step_by(LANES) {
                    match run(&edge, &recorder, case) {
                        Ok(kind) => *counts.lock().unwrap().entry(kind).or_default() += 1,
                        Err(why) => {
                            let sent = lossy(&case.delivery.bytes);
                            let sent: String = sent.chars().take(600).collect();
                            let cuts = &case.delivery.cuts.len();
                            let text = format!(
                                "case {number}, {}\n  sent in {cuts} cuts: {sent:?}\n  {}",
                                case.name,
                                why.chars().take(900).collect::<String>()
                            );
                            failures.lock().unwrap().push(text);
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
    let told: Vec<&str> = failures.iter().take(TOLD).map(String::as_str).collect();
    assert!(failures.is_empty(), "{} wrong\n{}", failures.len(), told.join("\n"));
}
