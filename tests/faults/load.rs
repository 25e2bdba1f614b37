//! Good clients: some keep their connection and their pin, some come once, some hold a WebSocket.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::harness::{Jar, eventually};
use crate::site::GOOD;
use crate::wire::{Failure, Wire};

/// What a client got in place of an answer whose beginning it had seen.
const CUT: &str = "cut";

/// Failures that are documented for a backend that is ill: their codes, and the labels they are counted under.
/// H99 and the like would be a fault of Homing.
const DOCUMENTED: [(&str, &str); 8] = [
    ("H12", "first_byte_timeout"),
    ("H13", "backend_silent"),
    ("H15", "backend_idle"),
    ("H17", "bad_response"),
    ("H18", "backend_interrupted"),
    ("H19", "connect_timeout"),
    ("H21", "connect_refused"),
    (CUT, "backend_interrupted"),
];

/// Between two messages of a stream, and between two streams.
const STREAM_PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, Default)]
pub(crate) struct Shared {
    stop: AtomicBool,
    /// Requests that were answered well.
    pub(crate) answered: AtomicU64,
    pub(crate) echoes: AtomicU64,
    /// Failures by code.
    failures: Mutex<BTreeMap<String, u64>>,
    /// Moves away from backends with a fault.
    pub(crate) moved: AtomicU64,
    /// What must not be.
    wrong: Mutex<Vec<String>>,
    /// The pins of the clients that have one now.
    pins: Mutex<BTreeMap<usize, String>>,
}

impl Shared {
    fn is_over(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    fn wrong(&self, text: String) {
        self.wrong.lock().unwrap().push(text);
    }

    fn failed(&self, code: &str) {
        *self.failures.lock().unwrap().entry(code.to_owned()).or_default() += 1;
    }
}

/// Who may meet a failure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Faults {
    /// Clients of backends with a fault, and newcomers that are drawn to them.
    OfBackends,
    /// Nobody.
    None,
}

pub(crate) struct Load {
    pub(crate) shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts clients, and waits until each had an answer.
    pub(crate) fn start(
        address: SocketAddr,
        clients: usize,
        streams: usize,
        faults: Faults,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let mut threads = Vec::new();
        for number in 0..clients {
            let shared = Arc::clone(&shared);
            threads.push(thread::spawn(move || keep(&shared, address, number, faults)));
        }
        for number in 0..streams {
            let shared = Arc::clone(&shared);
            threads.push(thread::spawn(move || hold(&shared, address, number, faults)));
        }
        let own = Arc::clone(&shared);
        threads.push(thread::spawn(move || visit(&own, address, faults)));
        eventually("every client has its pin", || {
            (shared.pins.lock().unwrap().len() == clients).then_some(())
        });
        Self { shared, threads }
    }

    /// Waits until as many requests more were answered.
    #[track_caller]
    pub(crate) fn goes_on(&self, more: u64) {
        let answered = || self.shared.answered.load(Ordering::SeqCst);
        let before = answered();
        eventually("the load goes on", || (answered() >= before + more).then_some(()));
        self.judge();
    }

    /// Stops the test at what must not be.
    #[track_caller]
    pub(crate) fn judge(&self) {
        let wrong = self.shared.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "{} wrong: {:?}", wrong.len(), wrong.first());
    }

    /// How many clients are pinned to this backend.
    pub(crate) fn pinned_to(&self, backend: &str) -> usize {
        self.shared.pins.lock().unwrap().values().filter(|own| *own == backend).count()
    }

    /// Ends all clients. Answers with the failures they saw, by label.
    pub(crate) fn stop(&mut self) -> BTreeMap<&'static str, u64> {
        self.shared.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        self.judge();
        let mut labels = BTreeMap::new();
        for (code, count) in &*self.shared.failures.lock().unwrap() {
            let label = DOCUMENTED.iter().find(|(own, _)| own == code).unwrap().1;
            *labels.entry(label).or_default() += count;
        }
        labels
    }

    pub(crate) fn line(&self) -> String {
        let read = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        let shared = &self.shared;
        let failures = shared.failures.lock().unwrap();
        let (answered, moved) = (read(&shared.answered), read(&shared.moved));
        format!(
            "{answered} answered, {} echoes, {moved} moved, failures {failures:?}",
            read(&shared.echoes)
        )
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
    }
}

/// What one request came to: who answered, or the code of a documented failure.
fn ask(wire: &mut Wire, jar: &mut Jar) -> Result<Result<String, String>, Failure> {
    let request = format!("GET / HTTP/1.1\r\nHost: shop.example.com\r\n{}\r\n", jar.header());
    match wire.exchange(&request) {
        Ok(response) => {
            jar.take(&response);
            Ok(match (response.status, response.header("x-homing-error")) {
                (200, _) => Ok(response.text()),
                (_, code) => Err(code.unwrap_or("none").to_owned()),
            })
        }
        Err(failure) if failure.answered => Ok(Err(CUT.to_owned())),
        Err(failure) => Err(failure),
    }
}

