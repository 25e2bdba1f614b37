//! Who sends as much as the edge takes, and reads at the same time, or not at all.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::wire::{Frame, GOAWAY};

/// How long a flood goes on at most that nobody ends.
const LONGEST: Duration = Duration::from_secs(20);

/// How a flood ended.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Flooded {
    /// Whether all of it was taken.
    pub(crate) taken: bool,
    /// The code of the GOAWAY.
    pub(crate) code: Option<u32>,
    /// Whether the edge ended the connection.
    pub(crate) ended: bool,
}

/// Whether who floods reads what comes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reads {
    No,
    Yes,
}

/// Sends pieces until there are no more or the connection is over.
pub(crate) fn flood(
    stream: &TcpStream,
    reads: Reads,
    pieces: impl Iterator<Item = Vec<u8>>,
) -> Flooded {
    let over = Arc::new(AtomicBool::new(false));
    let reader = (reads == Reads::Yes).then(|| {
        let (own, over) = (stream.try_clone().unwrap(), Arc::clone(&over));
        thread::spawn(move || read(own, &over))
    });
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let end = Instant::now() + LONGEST;
    let mut flooded = Flooded { taken: true, ..Flooded::default() };
    for piece in pieces {
        if !send(stream, &piece, end) {
            flooded.taken = false;
            break;
        }
    }
    if let Some(reader) = reader {
        // What is said at last comes soon, or not at all.
        over.store(true, Ordering::SeqCst);
        let (code, ended) = reader.join().unwrap();
        (flooded.code, flooded.ended) = (code, ended);
    }
    flooded
}

/// Whether all of it was taken; a pause is no end.
fn send(mut stream: &TcpStream, mut piece: &[u8], end: Instant) -> bool {
    while !piece.is_empty() && Instant::now() < end {
        match stream.write(piece) {
            Ok(0) => return false,
            Ok(count) => piece = &piece[count..],
            Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => {}
            Err(_) => return false,
        }
    }
    piece.is_empty()
}

/// Reads until the connection ends, or has been quiet for a while after the last piece was sent.
fn read(mut stream: TcpStream, over: &AtomicBool) -> (Option<u32>, bool) {
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let (mut bytes, mut buffer, mut code) = (Vec::new(), vec![0; 65_536], None);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return (code, true),
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => {
                if over.load(Ordering::SeqCst) {
                    return (code, false);
                }
            }
            Err(_) => return (code, true),
        }
        let mut at = 0;
        while let Some((frame, length)) = Frame::read(&bytes[at..]) {
            at += length;
            if frame.kind == GOAWAY {
                code = Some(frame.number(4));
            }
        }
        bytes.drain(..at);
    }
}
