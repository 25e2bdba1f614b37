//! Where a request goes: asked once, and again while it waits.

use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_LENGTH;
use pingora::http::RequestHeader;
use pingora_proxy::Session;

use super::connection::Connection;
use super::context::{Peer, RequestContext};
use super::failure::Failure;
use super::said::Said;
use super::turn::Turn;
use super::{Proxy, record};
use crate::balancer::affinity::Presented;
use crate::balancer::affinity::way::Shown;
use crate::balancer::app::view::{AppView, Tried};
use crate::balancer::assign::{
    Assignment, Patience, Queued, Refusal, Request, Waiting, admit, assign,
};
use crate::balancer::rebalance::moves::Presence;
use crate::wire::field;

/// How often a request asks anew because others took the place that it was assigned, before it is turned away.
const RACES_MAX: usize = 16;

/// No limit, as a time that no timer reaches.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

impl Proxy {
    /// The app that serves a request, as it is now.
    pub(super) fn route(&self, request: &RequestHeader) -> Option<Arc<AppView>> {
        let path = request.uri.path().as_bytes();
        self.published.load().find(record::host(request), path).cloned()
    }

    /// Decides where a request goes, and takes its place there.
    pub(super) async fn decide(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
    ) -> Option<Assignment> {
        self.enter(ctx);
        let view = ctx.app.as_ref()?;
        let asked = request(session, ctx, Patience::Waits, Queued::Not);
        let assignment = assign(view, &asked, &mut rand::rng());
        if !matches!(assignment, Assignment::Wait(_)) {
            let settled = settle(assignment, view, &asked, ctx.is_settled);
            ctx.is_settled |= matches!(assignment, Assignment::FollowOrMove(..));
            if ctx.take_place(&settled) {
                return Some(settled);
            }
        }
        // Apart, so that the future of every request does not hold what few of them need.
        Box::pin(self.wait_in_time(session, ctx)).await
    }

    /// Waits, and no longer than the whole request may take. What was waited is no time to connect.
    async fn wait_in_time(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
    ) -> Option<Assignment> {
        let began = self.clock.monotonic();
        let left = left_in_all(ctx, began).unwrap_or(FOR_EVER);
        let Ok(assignment) = tokio::time::timeout(left, self.wait(session, ctx)).await else {
            ctx.failure = Some(Failure::TotalTimeout);
            return None;
        };
        let now = self.clock.monotonic();
        ctx.connecting = if ctx.tries == 0 { now } else { ctx.connecting + (now - began) };
        assignment
    }

    /// Waits, within a limit, while no backend is open but one may be before long, or while the backend of the
    /// pin has no place. A request that waited sees the snapshot that ended its wait.
    async fn wait(&self, session: &mut Session, ctx: &mut RequestContext) -> Option<Assignment> {
        ctx.waited = true;
        let mut turn = Turn::default();
        let mut races = 0;
        loop {
            let mut changed = self.published.subscribe();
            let current = self.route(session.req_header())?;
            // Who was given a place has the latest snapshot.
            if turn.place.is_none()
                && !ctx.app.as_ref().is_some_and(|view| Arc::ptr_eq(view, &current))
            {
                self.look_again(session, current, ctx);
            }
            let view = ctx.app.as_ref()?;
            let (home_limit, limit) = limits(view);
            let waited = self.clock.monotonic().saturating_sub(ctx.started);
            let patience = if waited < home_limit { Patience::Waits } else { Patience::Over };
            let asked = request(session, ctx, patience, turn.queued());
            let assignment = assign(view, &asked, &mut rand::rng());
            let waiting = match assignment {
                Assignment::Wait(Waiting::Place(slot, _)) => {
                    let wait = turn.wait(&self.clock, view, slot, &mut changed);
                    match unless_it_leaves(session, wait).await {
                        Some(()) => continue,
                        None => return left(ctx),
                    }
                }
                Assignment::Wait(waiting) => waiting,
                Assignment::Borrow(..)
                | Assignment::Follow(..)
                | Assignment::FollowOrMove(..)
                | Assignment::Make(_)
                | Assignment::Move(..)
                | Assignment::Refuse(_)
                | Assignment::Spread(_) => {
                    let settled = settle(assignment, view, &asked, ctx.is_settled);
                    ctx.is_settled |= matches!(assignment, Assignment::FollowOrMove(..));
                    if turn.hand_over(&settled, ctx) || ctx.take_place(&settled) {
                        return Some(settled);
                    }
                    races += 1;
                    if races > RACES_MAX {
                        return Some(Assignment::Refuse(Refusal::BacklogTooDeep));
                    }
                    continue;
                }
            };
            // Others may go where it does not go now.
            turn.leave();
            let limit = if matches!(waiting, Waiting::Home(_)) { home_limit } else { limit };
            let wait = tokio::time::timeout(limit.saturating_sub(waited), changed.changed());
            match (unless_it_leaves(session, wait).await, waiting) {
                (None, _) => return left(ctx),
                (Some(Err(_)), Waiting::Turn(..)) => turn.come(),
                (Some(Err(_)), Waiting::Opening(..)) => return Some(assignment.give_up()),
                // Who waited for its home in vain asks once more, for any.
                (Some(_), _) => {}
            }
        }
    }

