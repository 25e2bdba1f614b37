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
        let view = ctx.app.as_ref()?;
        let assignment = assign(view, &request(session, ctx, Patience::Waits), &mut rand::rng());
        if !matches!(assignment, Assignment::Wait(_)) {
            return Some(assignment);
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
            let assignment = assign(view, &request(session, ctx, patience), &mut rand::rng());
            let Assignment::Wait(waiting) = assignment else { return Some(assignment) };
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
        (ctx.presented, ctx.place) = presented(&view, session, ctx);
        let same = ctx.app.as_ref().is_some_and(|last| Arc::ptr_eq(&last.app, &view.app));
        ctx.tried = if same { ctx.tried.unknown_to(&view) } else { Tried::default() };
        ctx.app = Some(view);
    }
}

/// What the client presents, and where its backend is drawn if that is not left to chance.
pub(super) fn presented(
    view: &AppView,
    session: &Session,
    ctx: &RequestContext,
) -> (Presented, Option<u64>) {
    let request = session.req_header();
    let shown = Shown { headers: &request.headers, uri: &request.uri, address: ctx.client };
    view.app.read(&shown, ctx.started_unix.as_secs())
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
    }
}

/// How long a request may wait for the backend of its pin, and for any backend.
fn limits(view: &AppView) -> (Duration, Duration) {
    let home = view.app.affinity.as_ref().map_or(Duration::ZERO, |own| own.policy.wait_limit);
    (home, view.app.policy.timeouts.admission)
}
