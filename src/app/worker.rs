//! A process that serves under a supervisor: from its first moment to the one when it is the one.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::Files;
use super::keys::{Missing, keyring};
use super::orders::{Orders, Signalled};
use super::watch::Fingerprint;
use super::{Bound, Edge, Origin, Process, StartError, handover, operator, ready};
use crate::config::{self, Config, ConfigError};
use crate::supervisor::channel::Channel;
use crate::supervisor::endpoint_name;
use crate::supervisor::message::{FromWorker, PROTOCOL, ToWorker, Wants};

/// What a worker begins with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Begin {
    /// With the file as it is; it is the first, and makes what is missing.
    First,
    /// With the file as it is.
    Fresh,
    /// With the configuration that was accepted last, which is in this state directory: what is in the
    /// file by now may have been refused.
    Recover(PathBuf),
}

/// Why a worker cannot start or go on.
#[derive(Debug)]
pub enum WorkError {
    /// There is a mistake in the file.
    Config(ConfigError),
    /// Anything else.
    Start(StartError),
}

impl From<StartError> for WorkError {
    fn from(error: StartError) -> Self {
        Self::Start(error)
    }
}

/// Serves the configuration at `path` for the supervisor at the other end of `channel`, until told to
/// finish.
///
/// # Errors
/// When it cannot start, or the server ends by itself.
pub fn work(path: &Path, begin: Begin, channel: &Arc<Channel>) -> Result<(), WorkError> {
    let orders = Orders::catch(Signalled::Supervised).map_err(StartError::System)?;
    let read = read(path, &begin).map_err(WorkError::Config)?;
    let missing = if begin == Begin::First { Missing::Make } else { Missing::Refuse };
    let process = start(path, read, missing, channel)?;
    channel.send(&FromWorker::Ready, None).map_err(StartError::System)?;
    orders.listen_to(channel).map_err(StartError::System)?;
    Ok(process.run(&orders)?)
}

/// A configuration, with what it came from.
struct Read {
    config: Config,
    source: String,
    /// What the files looked like before they were read.
    fingerprint: Fingerprint,
}

fn read(path: &Path, begin: &Begin) -> Result<Read, ConfigError> {
    if let Begin::Recover(state_dir) = begin
        && let Some(source) = Files::new(state_dir).accepted()
        && let Ok(config) = config::parse(path, source.clone())
    {
        tracing::info!("taking up the configuration that was accepted last");
        return Ok(Read { config, source, fingerprint: Fingerprint::unread(path) });
    }
    let fingerprint = Fingerprint::of([path]);
    let source = config::read(path)?;
    let config = config::parse(path, source.clone())?;
    let fingerprint = fingerprint.with(operator::paths(path, &config));
    Ok(Read { config, source, fingerprint })
}

/// Gets everything ready and lets clients in. Whatever fails, fails here.
fn start(
    path: &Path,
    first_read: Read,
    missing: Missing,
    channel: &Arc<Channel>,
) -> Result<Process, WorkError> {
    let (sockets, state) = equip(&first_read.config, channel)?;
    let carried = state.map(handover::take).transpose();
    let carried = carried.unwrap_or_else(|error| {
        tracing::warn!(%error, "the process before does not say what it knows of backends");
        None
    });
    let takes_over = carried.is_some();
    let Read { config, source, fingerprint } =
        if takes_over { latest(path, first_read)? } else { first_read };
    // Not before the state directory is ours: of two that start at once, only one makes a key.
    let keyring = keyring(&config, missing)?;
    if let Some(doubts) = config::doubts(path, &source, &config) {
        tracing::warn!("accepted, but look: {doubts}");
    }
    let endpoint = config.state_dir.join(endpoint_name(std::process::id()));
    let _unlinked = Endpoint::at(&endpoint);
    let bound = Bound::received(&config, sockets, &endpoint);
    // Read only now: whoever serves changes it no more.
    let administrative = Files::new(&config.state_dir).administrative()?;
    let mut edge = Edge::on(config, keyring, bound.map_err(StartError::System)?)?;
    edge.origin = Origin {
        file: Some((path.to_owned(), fingerprint)),
        source: Some(source),
        supervisor: Some(Arc::clone(channel)),
        administrative,
        carried,
    };
    let process = edge.start()?;
    let (serving, clock) = (&process.serving, process.serving.clock);
    if takes_over {
        ready::await_verdicts(&serving.published, clock);
    }
    serving.gates.open_clients();
    let serves = ready::await_answer(&endpoint, clock);
    serves
        .map_err(|error| StartError::Supervisor(format!("the worker does not serve: {error}")))?;
    Ok(process)
}

/// The configuration as it is now. Until the process before said what it knows it may have taken in a
/// file that is newer than the one that was read; from then on it does not.
fn latest(path: &Path, read_before: Read) -> Result<Read, WorkError> {
    if !read_before.fingerprint.is_there() || !read_before.fingerprint.has_changed() {
        return Ok(read_before);
    }
    let again = read(path, &Begin::Fresh).map_err(WorkError::Config)?;
    if Bound::wanted(&again.config) != Bound::wanted(&read_before.config) {
        let text = "the listeners changed while the successor started: ask again";
        return Err(StartError::Supervisor(text.into()).into());
    }
    Ok(again)
}

/// Asks the supervisor for sockets. Answers with them, and with where to read what is known of the
/// backends.
fn equip(
    config: &Config,
    channel: &Channel,
) -> Result<(Vec<OwnedFd>, Option<OwnedFd>), StartError> {
    let wants = Wants {
        protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").into(),
        state_dir: std::path::absolute(&config.state_dir).map_err(StartError::System)?,
        addresses: Bound::wanted(config),
    };
    let wanted = wants.addresses.len();
    channel.send(&FromWorker::Wants(wants), None).map_err(StartError::System)?;
    let mut sockets = Vec::new();
    loop {
        let received = channel.receive::<ToWorker>().map_err(StartError::System)?;
        match received {
            Some((ToWorker::Socket, Some(socket))) => sockets.push(socket),
            Some((ToWorker::Begin, state)) if sockets.len() == wanted => {
                return Ok((sockets, state));
            }
            Some((ToWorker::Refused { text }, _)) => return Err(StartError::Supervisor(text)),
            // Signals for all workers may come before.
            Some((ToWorker::Reopen, _)) => {}
            Some((other, _)) => {
                let text = format!("the supervisor says what makes no sense: {other:?}");
                return Err(StartError::Supervisor(text));
            }
            None => return Err(StartError::Supervisor("the supervisor is gone".into())),
        }
    }
}

/// The path of an endpoint; what is there goes when this is dropped.
struct Endpoint<'p>(&'p Path);

impl<'p> Endpoint<'p> {
    fn at(path: &'p Path) -> Self {
        let _another_of_this_number = std::fs::remove_file(path);
        Self(path)
    }
}

impl Drop for Endpoint<'_> {
    fn drop(&mut self) {
        let _never_made = std::fs::remove_file(self.0);
    }
}
