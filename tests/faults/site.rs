//! Homing with backends that are well, and one for each fault.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::harness::{Backend, Edge, Received, Reply, echo};
use crate::process::Process;

/// Backends that are well all the time.
pub(crate) const GOOD: [&str; 3] = ["good.1", "good.2", "good.3"];

/// Backends in processes of their own.
pub(crate) const KILLED: &str = "killed";
pub(crate) const FROZEN: &str = "frozen";

/// Where every backend sends more than sockets buffer.
pub(crate) const LARGE: &str = "/large";
const LARGE_BYTES: usize = 64 << 20;
static PIECE: [u8; 1 << 16] = [b'x'; 1 << 16];

/// What a backend does wrong while its fault is on. Its probes pass: nobody warns Homing.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Answers what is not HTTP.
    Garbage,
    /// Accepts a request and closes the connection.
    Hangup,
    /// Answers late, but in time.
    Slow,
}

pub(crate) const FAULTS: [(&str, Fault); 3] =
    [("garbage", Fault::Garbage), ("hangup", Fault::Hangup), ("slow", Fault::Slow)];

/// The backend that resets connections in the middle of a body.
pub(crate) const RESET: &str = "reset";

/// A backend that is well: it tells who it is, and echoes after an upgrade.
pub(crate) fn good(id: &str) -> Backend {
    let own = id.to_owned();
    Backend::new(id, move |request, stream| answer(&own, request, stream))
}

fn answer(id: &str, request: &Received, stream: &mut TcpStream) -> Reply {
    if request.path() == LARGE {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE_BYTES}\r\n\r\n");
        let mut good = stream.write_all(head.as_bytes()).is_ok();
        for _ in 0..LARGE_BYTES / PIECE.len() {
            good = good && stream.write_all(&PIECE).is_ok();
        }
        return Reply::Done;
    }
    if request.header("upgrade").is_none() {
        return Reply::ok(id);
    }
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Backend: {id}\r\n\r\n"
    );
    if stream.write_all(head.as_bytes()).is_err() {
        return Reply::Done;
    }
    echo(stream)
}

/// A backend with a fault that is switched on and off.
pub(crate) struct Faulty {
    pub(crate) id: &'static str,
    address: SocketAddr,
    on: Arc<AtomicBool>,
    _backend: Option<Backend>,
}

impl Faulty {
    fn resetting() -> Self {
        let on = Arc::new(AtomicBool::new(false));
        let (listener, switch) = (TcpListener::bind("127.0.0.1:0").unwrap(), Arc::clone(&on));
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let switch = Arc::clone(&switch);
                thread::spawn(move || reset(stream, &switch));
            }
        });
        Self { id: RESET, address, on, _backend: None }
    }

    fn start(id: &'static str, fault: Fault) -> Self {
        let on = Arc::new(AtomicBool::new(false));
        let switch = Arc::clone(&on);
        let backend = Backend::new(id, move |request, stream| {
            if !switch.load(Ordering::SeqCst) || request.header("upgrade").is_some() {
                return answer(id, request, stream);
            }
            match fault {
                Fault::Garbage => Reply::Last(b"what is this?\r\n\r\n".to_vec()),
                Fault::Hangup => Reply::Done,
                Fault::Slow => {
                    thread::sleep(Duration::from_millis(700));
                    Reply::ok(id)
                }
            }
        });
        Self { id, address: backend.address(), on, _backend: Some(backend) }
    }

    pub(crate) fn set(&self, on: bool) {
        self.on.store(on, Ordering::SeqCst);
    }
}

/// Serves one connection, until the fault is on: then it is reset when half of an answer went out.
fn reset(mut stream: TcpStream, on: &AtomicBool) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let (mut head, mut line) = (String::new(), String::new());
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            head.push_str(&line);
        }
        let probe = head.starts_with("GET /healthz");
        if on.load(Ordering::SeqCst) && !probe {
            let _gone = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
            rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
            return;
        }
        let body = if head.contains("Upgrade:") { "no" } else { RESET };
        let length = body.len();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// Everything that a part needs. What is declared first ends first.
pub(crate) struct Site {
    pub(crate) edge: Edge,
    pub(crate) faulty: Vec<Faulty>,
    pub(crate) killed: Process,
    pub(crate) frozen: Process,
    _good: Vec<Backend>,
}

impl Site {
    pub(crate) fn start() -> Self {
        let good: Vec<Backend> = GOOD.iter().map(|id| good(id)).collect();
        let mut faulty: Vec<Faulty> =
            FAULTS.iter().map(|(id, fault)| Faulty::start(id, *fault)).collect();
        faulty.push(Faulty::resetting());
        let (killed, frozen) = (Process::start(KILLED), Process::start(FROZEN));
        let mut backends: Vec<(String, SocketAddr)> =
            good.iter().map(|backend| (backend.id().to_owned(), backend.address())).collect();
        backends.extend(faulty.iter().map(|faulty| (faulty.id.to_owned(), faulty.address)));
        backends.extend([(KILLED.to_owned(), killed.address), (FROZEN.to_owned(), frozen.address)]);
        let edge = Edge::start_with("access_log: off\n", &file(&backends, SOON));
        Self { edge, faulty, killed, frozen, _good: good }
    }
}

/// Deadlines under which what a backend does wrong is soon noticed.
const SOON: &str = "{ connect: 2s, first_byte: 4s, idle: 4s }";

/// Deadlines that no good backend misses on a busy machine, and slow clients do.
pub(crate) const LATE: &str = "{ first_byte: 30s, idle: 4s }";

/// The end of a file with these backends.
pub(crate) fn file(backends: &[(String, SocketAddr)], timeouts: &str) -> String {
    let mut file = format!(
        "default_app: shop\napps:\n  - name: shop\n\
         \x20   health: {{ path: /healthz, interval: 300ms, timeout: 3s, rise: 1, fall: 2 }}\n\
         \x20   timeouts: {timeouts}\n    backends:\n",
    );
    for (id, address) in backends {
        file.push_str(&format!("      - {{ id: {id}, address: \"{address}\" }}\n"));
    }
    file
}

/// Starts Homing with fewer descriptors than it asks for.
pub(crate) fn start_with_descriptors(count: usize, directory: &Path, source: &str) -> Edge {
    let program = directory.join("homing-with-few-descriptors");
    let real = env!("CARGO_BIN_EXE_homing");
    let script = format!("#!/bin/sh\nulimit -n {count}\nexec {real} \"$@\"\n");
    std::fs::write(&program, script).unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    Edge::launch(&program, &[], source)
}

/// The memory of the process that serves, in MiB.
pub(crate) fn memory(edge: &Edge) -> u64 {
    let text = edge.ask("/metrics").text();
    let line = text.lines().find_map(|line| line.strip_prefix("process_resident_memory_bytes "));
    line.expect("the metric is there").parse::<f64>().unwrap() as u64 >> 20
}
