//! The load: clients that keep their connection and their cookie, and clients that come once.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::Dice;
use crate::figures::Figures;
use crate::harness::{Jar, eventually};
use crate::streams;
use crate::wire::{Trouble, Wire};

/// Clients that keep their connection.
pub(crate) const KEEPING: usize = 64;

/// Of these, as many never pause, and as many pause long enough to be idle; the rest pause a little.
const EAGER: usize = 8;
const CALM: usize = 16;

/// WebSockets.
pub(crate) const WEBSOCKETS: usize = 50;

/// Threads of clients that come once, and how often each sends one: 50 a second in all.
const FRESH: usize = 4;
const FRESH_PAUSE: Duration = Duration::from_millis(80);

/// Where a backend takes its time.
pub(crate) const SLOW: &str = "/slow";

/// What all clients share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) address: SocketAddr,
    pub(crate) figures: Figures,
    stop: AtomicBool,
    /// A backend whose clients may move.
    leaving: RwLock<Option<String>>,
}

impl Shared {
    pub(crate) fn is_over(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Takes note of the backend that answered a client with a cookie.
    pub(crate) fn judge(&self, who: &str, pin: &mut Option<String>, home: &str) {
        match pin.as_deref() {
            Some(before) if before == home => return,
            Some(before) if self.leaving.read().unwrap().as_deref() == Some(before) => {
                self.figures.led_away.fetch_add(1, Ordering::SeqCst);
            }
            Some(before) => {
                self.figures.fail(Trouble::Moved, || format!("{who}: from {before} to {home}"));
            }
            None => {}
        }
        *pin = Some(home.to_owned());
    }
}

/// What one client shows to the test.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    pub(crate) home: Mutex<Option<String>>,
    /// Requests without an answer.
    pub(crate) lost: AtomicU64,
}

type Work = Box<dyn FnOnce(&Shared, &str) + Send>;

/// A load that runs.
pub(crate) struct Load {
    pub(crate) shared: Arc<Shared>,
    /// The clients that keep their connection.
    pub(crate) clients: Vec<Arc<Shown>>,
    /// The WebSockets.
    pub(crate) streams: Vec<Arc<Shown>>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts all clients, and waits until each had an answer.
    pub(crate) fn start(address: SocketAddr) -> Self {
        let shared = Arc::new(Shared {
            address,
            figures: Figures::default(),
            stop: AtomicBool::new(false),
            leaving: RwLock::default(),
        });
        let mut threads = Vec::new();
        let mut run = |name: String, work: Work| {
            let (shared, own) = (Arc::clone(&shared), name.clone());
            let body = move || work(&shared, &own);
            threads.push(thread::Builder::new().name(name).spawn(body).unwrap());
        };
        let shown = |count| (0..count).map(|_| Arc::new(Shown::default())).collect::<Vec<_>>();
        let (clients, streams) = (shown(KEEPING), shown(WEBSOCKETS));
        for (number, shown) in clients.iter().enumerate() {
            let shown = Arc::clone(shown);
            let work = move |shared: &Shared, name: &str| keep(shared, name, number, &shown);
            run(format!("client {number}"), Box::new(work));
        }
        for (number, shown) in streams.iter().enumerate() {
            let shown = Arc::clone(shown);
            let work =
                move |shared: &Shared, name: &str| streams::hold(shared, name, number, &shown);
            run(format!("websocket {number}"), Box::new(work));
        }
        for number in 0..FRESH {
            run(format!("visitors {number}"), Box::new(visit));
        }
        let load = Self { shared, clients, streams, threads };
        eventually("every client had an answer", || {
            let mut all = load.clients.iter().chain(&load.streams);
            all.all(|shown| shown.home.lock().unwrap().is_some()).then_some(())
        });
        load
    }

    pub(crate) fn figures(&self) -> &Figures {
        &self.shared.figures
    }

    /// The clients of this backend may move from now on.
    pub(crate) fn let_leave(&self, backend: &str) {
        *self.shared.leaving.write().unwrap() = Some(backend.to_owned());
    }

    /// Waits until as many requests more were answered.
    #[track_caller]
    pub(crate) fn goes_on(&self, more: u64) {
        let answered = || self.figures().requests.load(Ordering::SeqCst);
        let before = answered();
        eventually("the load goes on", || (answered() >= before + more).then_some(()));
    }

