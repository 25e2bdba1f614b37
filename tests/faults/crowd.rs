//! Clients that do nothing, and clients that take all the time they are given.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::harness::eventually;
use crate::site::LARGE;

/// What a slow client is slow at.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Slow {
    Body,
    Head,
    Reading,
}

/// Between two bytes of a slow client.
const DRIP: Duration = Duration::from_millis(100);

/// Connections that are open.
#[derive(Default)]
pub(crate) struct Crowd {
    idle: Vec<TcpStream>,
    slow: Vec<JoinHandle<()>>,
    over: Arc<AtomicBool>,
    /// Slow ones that Homing ended.
    ended: Arc<AtomicUsize>,
    started: usize,
}

impl Crowd {
    /// Opens connections that say nothing. Stops early when the kernel lets nobody queue.
    pub(crate) fn idle(&mut self, address: SocketAddr, count: usize, patience: Duration) -> usize {
        for _ in 0..count {
            match TcpStream::connect_timeout(&address, patience) {
                Ok(stream) => self.idle.push(stream),
                Err(_) => break,
            }
        }
        self.idle.len()
    }

    /// Opens connections that go on for as long as they are let.
    pub(crate) fn slow(&mut self, address: SocketAddr, kind: Slow, count: usize) {
        let mut streams = Vec::new();
        for _ in 0..count {
            let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap();
            stream.write_all(kind.start().as_bytes()).unwrap();
            stream.set_nonblocking(true).unwrap();
            streams.push(stream);
        }
        // Who does not read does not learn that it is over: the counters of Homing say so.
        self.started += if matches!(kind, Slow::Reading) { 0 } else { count };
        let (over, ended) = (Arc::clone(&self.over), Arc::clone(&self.ended));
        self.slow.push(thread::spawn(move || {
            while !over.load(Ordering::SeqCst) {
                let before = streams.len();
                streams.retain_mut(|stream| kind.goes_on(stream));
                ended.fetch_add(before - streams.len(), Ordering::SeqCst);
                thread::sleep(DRIP);
            }
        }));
    }

    /// Waits until Homing ended all slow ones.
    #[track_caller]
    pub(crate) fn slow_are_ended(&self) {
        eventually("slow clients are ended", || {
            (self.ended.load(Ordering::SeqCst) == self.started).then_some(())
        });
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        for thread in self.slow.drain(..) {
            let _ended = thread.join();
        }
    }
}

impl Slow {
    fn start(self) -> String {
        match self {
            Self::Head => "GET / HTTP/1.1\r\nHost: shop.example.com\r\nX-Long: ".to_owned(),
            Self::Body => {
                "POST / HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 1000000\r\n\r\n"
                    .to_owned()
            }
            Self::Reading => format!("GET {LARGE} HTTP/1.1\r\nHost: shop.example.com\r\n\r\n"),
        }
    }

    /// Does a little. Answers whether the connection is still there.
    fn goes_on(self, stream: &mut TcpStream) -> bool {
        let done = match self {
            Self::Head => stream.write(b"x"),
            // Nothing more: the body never comes.
            Self::Body => stream.peek(&mut [0]),
            Self::Reading => return true,
        };
        match done {
            Ok(0) => false,
            Ok(_) => !(matches!(self, Self::Body) && is_cut(stream)),
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }
}

/// Whether the other side is done with the connection, whatever is left to read.
fn is_cut(stream: &TcpStream) -> bool {
    let mut fds = [rustix::event::PollFd::new(&stream, rustix::event::PollFlags::RDHUP)];
    let none = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    let polled = rustix::event::poll(&mut fds, Some(&none));
    let gone = rustix::event::PollFlags::RDHUP
        | rustix::event::PollFlags::HUP
        | rustix::event::PollFlags::ERR;
    polled.is_ok() && fds[0].revents().intersects(gone)
}
