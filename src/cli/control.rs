//! How commands speak to a running Homing: HTTP and JSON over the socket in its state directory.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::CommandError;
use crate::config;
use crate::shared::Clock;
use crate::supervisor::control_path;

/// How long an answer may take: a restart takes as long as the successor needs.
const ANSWER_LIMIT: Duration = Duration::from_secs(600);

/// How long a command is tried again while a restart is under way.
const BUSY_LIMIT: Duration = Duration::from_secs(120);

/// How long to wait between two tries.
const PAUSE: Duration = Duration::from_millis(200);

/// Longest answer, in bytes.
const ANSWER_BYTES_MAX: u64 = 1 << 30;

/// Which running Homing is meant.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(super) struct Target {
    /// The configuration of the running Homing
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Its state directory
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

impl Target {
    /// The configuration of a file.
    pub(super) fn of(config: PathBuf) -> Self {
        Self { config: Some(config), state_dir: None }
    }

    /// The way to the running Homing.
    pub(super) fn control(&self) -> Result<Control, CommandError> {
        let state_dir = match (&self.state_dir, &self.config) {
            (Some(state_dir), _) => state_dir.clone(),
            // A running Homing is found although there are mistakes in its file by now.
            (None, Some(config)) => config::state_dir(config).map_err(CommandError::Config)?,
            (None, None) => PathBuf::new(),
        };
        Ok(Control(control_path(&state_dir)))
    }
}

/// The way to a running Homing.
pub(super) struct Control(PathBuf);

/// An answer: its status, and what it says.
struct Answer {
    status: u16,
    body: Value,
}

impl Control {
    /// Asks for something to look at.
    pub(super) fn get(&self, path: &str) -> Result<Value, CommandError> {
        self.settle("GET", path, "")
    }

    /// Has something done.
    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value, CommandError> {
        self.settle("POST", path, &body.to_string())
    }

    /// Asks, and again while a restart is under way.
    fn settle(&self, method: &str, path: &str, body: &str) -> Result<Value, CommandError> {
        let clock = Clock::start();
        loop {
            let answer = self.ask(method, path, body);
            let busy = match &answer {
                Ok(answer) => answer.status == 409,
                // The process that took the question ended before it read it.
                Err(error) => [
                    io::ErrorKind::UnexpectedEof,
                    io::ErrorKind::ConnectionReset,
                    io::ErrorKind::BrokenPipe,
                ]
                .contains(&error.kind()),
            };
            if busy && clock.monotonic() < BUSY_LIMIT {
                thread::sleep(PAUSE);
                continue;
            }
            let answer = answer.map_err(|error| self.unreachable(&error))?;
            let text = answer.body["error"].as_str().unwrap_or("it says nothing more");
            return match answer.status {
                200 => Ok(answer.body),
                422 => Err(CommandError::Usage(text.to_owned())),
                404 => Err(CommandError::Usage(text.to_owned())),
                _ => Err(CommandError::Failed(text.to_owned())),
            };
        }
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> io::Result<Answer> {
        let mut stream = UnixStream::connect(&self.0)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: homing\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
        parse(&answer)
    }

    fn unreachable(&self, error: &io::Error) -> CommandError {
        let path = self.0.display();
        let nobody = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused];
        let help = if nobody.contains(&error.kind()) {
            "is Homing running, with this `state_dir`? `homing run -c FILE` starts it"
        } else if error.kind() == io::ErrorKind::PermissionDenied {
            "ask as the user that Homing runs as, or as root"
        } else {
            "the log of Homing may say more"
        };
        CommandError::Failed(format!("cannot reach Homing at {path}: {error}\n  = help: {help}"))
    }
}

/// Takes an answer apart that ended with its connection.
fn parse(answer: &[u8]) -> io::Result<Answer> {
    let early = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let strange = || io::Error::other("the answer makes no sense");
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or_else(early)?;
    let head = std::str::from_utf8(&answer[..end]).map_err(|_| strange())?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = serde_json::from_slice(&answer[end + 4..])?;
    Ok(Answer { status: status.ok_or_else(strange)?, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_apart() {
        let answer = parse(b"HTTP/1.1 409 Conflict\r\nA: b\r\n\r\n{\"error\":\"busy\"}\n").unwrap();
        assert_eq!((answer.status, answer.body["error"].as_str()), (409, Some("busy")));
        assert!(parse(b"").is_err());
        assert!(parse(b"HTTP/1.1 200 OK\r\n\r\nnot json").is_err());
    }
}