    /// Ends all clients, each after the answer that it waits for.
    pub(crate) fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
    }
}

fn request(jar: &Jar, turn: u64, last: bool) -> (String, bool) {
    let close = if last { "Connection: close\r\n" } else { "" };
    let rest = format!("Host: shop.example.com\r\n{close}{}", jar.header());
    // Some take longer than a change does; some are not to be repeated.
    match turn % 16 {
        5 => (format!("GET {SLOW} HTTP/1.1\r\n{rest}\r\n"), true),
        10 => {
            let body = "x".repeat(2_000);
            (format!("POST / HTTP/1.1\r\n{rest}Content-Length: 2000\r\n\r\n{body}"), false)
        }
        _ => (format!("GET / HTTP/1.1\r\n{rest}\r\n"), false),
    }
}

/// One client that keeps its connection and its cookie.
fn keep(shared: &Shared, name: &str, number: usize, shown: &Shown) {
    let figures = &shared.figures;
    let mut dice = Dice(number as u64);
    let (mut jar, mut pin, mut wire, mut turn) = (Jar::default(), None, None::<Wire>, 0);
    let calm = (EAGER..EAGER + CALM).contains(&number);
    while !shared.is_over() {
        if calm && wire.take_if(|wire| wire.used && wire.is_closed()).is_some() {
            figures.idle_closed.fetch_add(1, Ordering::SeqCst);
        }
        let begun = Instant::now();
        let connected = match wire.take() {
            Some(wire) => Ok(wire),
            None => Wire::connect(shared.address).inspect(|_| {
                figures.connections.fetch_add(1, Ordering::SeqCst);
            }),
        };
        let (request, slow) = request(&jar, turn, false);
        turn += 1;
        let answered = connected.and_then(|mut wire| {
            let kept = wire.used;
            let answer = wire.exchange(&request);
            let race =
                |trouble| kept && calm && [Trouble::Ended, Trouble::Reset].contains(&trouble);
            let answer = answer.map_err(|mut failure| {
                if !failure.answered && race(failure.trouble) {
                    failure.trouble = Trouble::Race;
                }
                failure
            });
            answer.map(|answer| (answer, wire))
        });
        match answered {
            Ok((response, own)) if response.status == 200 => {
                figures.requests.fetch_add(1, Ordering::SeqCst);
                if !slow {
                    figures.took(begun.elapsed());
                }
                jar.take(&response);
                shared.judge(name, &mut pin, &response.text());
                shown.home.lock().unwrap().clone_from(&pin);
                let goes = response.header("connection") == Some("close");
                wire = (!goes).then_some(own);
            }
            Ok((response, _)) => {
                shown.lost.fetch_add(1, Ordering::SeqCst);
                figures.fail(Trouble::Status, || format!("{name}: {response:?}"));
            }
            Err(failure) => {
                shown.lost.fetch_add(1, Ordering::SeqCst);
                figures.failed(&failure, name);
            }
        }
        let pause = match number {
            0..EAGER => 0,
            _ if calm => 50 + dice.roll(350) as u64,
            _ => 5 + dice.roll(10) as u64,
        };
        thread::sleep(Duration::from_millis(pause));
    }
}

/// Clients that come once.
fn visit(shared: &Shared, name: &str) {
    let figures = &shared.figures;
    let mut turn = 0;
    while !shared.is_over() {
        let begun = Instant::now();
        let (request, slow) = request(&Jar::default(), turn, true);
        turn += 1;
        let answered = Wire::connect(shared.address).and_then(|mut wire| {
            figures.connections.fetch_add(1, Ordering::SeqCst);
            wire.exchange(&request)
        });
        match answered {
            Ok(response) if response.status == 200 => {
                figures.requests.fetch_add(1, Ordering::SeqCst);
                if !slow {
                    figures.took(begun.elapsed());
                }
            }
            Ok(response) => figures.fail(Trouble::Status, || format!("{name}: {response:?}")),
            Err(failure) => figures.failed(&failure, name),
        }
        thread::sleep(FRESH_PAUSE.saturating_sub(begun.elapsed()));
    }
}
