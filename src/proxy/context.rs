//! What is known of one request, from its first phase to its last.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use super::connection::{Connection, Wait};
use super::expect::Expects;
use super::failure::{Failure, Progress};
use super::pace::Slow;
use super::record::Remembered;
use super::said::Said;
use super::streaming::Streaming;
use super::trace::Trace;
use crate::balancer::affinity::Presented;
use crate::balancer::affinity::cookie::Scheme;
use crate::balancer::affinity::foreign::Adopted;
use crate::balancer::affinity::token::BackendHash;
use crate::balancer::affinity::word::AppWord;
use crate::balancer::app::backend::Backend;
use crate::balancer::app::live::{AppInFlight, AppStream, AppUpgraded, Held};
use crate::balancer::app::policy::Timeouts;
use crate::balancer::app::queue::Place;
use crate::balancer::app::view::{AppView, Tried};
use crate::balancer::assign::{Assignment, Cause};
use crate::balancer::rebalance::moves::Presence;
use crate::telemetry::spans::Recorded;
use crate::wire::fault::Fault;

/// One request.
pub struct RequestContext {
    /// When it was read, on the monotonic clock.
    pub(super) started: Duration,
    /// When it was read, since 1970.
    pub(super) started_unix: Duration,
    /// The connection it came on; `None` only before the first phase.
    pub(super) connection: Option<Arc<Connection>>,
    /// What the deadline of the connection is for at present.
    pub(super) wait: Option<Wait>,
    /// Who sent it, by the word of trusted proxies if there are any.
    pub(super) client: Option<IpAddr>,
    /// Whether the peer is a trusted proxy.
    pub(super) peer: Peer,
    /// Which of the fields that we look at its head had.
    pub(super) said: Said,
    /// How the client came.
    pub(super) scheme: Scheme,
    /// The id of the request.
    pub(super) id: Option<HeaderValue>,
    /// `X-Forwarded-For` as the backend gets it.
    pub(super) forwarded_for: Option<HeaderValue>,
    /// Whether it is one that lasts: another protocol on this connection, or a call.
    pub(super) kind: RequestKind,
    /// What the client waits for before it sends its body.
    pub(super) expects: Expects,
    /// The trace that it is a part of.
    pub(super) trace: Trace,
    /// Whether it is recorded, and as what.
    pub(super) recorded: Option<Recorded>,
    /// The app as this request sees it.
    pub(super) app: Option<Arc<AppView>>,
    /// What the client presented.
    pub(super) presented: Presented,
    /// The foreign cookie that the client is known by, for want of one of ours.
    pub(super) adopted: Option<Adopted>,
    /// Where its backend is drawn, if that is not left to chance.
    pub(super) place: Option<u64>,
    /// Where the request goes.
    pub(super) assignment: Option<Assignment>,
    /// Backends tried in vain, which are not to be tried again.
    pub(super) tried: Tried,
    /// All backends tried in vain, for the log: one that rested meanwhile may be tried again.
    pub(super) failed: Tried,
    /// Attempts to connect, those on a kept connection included.
    pub(super) tries: usize,
    /// Whether it was settled that its client stays, or moves to even out load.
    pub(super) is_settled: bool,
    /// Whether it had to wait for a backend to be admitted.
    pub(super) waited: bool,
    /// Whether the whole request was read.
    pub(super) is_whole: bool,
    /// How the last attempt to connect failed.
    pub(super) connect_failure: Option<Failure>,
    /// When it began to connect, on the monotonic clock: later than `started` where it had to wait before.
    pub(super) connecting: Duration,
    /// How long the present attempt may take.
    pub(super) connect_limit: Duration,
    /// Bytes of the body that came.
    pub(super) body_bytes: u64,
    /// What went wrong, if anything.
    pub(super) failure: Option<Failure>,
    /// What exactly was wrong, where the failure has several reasons.
    pub(super) detail: Option<&'static str>,
    /// After how many seconds the client may ask again, where that is known better than in general.
    pub(super) retry_after: Option<u32>,
    /// When it had a connection to a backend, since its start.
    pub(super) connected: Option<Duration>,
    /// When the first byte of the response came, since its start.
    pub(super) first_byte: Option<Duration>,
    /// When it became another protocol, on the monotonic clock.
    pub(super) upgraded_at: Option<Duration>,
    /// How far the response got.
    pub(super) progress: Progress,
    /// Interim responses that came before the final one.
    pub(super) interim: u8,
    /// What the app says of the pin, as far as it is obeyed; a session that it opens is a start.
    pub(super) word: AppWord,
    /// The mark of the client, if it was handed a token.
    pub(super) pin_handed: Option<u64>,
    /// Whether it was counted and logged.
    pub(super) accounted: bool,
    /// The status of an own page.
    pub(super) own_status: Option<u16>,
    pub(super) upgraded: Option<Held<AppUpgraded>>,
    // Dropped in this order: a stream is one of the requests in flight for as long as it is counted.
    pub(super) app_stream: Option<Held<AppStream>>,
    pub(super) stream: Option<Streaming>,
    /// What is needed to log it when its connection is cut.
    pub(super) remembered: Option<Box<Remembered>>,
    pub(super) app_in_flight: Option<Held<AppInFlight>>,
    pub(super) backend_in_flight: Option<Place>,
    /// What keeps the client from being moved meanwhile.
    pub(super) presence: Option<Presence>,
}

