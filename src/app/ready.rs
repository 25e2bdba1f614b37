//! The proof that a process serves: its own endpoint answers, through the service that clients use.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::balancer::app::members::{Admission, Closed};
use crate::shared::{Clock, Published};

/// How long the endpoint may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// How long first verdicts may take. Backends that answer no probe in this time are waited for by
/// requests, not by the restart.
const VERDICT_LIMIT: Duration = Duration::from_secs(10);

/// How often is looked.
const POLL: Duration = Duration::from_millis(5);

const QUESTION: &[u8] = b"GET / HTTP/1.1\r\nHost: homing\r\nConnection: close\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 204 ";

/// Waits until every backend had its first verdict.
pub(super) fn await_verdicts(published: &Published, clock: Clock) {
    let end = clock.monotonic() + VERDICT_LIMIT;
    while clock.monotonic() < end {
        let snapshot = published.load();
        let unknown = Admission::Closed(Closed::Unknown);
        let mut admissions = snapshot.apps.iter().flat_map(|view| view.admissions());
        if !admissions.any(|(_, admission)| admission == unknown) {
            return;
        }
        thread::sleep(POLL);
    }
    tracing::warn!("some backends answered no probe yet");
}

/// Waits until the endpoint at `path` answers.
///
/// # Errors
/// When it does not in time, with what happened last.
pub(super) fn await_answer(path: &Path, clock: Clock) -> io::Result<()> {
    let end = clock.monotonic() + ANSWER_LIMIT;
    loop {
        match ask(path) {
            Ok(()) => return Ok(()),
            Err(error) if clock.monotonic() >= end => return Err(error),
            Err(_) => thread::sleep(POLL),
        }
    }
}

fn ask(path: &Path) -> io::Result<()> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.write_all(QUESTION)?;
    let mut answer = [0; ANSWER.len()];
    stream.read_exact(&mut answer)?;
    if answer == *ANSWER { Ok(()) } else { Err(io::Error::other("it answers something else")) }
}
