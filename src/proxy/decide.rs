//! Where a request goes: asked once, and again while it waits.

use std::sync::Arc;
use std::time::Duration;

use pingora::http::RequestHeader;
use pingora_proxy::Session;

use super::context::RequestContext;
use super::{Proxy, record};
use crate::balancer::affinity::Presented;
use crate::balancer::affinity::way::Shown;
use crate::balancer::app::view::{AppView, Tried};
use crate::balancer::assign::{Assignment, Patience, Request, Waiting, assign};
use crate::balancer::rebalance::moves::Presence;

impl Proxy {
    /// The app that serves a request, as it is now.
    pub(super) fn route(&self, request: &RequestHeader) -> Option<Arc<AppView>> {
        let path = request.uri.path().as_bytes();
        self.published.load().find(record::host(request), path).cloned()
    }

    /// Decides where a request goes.
    pub(super) async fn decide(
        &self,
        session: &Session,
        ctx: &mut RequestContext,
    ) -> Option<Assignment> {
        self.enter(ctx);
        let view = ctx.app.as_ref()?;
        let asked = request(session, ctx, Patience::Waits);
        let assignment = assign(view, &asked, &mut rand::rng());
        if !matches!(assignment, Assignment::Wait(_)) {
            return Some(assignment.settle(view, &asked));
        }
        // Apart, so that the future of every request does not hold what few of them need.
        Box::pin(self.wait(session, ctx)).await
    }

    /// Waits, within a limit, while no backend is open but one may be before long. A request that
    /// waited sees the snapshot that ended its wait.
    async fn wait(&self, session: &Session, ctx: &mut RequestContext) -> Option<Assignment> {
        ctx.waited = true;
        loop {
            let mut changed = self.published.subscribe();
            let current = self.route(session.req_header())?;
            if !ctx.app.as_ref().is_some_and(|view| Arc::ptr_eq(view, &current)) {
                self.look_again(session, current, ctx);
            }
            let view = ctx.app.as_ref()?;
            let (home_limit, limit) = limits(view);
            let waited = self.clock.monotonic().saturating_sub(ctx.started);
            let patience = if waited < home_limit { Patience::Waits } else { Patience::Over };
            let asked = request(session, ctx, patience);
            let assignment = assign(view, &asked, &mut rand::rng());
            let Assignment::Wait(waiting) = assignment else {
                return Some(assignment.settle(view, &asked));
            };
            let for_home = matches!(waiting, Waiting::Home(_));
            let left = if for_home { home_limit } else { limit }.saturating_sub(waited);
            let passed = tokio::time::timeout(left, changed.changed()).await.is_err();
            // Who waited for its home in vain asks once more, for any.
            if passed && !for_home {
                return Some(assignment.give_up());
            }
        }
    }

    /// Takes another snapshot for a request that has used none yet: it only waited.
    fn look_again(&self, session: &Session, view: Arc<AppView>, ctx: &mut RequestContext) {
        learn(&view, session, ctx);
        let same = ctx.app.as_ref().is_some_and(|last| Arc::ptr_eq(&last.app, &view.app));
        ctx.tried = if same { ctx.tried.unknown_to(&view) } else { Tried::default() };
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

/// Notes what is known of the client.
pub(super) fn learn(view: &AppView, session: &Session, ctx: &mut RequestContext) {
    let request = session.req_header();
    let shown = Shown { headers: &request.headers, uri: &request.uri, address: ctx.client };
    let known = view.app.read(&shown, ctx.started_unix.as_secs(), &mut rand::rng());
    (ctx.presented, ctx.adopted, ctx.place) = (known.presented, known.adopted, known.place);
}

/// What the decision has to know of a request.
fn request<'r>(session: &Session, ctx: &'r RequestContext, patience: Patience) -> Request<'r> {
    Request {
        presented: &ctx.presented,
        tried: &ctx.tried,
        patience,
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

/// How long a request may wait for the backend of its pin, and for any backend.
fn limits(view: &AppView) -> (Duration, Duration) {
    let home = view.app.affinity.as_ref().map_or(Duration::ZERO, |own| own.policy.wait_limit);
    (home, view.app.policy.timeouts.admission)
}