/// Whether the peer's word on `X-Forwarded-*` counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Peer {
    Trusted,
    Untrusted,
}

/// What a request is by its head: one like all, or one that lasts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum RequestKind {
    Plain,
    /// A call of gRPC.
    Call,
    /// `Upgrade` with its `Connection` token (RFC 9110 §7.8).
    Upgrade,
}

impl Drop for RequestContext {
    // A connection that was cut because it was stuck: the phase that counts and logs does not come.
    fn drop(&mut self) {
        if let (false, Some(view)) = (self.accounted, &self.app) {
            let failure = match self.missed_failure() {
                // Nobody read from the client, since its backend took nothing.
                Some(Failure::ClientIdle | Failure::BodyTooSlow) if !self.is_unread() => {
                    Failure::BackendIdle
                }
                Some(failure) => failure,
                None => Failure::BackendIdle,
            };
            let facts = failure.facts().with(view.app.policy.errors.statuses);
            let counters = view.app.live.counters();
            match &self.remembered {
                Some(remembered) => remembered.account(self, facts, counters),
                None => counters.count_request(facts.status, Some(facts.label)),
            }
        }
    }
}

impl RequestContext {
    /// A request that begins now.
    pub(super) fn new(started: Duration, started_unix: Duration) -> Self {
        Self {
            started,
            started_unix,
            connection: None,
            wait: None,
            client: None,
            peer: Peer::Untrusted,
            said: Said::default(),
            scheme: Scheme::Http,
            id: None,
            forwarded_for: None,
            kind: RequestKind::Plain,
            expects: Expects::Nothing,
            trace: Trace::Absent,
            recorded: None,
            app: None,
            presented: Presented::Nothing,
            adopted: None,
            place: None,
            assignment: None,
            tried: Tried::default(),
            failed: Tried::default(),
            tries: 0,
            is_settled: false,
            waited: false,
            is_whole: false,
            connect_failure: None,
            connecting: started,
            connect_limit: Duration::ZERO,
            body_bytes: 0,
            failure: None,
            detail: None,
            retry_after: None,
            connected: None,
            first_byte: None,
            upgraded_at: None,
            progress: Progress::Nothing,
            interim: 0,
            word: AppWord::default(),
            pin_handed: None,
            accounted: false,
            own_status: None,
            upgraded: None,
            app_stream: None,
            stream: None,
            app_in_flight: None,
            backend_in_flight: None,
            remembered: None,
            presence: None,
        }
    }