    /// Why the app does not take this request, if it does not.
    pub(super) fn refused(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
    ) -> Option<Failure> {
        if is_astray(session.req_header(), ctx) {
            ctx.app_in_flight = None;
            return Some(Failure::Misdirected);
        }
        let view = ctx.app.as_ref().filter(|view| !view.maintenance)?;
        if let (Some(limit), Some(client)) = (view.app.policy.rate_limit, ctx.client)
            && let Err(seconds) = self.rates.take(&view.app.name, limit, client)
        {
            ctx.retry_after = Some(u32::try_from(seconds).unwrap_or(u32::MAX));
            ctx.app_in_flight = None;
            return Some(Failure::RateLimited);
        }
        let most = view.app.policy.limits.max_body;
        let length = || length(session.req_header()).filter(|_| ctx.said.has(Said::CONTENT_LENGTH));
        if most.is_some_and(|most| length().is_some_and(|bytes| bytes > most)) {
            ctx.app_in_flight = None;
            // What follows is not read.
            session.set_keepalive(None);
            return Some(Failure::BodyTooLarge);
        }
        let came_before = ctx.connection.as_ref().is_some_and(|own| own.turn() > 1);
        let refusal = admit(view, &ctx.presented, came_before, self.gate.pressure(), 0)?;
        ctx.assignment = Some(Assignment::Refuse(refusal));
        // Those who are turned away are none of those in flight.
        ctx.app_in_flight = None;
        if matches!(refusal, Refusal::ConnectionLimit | Refusal::Shed) {
            session.set_keepalive(None);
        }
        Some(Failure::refused(refusal, None))
    }

    /// How long the request may still try to connect.
    pub(super) fn left_to_connect(&self, ctx: &RequestContext) -> Duration {
        let Some(view) = &ctx.app else { return Duration::ZERO };
        let timeouts = &view.app.policy.timeouts;
        if ctx.tries == 0 && timeouts.total.is_none() {
            return timeouts.connect_total;
        }
        let now = self.clock.monotonic();
        let spent =
            if ctx.tries == 0 { Duration::ZERO } else { now.saturating_sub(ctx.connecting) };
        let left = timeouts.connect_total.saturating_sub(spent);
        left_in_all(ctx, now).map_or(left, |in_all| left.min(in_all))
    }

    /// How a request failed that has no time left to connect.
    pub(super) fn out_of_time(&self, ctx: &RequestContext) -> Failure {
        let is_over = left_in_all(ctx, self.clock.monotonic()).is_some_and(|left| left.is_zero());
        match ctx.connect_failure {
            _ if is_over => Failure::TotalTimeout,
            Some(failure) => failure,
            None => Failure::ConnectTimeout,
        }
    }

    /// Takes another snapshot for a request that has used none yet: it only waited.
    fn look_again(&self, session: &Session, view: Arc<AppView>, ctx: &mut RequestContext) {
        learn(&view, session, ctx);
        let same = ctx.app.as_ref().is_some_and(|last| Arc::ptr_eq(&last.app, &view.app));
        ctx.tried = if same { ctx.tried.unknown_to(&view) } else { Tried::default() };
        if !same {
            ctx.failed = Tried::default();
        }
        ctx.app = Some(view);
    }