/// Takes note of a failure: a documented one, and only of a client whose backend may fail.
fn fail(shared: &Shared, who: &str, home: Option<&str>, code: &str, faults: Faults) {
    let known = DOCUMENTED.iter().any(|(own, _)| *own == code);
    let healthy = home.is_some_and(|home| GOOD.contains(&home));
    if !known || healthy || faults == Faults::None {
        shared.wrong(format!("{who}, at home on {home:?}, got {code}"));
    } else {
        shared.failed(code);
    }
}

/// One client that keeps its connection and its pin.
fn keep(shared: &Shared, address: SocketAddr, number: usize, faults: Faults) {
    let (mut jar, mut home, mut wire) = (Jar::default(), None::<String>, None::<Wire>);
    let who = format!("client {number}");
    while !shared.is_over() {
        let connected = wire.take().map_or_else(|| Wire::connect(address), Ok);
        let asked =
            connected.and_then(|mut own| ask(&mut own, &mut jar).map(|answer| (answer, own)));
        match asked {
            Ok((Ok(backend), own)) => {
                shared.answered.fetch_add(1, Ordering::SeqCst);
                wire = Some(own);
                match home.as_deref() {
                    Some(before) if before == backend => {}
                    Some(before) if GOOD.contains(&before) => {
                        shared.wrong(format!("{who} was moved from {before} to {backend}"));
                    }
                    Some(_) => drop(shared.moved.fetch_add(1, Ordering::SeqCst)),
                    None => {}
                }
                shared.pins.lock().unwrap().insert(number, backend.clone());
                home = Some(backend);
            }
            // Homing closes the connection behind an error.
            Ok((Err(code), _)) => fail(shared, &who, home.as_deref(), &code, faults),
            Err(failure) => {
                shared.wrong(format!("{who}, at home on {home:?}: {}", failure.text));
            }
        }
        thread::sleep(Duration::from_millis(10 + number as u64 % 7));
    }
}

/// Clients that come once.
fn visit(shared: &Shared, address: SocketAddr, faults: Faults) {
    while !shared.is_over() {
        let asked = Wire::connect(address).and_then(|mut wire| ask(&mut wire, &mut Jar::default()));
        match asked {
            Ok(Ok(_)) => drop(shared.answered.fetch_add(1, Ordering::SeqCst)),
            Ok(Err(code)) => fail(shared, "a visitor", None, &code, faults),
            Err(failure) => shared.wrong(format!("a visitor: {}", failure.text)),
        }
        thread::sleep(Duration::from_millis(25));
    }
}

/// A WebSocket after the other. One on a backend that is well is never ended.
fn hold(shared: &Shared, address: SocketAddr, number: usize, faults: Faults) {
    let mut jar = Jar::default();
    while !shared.is_over() {
        let opened = Wire::connect(address).and_then(|mut wire| {
            let request = format!(
                "GET /socket HTTP/1.1\r\nHost: shop.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{}\r\n",
                jar.header()
            );
            wire.exchange(&request).map(|response| (response, wire))
        });
        let (response, mut wire) = match opened {
            Ok(opened) => opened,
            Err(failure) => {
                match failure.answered {
                    true => fail(shared, "a stream", None, CUT, faults),
                    false => shared.wrong(format!("a stream: {}", failure.text)),
                }
                thread::sleep(STREAM_PAUSE);
                continue;
            }
        };
        jar.take(&response);
        let home = response.header("x-backend").unwrap_or("none").to_owned();
        // Who resets connections speaks no other protocol.
        if response.status >= 400 {
            let code = response.header("x-homing-error").unwrap_or("none");
            fail(shared, "a stream", None, code, faults);
        }
        while response.status == 101 && !shared.is_over() {
            match wire.echo(&number.to_be_bytes()) {
                Ok(true) => drop(shared.echoes.fetch_add(1, Ordering::SeqCst)),
                Ok(false) => shared.wrong(format!("stream {number}: another echo")),
                Err(error) => {
                    if GOOD.contains(&home.as_str()) {
                        shared.wrong(format!("stream {number} on {home} ended: {error}"));
                    }
                    break;
                }
            }
            thread::sleep(STREAM_PAUSE);
        }
        thread::sleep(STREAM_PAUSE);
    }
}

/// Labels under which failures of backends are counted.
pub(crate) fn labels() -> BTreeSet<&'static str> {
    DOCUMENTED.iter().map(|(_, label)| *label).collect()
}
