//! From one process to the next: what is known of the backends, what was counted, and what the one
//! before still does.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{mpsc, watch};

use super::Serving;
use crate::balancer::app::members::AdminState;
use crate::balancer::app::totals::AllTotals;
use crate::balancer::carry::Carried;
use crate::balancer::name::{AppName, BackendId};
use crate::balancer::rebalance::handed::Handed;
use crate::balancer::state::Event;
use crate::shared::{Elsewhere, Load};

/// How long a process that serves may take to say what it knows of the backends.
const STATE_LIMIT: Duration = Duration::from_secs(10);

/// Most of that, in bytes. 100,000 apps of ten backends take about 150 MiB.
const STATE_BYTES_MAX: u64 = 1 << 30;

/// How often a process that finishes reports.
pub(super) const REPORT_INTERVAL: Duration = Duration::from_millis(250);

/// How long a successor may take to read a report.
const REPORT_LIMIT: Duration = Duration::from_secs(2);

/// How long the first report may take: until then nobody is told what was counted.
pub(super) const FIRST_LIMIT: Duration = Duration::from_secs(2);

/// Where the end of a last report is told.
pub(super) type Done = std::sync::mpsc::Sender<()>;

/// Commands that may wait to be told to a process that finishes.
const TOLD_MAX: usize = 256;

/// What a process that finishes has to say.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Report {
    /// What apps and backends counted since the last report.
    totals: AllTotals,
    /// Who its clients are, told once.
    #[serde(default)]
    clients: Handed,
    /// What the process counted since the last report.
    process: Counts,
    /// Since when it watched the use of keys, in Unix seconds.
    watching_since: Option<u64>,
    /// What it has in hand at this moment.
    elsewhere: Elsewhere,
}

/// What a process counts of itself.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Counts {
    pub(super) accepted: u64,
    pub(super) log_dropped: u64,
    pub(super) log_failed: u64,
    pub(super) reloads_accepted: u64,
    pub(super) reloads_refused: u64,
    #[serde(default)]
    pub(super) spans_sent: u64,
    #[serde(default)]
    pub(super) spans_dropped: u64,
    #[serde(default)]
    pub(super) spans_failed: u64,
    #[serde(default)]
    pub(super) acme_issued: u64,
    #[serde(default)]
    pub(super) acme_failed: u64,
    #[serde(default)]
    pub(super) closed_address: u64,
    #[serde(default)]
    pub(super) closed_total: u64,
    /// Handshakes of TLS, by what became of them.
    #[serde(default)]
    pub(super) handshakes: Labelled,
    /// Connections without the header that was expected, by reason.
    #[serde(default)]
    pub(super) unproxied: Labelled,
    /// Connections of HTTP/2 that were ended, by fault.
    #[serde(default)]
    pub(super) http2_faults: Labelled,
}

/// Counts by label, since there may be others in another version.
pub(super) type Labelled = BTreeMap<String, u64>;

/// What was counted, by label; what never was is left out.
pub(super) fn labelled<L: Into<String>>(counts: impl IntoIterator<Item = (L, u64)>) -> Labelled {
    let counted = counts.into_iter().filter(|(_, count)| *count > 0);
    counted.map(|(label, count)| (label.into(), count)).collect()
}

fn since(now: &Labelled, earlier: &Labelled) -> Labelled {
    labelled(now.iter().map(|(label, count)| {
        let before = earlier.get(label).copied().unwrap_or_default();
        (label.as_str(), count.saturating_sub(before))
    }))
}

impl Counts {
    fn minus(&self, earlier: &Self) -> Self {
        Self {
            handshakes: since(&self.handshakes, &earlier.handshakes),
            accepted: self.accepted.saturating_sub(earlier.accepted),
            log_dropped: self.log_dropped.saturating_sub(earlier.log_dropped),
            log_failed: self.log_failed.saturating_sub(earlier.log_failed),
            reloads_accepted: self.reloads_accepted.saturating_sub(earlier.reloads_accepted),
            reloads_refused: self.reloads_refused.saturating_sub(earlier.reloads_refused),
            spans_sent: self.spans_sent.saturating_sub(earlier.spans_sent),
            spans_dropped: self.spans_dropped.saturating_sub(earlier.spans_dropped),
            spans_failed: self.spans_failed.saturating_sub(earlier.spans_failed),
            acme_issued: self.acme_issued.saturating_sub(earlier.acme_issued),
            acme_failed: self.acme_failed.saturating_sub(earlier.acme_failed),
            closed_address: self.closed_address.saturating_sub(earlier.closed_address),
            closed_total: self.closed_total.saturating_sub(earlier.closed_total),
            unproxied: since(&self.unproxied, &earlier.unproxied),
            http2_faults: since(&self.http2_faults, &earlier.http2_faults),
        }
    }
}

