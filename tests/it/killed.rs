//! A backend killed under load: a process of its own, SIGKILL, 64 connections.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::harness::{Backend, Client, Edge, Jar, Reply, eventually};

const CONNECTIONS: usize = 64;

/// A backend in a process of its own: this test binary, asked to run the test below.
struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    fn start(id: &str, address: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "killed::serve_as_a_backend", "--nocapture"])
            .env("BACKEND_ID", id)
            .env("BACKEND_ADDRESS", address)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().expect("the backend says where it listens").unwrap();
            if let Some(address) = line.split("backend at ").nth(1) {
                break address.parse().unwrap();
            }
        };
        thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[test]
#[ignore = "no test: the backend of the test below"]
fn serve_as_a_backend() {
    let Ok(id) = std::env::var("BACKEND_ID") else { return };
    let listener = TcpListener::bind(std::env::var("BACKEND_ADDRESS").unwrap()).unwrap();
    println!("backend at {}", listener.local_addr().unwrap());
    let own = id.clone();
    let _backend = Backend::listening(&id, listener, move |_, _| Reply::ok(&own));
    loop {
        thread::park();
    }
}

/// What the load saw.
#[derive(Default)]
struct Seen {
    answered: AtomicUsize,
    lost: AtomicUsize,
    moves: AtomicUsize,
}

#[test]
fn a_killed_backend_costs_its_clients_one_move_and_no_more() {
    let mut backends: Vec<Process> =
        ["web.1", "web.2", "web.3"].iter().map(|id| Process::start(id, "127.0.0.1:0")).collect();
    let mut file = String::from(
        "default_app: shop\naccess_log: { format: off }\napps:\n  - name: shop\n    health: { path: /healthz, interval: 200ms, fall: 1, rise: 1 }\n    backends:\n",
    );
    for (backend, number) in backends.iter().zip(1..) {
        file.push_str(&format!(
            "      - {{ id: web.{number}, address: \"{}\" }}\n",
            backend.address
        ));
    }
    let edge = Edge::start(&file);
    let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Seen::default()));
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (address, stop, seen) = (edge.address(), Arc::clone(&stop), Arc::clone(&seen));
            thread::spawn(move || load(address, &stop, &seen))
        })
        .collect();
    let answered = || seen.answered.load(Ordering::SeqCst);
    eventually("the load runs", || (answered() > 2_000).then_some(()));

    backends[1].kill();
    edge.wait_for("web.2", "closed");
    let before = answered();
    eventually("the load goes on", || (answered() > before + 2_000).then_some(()));
    let moves = seen.moves.load(Ordering::SeqCst);
    let address = backends[1].address.to_string();
    backends[1] = Process::start("web.2", &address);
    edge.wait_for("web.2", "open");
    let before = answered();
    eventually("the load goes on", || (answered() > before + 2_000).then_some(()));
    stop.store(true, Ordering::SeqCst);
    let homes: Vec<HashMap<String, usize>> =
        clients.into_iter().map(|client| client.join().unwrap()).collect();

    // Lost is at most what was in the hands of the dead one: one request a connection.
    let lost = seen.lost.load(Ordering::SeqCst);
    assert!(lost <= CONNECTIONS, "{lost} lost");
    assert_eq!(seen.moves.load(Ordering::SeqCst), moves, "nobody moves when it returns");
    assert!(homes.iter().all(|home| home.len() <= 2), "nobody moves twice");
    let moved = edge.affinity("moved", "connect_failed") + edge.affinity("moved", "unhealthy");
    assert_eq!(moved, moves as f64, "each move is counted once, with its cause");
    println!("{} answered, {lost} lost, {moves} moved", answered());
}

/// One client: keeps its cookie and its connection, counts what it sees.
fn load(address: SocketAddr, stop: &AtomicBool, seen: &Seen) -> HashMap<String, usize> {
    let mut homes: HashMap<String, usize> = HashMap::new();
    let (mut jar, mut client, mut last) = (Jar::default(), Client::connect(address), None);
    while !stop.load(Ordering::SeqCst) {
        client.send(format!("GET / HTTP/1.1\r\nHost: shop.example.com\r\n{}\r\n", jar.header()));
        match client.try_read("GET") {
            Some(response) if response.status == 200 => {
                seen.answered.fetch_add(1, Ordering::SeqCst);
                let home = response.text();
                if last.as_ref().is_some_and(|last| *last != home) {
                    seen.moves.fetch_add(1, Ordering::SeqCst);
                }
                *homes.entry(home.clone()).or_default() += 1;
                last = Some(home);
                jar.take(&response);
                if response.header("connection") == Some("close") {
                    client = Client::connect(address);
                }
            }
            Some(_) | None => {
                seen.lost.fetch_add(1, Ordering::SeqCst);
                client = Client::connect(address);
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
    homes
}