    /// Notes that the client has a request in hand, where that keeps it from being moved.
    fn enter(&self, ctx: &mut RequestContext) {
        if let (None, Some(view), Presented::Pin(pin)) = (&ctx.presence, &ctx.app, &ctx.presented)
            && view.rebalances()
        {
            ctx.presence = Some(Presence::request(Arc::clone(view.app.live.moves()), pin.mark()));
        }
    }
}

/// Settles whether a client is moved that may be, unless that was settled for this request before: then it stays.
fn settle(
    assignment: Assignment,
    view: &AppView,
    asked: &Request<'_>,
    is_settled: bool,
) -> Assignment {
    match assignment {
        Assignment::FollowOrMove(home, pin) if is_settled => Assignment::Follow(home, pin),
        Assignment::Borrow(..)
        | Assignment::Follow(..)
        | Assignment::FollowOrMove(..)
        | Assignment::Make(_)
        | Assignment::Move(..)
        | Assignment::Refuse(_)
        | Assignment::Spread(_)
        | Assignment::Wait(_) => assignment.settle(view, asked),
    }
}

/// What `wait` ends with; `None`: the client left before, or its time is over. A body that is yet to come hides that:
/// nobody reads it before it has a backend.
async fn unless_it_leaves<T>(session: &mut Session, wait: impl Future<Output = T>) -> Option<T> {
    let client = session.as_downstream_mut();
    let shows = client.is_body_done();
    tokio::select! {
        biased;
        _left = client.read_body_or_idle(true), if shows => None,
        done = wait => Some(done),
    }
}

/// Notes that nobody waits for an answer any more, or not for longer.
fn left(ctx: &mut RequestContext) -> Option<Assignment> {
    ctx.failure = Some(ctx.missed_failure().unwrap_or(Failure::ClientInterrupted));
    None
}

/// Notes what is known of the client.
pub(super) fn learn(view: &AppView, session: &Session, ctx: &mut RequestContext) {
    let request = session.req_header();
    let memo = ctx.connection.as_ref().map(|connection| &connection.origin().memo);
    let shown = Shown { headers: &request.headers, uri: &request.uri, address: ctx.client, memo };
    let known = view.app.read(&shown, ctx.started_unix.as_secs(), &mut rand::rng());
    (ctx.presented, ctx.adopted, ctx.place) = (known.presented, known.adopted, known.place);
}

/// What the decision has to know of a request.
fn request<'r>(
    session: &Session,
    ctx: &'r RequestContext,
    patience: Patience,
    queued: Queued,
) -> Request<'r> {
    Request {
        presented: &ctx.presented,
        tried: &ctx.tried,
        patience,
        queued,
        now: ctx.started_unix.as_secs(),
        place: ctx.place,
        is_safe: session.req_header().method.is_safe(),
        in_session: in_session(session, ctx),
    }
}

/// Whether a client that showed nothing of ours has a session with the app, where its pin begins with one.
fn in_session(session: &Session, ctx: &RequestContext) -> bool {
    let affinity = ctx.app.as_ref().and_then(|view| view.app.affinity.as_ref());
    ctx.presented == Presented::Nothing
        && affinity.is_some_and(|own| own.policy.start_on.is_open(&session.req_header().headers))
}

/// How long a request may still take at `now`, where that has a limit.
fn left_in_all(ctx: &RequestContext, now: Duration) -> Option<Duration> {
    let total = ctx.app.as_ref()?.app.policy.timeouts.total?;
    Some(total.saturating_sub(now.saturating_sub(ctx.started)))
}

/// How long a request may wait for the backend of its pin, and for any backend.
fn limits(view: &AppView) -> (Duration, Duration) {
    let home = view.app.affinity.as_ref().map_or(Duration::ZERO, |own| own.policy.wait_limit);
    (home, view.app.policy.timeouts.admission)
}

/// How many bytes of body a request announces.
fn length(request: &RequestHeader) -> Option<u64> {
    field::length(request.headers.get(CONTENT_LENGTH)?.as_bytes()).ok()
}

/// Whether the request came on a connection for another host. A trusted proxy may bring those of many on one.
fn is_astray(request: &RequestHeader, ctx: &RequestContext) -> bool {
    let host = record::host(request);
    let astray = |connection: &Arc<Connection>| connection.origin().is_astray(host);
    ctx.peer == Peer::Untrusted && ctx.connection.as_ref().is_some_and(astray)
}
