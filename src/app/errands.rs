//! What the main thread has done by tasks: each needs a runtime, and none may hold up another.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::time::Duration;

use pingora::apps::ServerApp;
use pingora::protocols::l4::stream::Stream;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::Serving;
use super::handover::{self, Done, Ledger};
use crate::admin::Control;
use crate::shared::Events;

/// Errands that may wait.
const ERRANDS_MAX: usize = 256;

/// Questions of the operator that are answered at one time. Each is a task and a descriptor.
const CONTROLS_MAX: u64 = 64;

/// What those beyond are told: to ask again.
const TURNED_AWAY: &[u8] =
    b"HTTP/1.1 409 Conflict\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// How long a question and its answer may take. A restart is answered when the successor serves.
const CONTROL_LIMIT: Duration = Duration::from_secs(600);

/// One thing to have done.
#[derive(Debug)]
pub(super) enum Errand {
    /// Somebody connected to the control socket.
    Control(OwnedFd),
    /// A replaced process reports here.
    Predecessor(u32, OwnedFd),
    /// A successor wants reports.
    Report(OwnedFd),
    /// Whoever waits wants to know that all was reported.
    Flush(Done),
    /// All predecessors were named: their first reports are to be in before anybody counts.
    Named,
}

/// Has errands done.
pub(super) struct Errands {
    received: mpsc::Receiver<Errand>,
    control: Arc<Control>,
    serving: Arc<Serving>,
    events: Events,
    running: JoinSet<()>,
    /// Who reports to the successor: the ledger passes from one to the next.
    reporter: Option<Reporter>,
    /// First reports that are missing.
    missing: Vec<oneshot::Receiver<()>>,
    /// Whether the first reports of all predecessors are in: only then is ours whole.
    complete: watch::Sender<bool>,
}

struct Reporter {
    flush: mpsc::Sender<Done>,
    ledger: oneshot::Receiver<Ledger>,
    stop: watch::Sender<bool>,
}

/// The way to have errands done.
pub(super) type Sender = mpsc::Sender<Errand>;

impl Errands {
    pub(super) fn new(control: Control, serving: Arc<Serving>, events: Events) -> (Self, Sender) {
        let (sender, received) = mpsc::channel(ERRANDS_MAX);
        let errands = Self {
            received,
            control: Arc::new(control),
            serving,
            events,
            running: JoinSet::new(),
            reporter: None,
            missing: Vec::new(),
            complete: watch::Sender::new(false),
        };
        (errands, sender)
    }

    /// Runs for as long as it is polled.
    pub(super) async fn run(&mut self) {
        loop {
            tokio::select! {
                errand = self.received.recv() => match errand {
                    Some(errand) => self.start(errand).await,
                    None => return,
                },
                Some(_done) = self.running.join_next() => {}
            }
        }
    }

    async fn start(&mut self, errand: Errand) {
        match errand {
            Errand::Control(fd) => self.control(fd),
            Errand::Predecessor(pid, fd) => {
                let (done, missing) = oneshot::channel();
                self.missing.push(missing);
                let first = move || drop(done);
                self.running.spawn(handover::gather(pid, fd, Arc::clone(&self.serving), first));
            }
            Errand::Report(fd) => self.report(fd).await,
            Errand::Flush(done) => match &self.reporter {
                Some(reporter) => drop(reporter.flush.try_send(done)),
                None => drop(done),
            },
            Errand::Named => {
                let (missing, serving) =
                    (std::mem::take(&mut self.missing), Arc::clone(&self.serving));
                let complete = self.complete.clone();
                self.running.spawn(async move {
                    let all = futures::future::join_all(missing);
                    if tokio::time::timeout(handover::FIRST_LIMIT, all).await.is_err() {
                        tracing::warn!("a replaced worker does not report: counters may jump back");
                    }
                    complete.send_replace(true);
                    serving.gates.open_admin();
                });
            }
        }
    }

    fn control(&mut self, fd: OwnedFd) {
        if self.serving.answers() >= CONTROLS_MAX {
            tracing::warn!("too many commands at one time: one was turned away");
            let _asks_again = StdUnixStream::from(fd).write_all(TURNED_AWAY);
            return;
        }
        let stream = StdUnixStream::from(fd);
        let stream = stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream));
        let Ok(stream) = stream else { return };
        let (control, answering) = (Arc::clone(&self.control), self.serving.answering());
        self.running.spawn(async move {
            // No end of the process is told: an answer that is due is given.
            let (_never, shutdown) = watch::channel(false);
            let answer = control.process_new(Box::new(Stream::from(stream)), &shutdown);
            let _late = tokio::time::timeout(CONTROL_LIMIT, answer).await;
            drop(answering);
        });
    }

    /// Reports to another successor from now on.
    async fn report(&mut self, fd: OwnedFd) {
        let ledger = match self.reporter.take() {
            Some(last) => {
                last.stop.send_replace(true);
                last.ledger.await.unwrap_or_default()
            }
            None => Ledger::default(),
        };
        let (flush, mut flushed) = mpsc::channel(1);
        let (give_back, back) = oneshot::channel();
        let (stop, mut stopped) = watch::channel(false);
        let (serving, events) = (Arc::clone(&self.serving), self.events.clone());
        let mut complete = self.complete.subscribe();
        self.running.spawn(async move {
            let mut ledger = ledger;
            let whole = complete.wait_for(|complete| *complete);
            let _as_far_as_it_is = tokio::time::timeout(handover::FIRST_LIMIT, whole).await.is_ok();
            let report =
                handover::report(fd, &serving, &mut ledger, &events, &mut flushed, &mut stopped);
            if let Err(error) = report.await {
                tracing::debug!(%error, "the successor takes no more reports");
            }
            let _nobody_reports_any_more = give_back.send(ledger);
        });
        self.reporter = Some(Reporter { flush, ledger: back, stop });
    }
}