/// What a process that finishes is told.
#[derive(Debug, Deserialize, Serialize)]
struct Told {
    app: String,
    backend: String,
    state: String,
    /// Milliseconds until the deadline of a drain.
    deadline_ms: Option<u64>,
}

/// Writes what is known of the backends to a successor.
pub(super) async fn give(carried: Carried, to: OwnedFd) {
    let write = async {
        // What is known of 100,000 apps takes a while to write, for which deadlines and probes do not wait.
        let bytes = tokio::task::spawn_blocking(move || serde_json::to_vec(&carried));
        stream(to)?.write_all(&bytes.await.map_err(io::Error::other)??).await
    };
    match tokio::time::timeout(STATE_LIMIT, write).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "cannot hand over what is known of backends"),
        Err(_) => tracing::warn!("the successor does not take what is known of backends"),
    }
}

/// Reads what the process that serves knows of the backends.
///
/// # Errors
/// When it says nothing in time, or nothing that makes sense.
pub(super) fn take(from: OwnedFd) -> io::Result<Carried> {
    use std::io::Read;
    let stream = StdUnixStream::from(from);
    stream.set_read_timeout(Some(STATE_LIMIT))?;
    let mut bytes = Vec::new();
    stream.take(STATE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}

fn stream(fd: OwnedFd) -> io::Result<UnixStream> {
    let stream = StdUnixStream::from(fd);
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// What was told so far, so that only what came since is told next.
#[derive(Default)]
pub(super) struct Ledger {
    totals: AllTotals,
    process: Counts,
    told_who_came: bool,
}

impl Ledger {
    /// What happened since the last report.
    fn report(&mut self, serving: &Serving) -> Report {
        let totals = AllTotals::gather(&serving.published.load(), &serving.unrouted);
        let process = serving.counts();
        let mut news = totals.minus(&self.totals);
        // Who came lately is told once: who comes now is seen by the successor.
        let clients = if std::mem::replace(&mut self.told_who_came, true) {
            news.apps.values_mut().for_each(|app| app.seen.clear());
            Handed::default()
        } else {
            Handed::gather(&serving.published.load())
        };
        news.apps.retain(|_, app| *app != Default::default());
        let report = Report {
            totals: news,
            clients,
            process: process.minus(&self.process),
            watching_since: Some(serving.watching_since()),
            elsewhere: in_hand(serving),
        };
        (self.totals, self.process) = (totals, process);
        report
    }
}

/// What this process has in hand.
fn in_hand(serving: &Serving) -> Elsewhere {
    let mut backends = BTreeMap::new();
    let snapshot = serving.published.load();
    for view in snapshot.apps.iter() {
        for backend in &view.app.backends {
            let load = Load {
                requests_in_flight: backend.live.in_flight.read(),
                streams: backend.live.streams.read(),
            };
            if load != Load::default() {
                let key = format!("{}/{}", view.app.name, backend.id);
                backends.insert(key, load);
            }
        }
    }
    let left = serving.drain.left().unwrap_or_default().as_secs();
    Elsewhere { connections: serving.connections.open() as u64, deadline_seconds: left, backends }
}

/// Reports to a successor until the process ends, and does what it says.
pub(super) async fn report(
    fd: OwnedFd,
    serving: &Serving,
    ledger: &mut Ledger,
    events: &crate::shared::Events,
    flushed: &mut mpsc::Receiver<Done>,
    stopped: &mut watch::Receiver<bool>,
) -> io::Result<()> {
    let (read, mut write) = stream(fd)?.into_split();
    let mut told = BufReader::new(read).lines();
    loop {
        tell(&mut write, &ledger.report(serving)).await?;
        tokio::select! {
            () = tokio::time::sleep(REPORT_INTERVAL) => {}
            // Between two reports only: what was reckoned is told whole.
            () = until_stopped(stopped) => return Ok(()),
            Some(done) = flushed.recv() => {
                tell(&mut write, &ledger.report(serving)).await?;
                let _left = done.send(());
            }
            line = told.next_line() => match line? {
                Some(line) => if let Some(event) = event(&line, serving.clock.monotonic()) {
                    events.send(event).await;
                },
                None => return Ok(()),
            }
        }
    }
}

async fn tell(write: &mut OwnedWriteHalf, report: &Report) -> io::Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    // A successor that takes nothing for so long hangs.
    tokio::time::timeout(REPORT_LIMIT, write.write_all(&line)).await?
}

async fn until_stopped(stopped: &mut watch::Receiver<bool>) {
    let _never_or_now = stopped.wait_for(|stop| *stop).await;
}

fn event(line: &str, now: Duration) -> Option<Event> {
    let told: Told = serde_json::from_str(line).ok()?;
    Some(Event::Administered {
        app: AppName::parse(&told.app).ok()?,
        backend: BackendId::parse(&told.backend).ok()?,
        state: AdminState::parse(&told.state)?,
        deadline: told.deadline_ms.map(|left| now + Duration::from_millis(left)),
    })
}

/// The lines to the processes that were replaced by this one.
#[derive(Debug, Default)]
pub(super) struct Predecessors(Mutex<BTreeMap<u32, mpsc::Sender<String>>>);

impl Predecessors {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, mpsc::Sender<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells all of them what the operator wants of a backend.
    pub(super) fn tell(&self, event: &Event, now: Duration) {
        let Event::Administered { app, backend, state, deadline } = event else { return };
        let left = deadline.map(|at| at.saturating_sub(now).as_millis());
        let told = Told {
            app: app.to_string(),
            backend: backend.to_string(),
            state: state.as_str().to_owned(),
            deadline_ms: left.and_then(|left| u64::try_from(left).ok()),
        };
        let Ok(line) = serde_json::to_string(&told) else { return };
        for sender in self.lock().values() {
            let _gone_or_full = sender.try_send(line.clone());
        }
    }
}

/// Takes in what a process that finishes reports, until it is gone. `first` is called after the first
/// report: what was counted before this process began is in by then.
pub(super) async fn gather(pid: u32, fd: OwnedFd, serving: Arc<Serving>, first: impl FnOnce()) {
    serving.published.is_replaced(pid);
    let (sender, mut told) = mpsc::channel(TOLD_MAX);
    serving.predecessors.lock().insert(pid, sender);
    let mut first = Some(first);
    let result = async {
        let (read, mut write) = stream(fd)?.into_split();
        let mut lines = BufReader::new(read).lines();
        loop {
            tokio::select! {
                line = lines.next_line() => {
                    let Some(line) = line? else { return io::Result::Ok(()) };
                    absorb(pid, serde_json::from_str(&line)?, &serving);
                    if let Some(first) = first.take() {
                        first();
                    }
                }
                Some(line) = told.recv() => write.write_all(format!("{line}\n").as_bytes()).await?,
            }
        }
    };
    if let Err(error) = result.await {
        tracing::warn!(worker = pid, %error, "a replaced worker reports no more");
    }
    // That it ended is for the supervisor to say: one that only reports no more has what it has.
    serving.predecessors.lock().remove(&pid);
    if let Some(first) = first {
        first();
    }
}

fn absorb(pid: u32, report: Report, serving: &Serving) {
    report.totals.add_to(&serving.published.load(), &serving.unrouted);
    report.clients.add_to(&serving.published.load());
    serving.add(report.process);
    if let Some(since) = report.watching_since {
        serving.was_watched_since(since);
    }
    let now = serving.clock.monotonic();
    serving.published.is_elsewhere(pid, report.elsewhere, now);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_may_count_more_and_less() {
        let report = r#"{ "totals": TOTALS, "process": { "accepted": 3, "log_dropped": 0, "log_failed": 0,
            "reloads_accepted": 0, "reloads_refused": 0, "handshakes": { "1.3": 2, "1.4": 7 },
            "unproxied": { "absent": 1, "upside_down": 2 } }, "watching_since": null, "elsewhere": ELSEWHERE }"#;
        let empty = serde_json::to_value(Report::default()).unwrap();
        let report = report
            .replace("TOTALS", &empty["totals"].to_string())
            .replace("ELSEWHERE", &empty["elsewhere"].to_string());
        let report: Report = serde_json::from_str(&report).unwrap();
        let earlier = Counts {
            handshakes: labelled([("1.4", 5)]),
            unproxied: labelled([("absent", 1), ("cut", 0)]),
            ..Counts::default()
        };
        let news = report.process.minus(&earlier);
        assert_eq!(news.handshakes, labelled([("1.3", 2), ("1.4", 2)]));
        assert_eq!(news.unproxied, labelled([("upside_down", 2)]));
        assert_eq!(news.http2_faults, Labelled::new());
    }
}
