//! Socket.IO through Node: backends and clients of tests/apps/hold.mjs, if they can be had.

use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use serde_json::Value;

use crate::figures::Cut;
use crate::harness::eventually;
use crate::load::Shared;
use crate::site::Entry;
use crate::tell;
use crate::wire::Trouble;

/// Clients of Socket.IO.
pub(crate) const CLIENTS: usize = 50;

const BACKENDS: usize = 3;

/// A Node that ends when its standard input does.
struct Node {
    child: Child,
    input: Option<ChildStdin>,
}

impl Node {
    fn start(arguments: &[&str]) -> (Self, Lines<BufReader<ChildStdout>>) {
        let mut child = Command::new("node")
            .arg(apps().join("hold.mjs"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let input = child.stdin.take();
        (Self { child, input }, lines)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn apps() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/apps")
}

/// The backends, in one process of Node.
pub(crate) struct Backends {
    _node: Node,
    entries: Vec<Entry>,
}

impl Backends {
    /// Starts them; `None`: there is no Node, or Socket.IO is not installed.
    pub(crate) fn start() -> Option<Self> {
        let version = Command::new("node").arg("--version").output();
        let node = version.is_ok_and(|output| output.status.success());
        if !node || !apps().join("node_modules").is_dir() {
            tell("no Socket.IO clients: node or tests/apps/node_modules is missing");
            return None;
        }
        let (node, mut lines) = Node::start(&["backends", &BACKENDS.to_string()]);
        let line = lines.next().expect("the backends tell their ports").unwrap();
        let told: Value = serde_json::from_str(&line).unwrap();
        let entry = |(port, number): (&Value, usize)| Entry {
            id: format!("chat.{number}"),
            address: format!("127.0.0.1:{port}").parse().unwrap(),
            weight: 1,
        };
        let entries = told["ports"].as_array().unwrap().iter().zip(1..).map(entry).collect();
        Some(Self { _node: node, entries })
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.entries.clone()
    }
}

/// The clients, in one process of Node.
pub(crate) struct Clients {
    node: Node,
    reader: Option<JoinHandle<()>>,
}

impl Clients {
    /// Starts them, and waits until each is connected and upgraded.
    pub(crate) fn start(shared: &Arc<Shared>) -> Self {
        let url = format!("http://{}", shared.address);
        let (node, lines) = Node::start(&["clients", &url, &CLIENTS.to_string()]);
        let (held, own, shared) =
            (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(None)), Arc::clone(shared));
        let (told, ended) = (Arc::clone(&held), Arc::clone(&own));
        let reader = thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let told_now: Value = serde_json::from_str(&line).unwrap();
                if told_now["event"] == "held" {
                    told.store(true, Ordering::SeqCst);
                } else if take(&shared, &told_now) {
                    return;
                }
            }
            // The end of Node without its last word.
            if !shared.is_over() {
                *ended.lock().unwrap() = Some("node ended early");
            }
        });
        eventually("every Socket.IO client is upgraded", || {
            assert_eq!(*own.lock().unwrap(), None);
            held.load(Ordering::SeqCst).then_some(())
        });
        Self { node, reader: Some(reader) }
    }

    /// Ends them, and takes in what they still say.
    pub(crate) fn stop(&mut self) {
        drop(self.node.input.take());
        if let Some(reader) = self.reader.take() {
            eventually("node says its last word", || reader.is_finished().then_some(()));
            reader.join().unwrap();
        }
    }
}

/// Takes in what Node tells; true: it was its last word.
fn take(shared: &Shared, told: &Value) -> bool {
    let figures = &shared.figures;
    let word = |key: &str| told[key].as_str().unwrap_or_default().to_owned();
    let name = format!("socket.io {}", told["client"]);
    match told["event"].as_str() {
        Some("open") => drop(figures.streams.fetch_add(1, Ordering::SeqCst)),
        Some("cut") => figures.cut(Cut {
            client: name,
            home: word("backend"),
            begun: told["begun"].as_u64().unwrap(),
            ended: told["ended"].as_u64().unwrap(),
            how: word("how"),
        }),
        Some("end") => {
            figures.echoes.fetch_add(told["echoes"].as_u64().unwrap(), Ordering::SeqCst);
            return true;
        }
        _ => figures.fail(Trouble::Strange, || format!("{name}: {told}")),
    }
    false
}