    /// Whether it came over HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.is_stream())
    }

    /// The backend the request was assigned to.
    pub(super) fn backend(&self) -> Option<&Arc<Backend>> {
        let slot = self.assignment.as_ref()?.slot()?;
        Some(self.app.as_ref()?.app.backend(slot))
    }

    /// The mark of the client, if it is pinned to the backend and stays so: by the token it came with, or by
    /// the one it was handed.
    pub(super) fn pin_mark(&self) -> Option<u64> {
        match self.assignment.filter(|_| !self.word.end)? {
            Assignment::Follow(_, pin) => self.pin_handed.or(Some(pin.mark())),
            Assignment::Make(_) | Assignment::Move(..) => self.pin_handed,
            Assignment::Borrow(..)
            | Assignment::FollowOrMove(..)
            | Assignment::Refuse(_)
            | Assignment::Spread(_)
            | Assignment::Wait(_) => None,
        }
    }

    /// Notes that the client was seen at its backend, at `now` (Unix seconds).
    pub(super) fn note_client(&self, now: u64) {
        let (Some(view), Some(backend)) = (&self.app, self.backend()) else { return };
        if let Some(mark) = self.pin_mark() {
            backend.live.note_client(mark);
        }
        if view.rebalances()
            && let Some((mark, home)) = self.bound(backend)
        {
            view.app.live.moves().census.note(mark, home, now);
        }
    }

    /// To which backend the client is bound, by its mark. Who comes for the first time may never come again, and
    /// is bound when it does, or has a stream; one that another backend stands in for is still at home.
    fn bound(&self, backend: &Backend) -> Option<(u64, BackendHash)> {
        match (self.assignment?, &self.presented) {
            (Assignment::Borrow(..), Presented::Pin(pin)) => Some((pin.mark(), pin.token.backend)),
            (Assignment::Make(_), _) if self.stream.is_none() => None,
            (..) => Some((self.pin_mark()?, backend.hash)),
        }
    }

    /// Keeps the client from being moved for as long as its stream lasts. Known also where nobody is moved: that
    /// may be switched on meanwhile.
    pub(super) fn stay(&mut self) {
        if let (Some(view), Some(mark)) = (&self.app, self.pin_mark()) {
            self.presence = Some(Presence::stream(Arc::clone(view.app.live.moves()), mark));
        }
    }

    /// Counts the response as a stream of its backend from now on.
    pub(super) fn begin_stream(&mut self) {
        let live = self.backend().map(|backend| Arc::clone(&backend.live));
        if let Some(connection) = &self.connection {
            connection.allow_in_all(None);
        }
        self.stream = live.map(|live| Streaming::new(&live, self.connection.clone()));
        let app = self.app.as_ref().map(|view| Arc::clone(&view.app.live));
        self.app_stream = app.map(|live| Held::new(AppStream(live)));
    }

    /// Takes a place at the backend of an assignment, which has one if it is within its limit. Answers whether
    /// the request may go on: one that is for no backend needs none.
    pub(super) fn take_place(&mut self, assignment: &Assignment) -> bool {
        let (Some(view), Some(slot)) = (&self.app, assignment.slot()) else { return true };
        let live = &view.app.backend(slot).live;
        self.backend_in_flight = match (view.app.policy.limits.backend_in_flight, assignment) {
            // Where it was moved to an instant ago, on another request, it is at home, and not to be sent back.
            (None, _) | (Some(_), Assignment::Move(_, Cause::Rebalanced)) => {
                Some(Place::take(live))
            }
            (Some(limit), _) => Place::take_below(live, limit),
        };
        self.backend_in_flight.is_some()
    }

    /// Takes note of a part of the request's body. `Err`: the body is larger than the app takes.
    pub(super) fn count_body(&mut self, bytes: usize, is_whole: bool) -> Result<(), Failure> {
        let Some(view) = &self.app else { return Ok(()) };
        let limits = &view.app.policy.limits;
        self.body_bytes = self.body_bytes.saturating_add(bytes as u64);
        if limits.max_body.is_some_and(|most| self.body_bytes > most) {
            return Err(Failure::BodyTooLarge);
        }
        // A stream has no pace.
        let has_pace = limits.body_rate.is_some() && !self.is_call();
        if let Some(connection) = self.connection.as_ref().filter(|_| has_pace) {
            let more = (!is_whole).then(|| limits.body_budget(self.body_bytes)).flatten();
            connection.pace.budget(more);
        }
        Ok(())
    }

    /// Forgets what came of the body: what is kept of it passes by again.
    pub(super) fn forget_body(&mut self) {
        self.body_bytes = 0;
        if let Some(remembered) = &mut self.remembered {
            remembered.received = 0;
        }
    }

    /// Tells the connection how slow the request may be that begins.
    pub(super) fn begin_pace(&self) {
        if let (Some(connection), Some(view)) = (&self.connection, &self.app) {
            let policy = &view.app.policy;
            connection.pace.begin(policy.limits.read_rate, policy.limits.rate_grace);
            if policy.timeouts.total.is_some() {
                connection.allow_in_all(policy.timeouts.total);
            }
        }
    }

    /// Gives the connection `limit` from now on for what it waits for.
    pub(super) fn wait_for(&mut self, wait: Wait, limit: Duration) {
        self.wait = Some(wait);
        if let Some(connection) = &self.connection {
            connection.allow(limit);
        }
    }

    /// Waits for what comes next when a part of the request passed, the last one if it `is_whole`.
    pub(super) fn wait_for_answer(&mut self, is_whole: bool) {
        let Some(timeouts) = self.app.as_ref().map(|view| view.app.policy.timeouts) else { return };
        self.is_whole |= is_whole;
        let lasts = self.upgraded.is_some() || self.is_call();
        match (lasts, is_whole, self.progress) {
            (true, false, _) if self.is_call() => {
                // Its backend is to take what came; then both may be silent.
                self.wait_for(Wait::Stream, timeouts.idle);
                if let Some(connection) = &self.connection {
                    connection.be_patient(timeouts.upgraded_idle);
                }
            }
            (true, ..) | (false, _, Progress::Begun) => self.wait_for_more(&timeouts),
            (false, true, Progress::Nothing) => self.wait_for(Wait::FirstByte, timeouts.first_byte),
            (false, false, Progress::Nothing) => self.wait_for(Wait::ClientBody, timeouts.idle),
        }
    }

    /// Waits for the next part of the response.
    pub(super) fn wait_for_more(&mut self, timeouts: &Timeouts) {
        match self.upgraded.is_some() || self.is_call() {
            true => self.wait_for(Wait::Stream, timeouts.upgraded_idle),
            false => self.wait_for(Wait::BackendBody, timeouts.idle),
        }
    }

    /// Lets the connection take its time.
    pub(super) fn wait_is_over(&mut self) {
        self.wait = None;
        if let Some(connection) = &self.connection {
            connection.clear_deadline();
        }
    }

    /// Why the request was refused as it came, if it was.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.connection.as_ref()?.fault()
    }

    /// The failure that a missed deadline is.
    pub(super) fn missed_failure(&self) -> Option<Failure> {
        Some(match self.missed()? {
            Wait::BackendBody | Wait::Stream => Failure::BackendIdle,
            Wait::ClientBody | Wait::ClientRead | Wait::Unsent => Failure::ClientIdle,
            Wait::Evicted => Failure::Evicted,
            Wait::FirstByte => Failure::FirstByteTimeout,
            Wait::SlowBody => Failure::BodyTooSlow,
            Wait::Total => Failure::TotalTimeout,
        })
    }

    /// What the connection waited for when its deadline was over.
    pub(super) fn missed(&self) -> Option<Wait> {
        let connection = self.connection.as_ref()?;
        if connection.is_evicted() {
            return Some(Wait::Evicted);
        }
        if !connection.missed_deadline() {
            return None;
        }
        match connection.pace.slow() {
            Some(Slow::Body) => return Some(Wait::SlowBody),
            Some(Slow::Read) => return Some(Wait::ClientRead),
            Some(Slow::Total) => return Some(Wait::Total),
            None => {}
        }
        let wait = self.wait?;
        let for_backend = wait == Wait::BackendBody;
        Some(if for_backend && connection.is_write_blocked() {
            Wait::ClientRead
        } else if for_backend && !self.is_whole {
            // It began to answer before it had everything, and waits for the rest.
            Wait::ClientBody
        } else {
            wait
        })
    }

    /// Whether the client leaves unread what is there for it.
    fn is_unread(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.is_write_blocked())
    }
}
