//! What became of a request, as a word on its backend; and whether it may be tried again.

use std::time::Duration;

use pingora_proxy::Session;

use super::Proxy;
use super::context::RequestContext;
use super::failure::{Failure, Progress};
use crate::balancer::app::backend::Slot;
use crate::balancer::app::outliers::OutlierPolicy;
use crate::balancer::app::view::{AppView, TRIES_MAX};
use crate::balancer::state::Event;

/// The `detail` of a failure that was not tried again for want of budget.
const BUDGET_SPENT: &str = "retry budget spent";

/// What a request says of its backend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    /// It did not do what it should.
    Failed,
    /// It answered.
    Served,
}

impl Proxy {
    /// Takes in what a finished request says of its backend, where the app looks for outliers.
    pub(super) fn judge(&self, session: &Session, ctx: &RequestContext, now: Duration) {
        let Some(view) = &ctx.app else { return };
        let Some(policy) = &view.app.policy.outliers else { return };
        let slot = ctx.assignment.and_then(|assignment| assignment.slot());
        if let (Some(slot), Some(verdict)) = (slot, verdict(session, ctx, policy)) {
            self.note(view, slot, policy, verdict, now);
        }
    }

    /// Takes in that a backend could not be connected to.
    pub(super) fn judge_connect(&self, view: &AppView, slot: Slot) {
        if let Some(policy) = &view.app.policy.outliers {
            self.note(view, slot, policy, Verdict::Failed, self.clock.monotonic());
        }
    }

    fn note(
        &self,
        view: &AppView,
        slot: Slot,
        policy: &OutlierPolicy,
        verdict: Verdict,
        now: Duration,
    ) {
        // It was judged, and begins anew when its ejection ends.
        if view.is_ejected(slot) {
            return;
        }
        let backend = view.app.backend(slot);
        let why = match verdict {
            Verdict::Failed => backend.live.record.note_failure(policy, now),
            Verdict::Served => {
                backend.live.record.note_success(policy, now);
                None
            }
        };
        if let Some(why) = why {
            self.events.offer(Event::FoundOutlier {
                app: view.app.name.clone(),
                backend: backend.id.clone(),
                address: backend.address.clone(),
                why,
            });
        }
    }

    /// Whether a request that failed before anything came of it may be tried again: it was not tried too often,
    /// and the budget of its app allows it.
    pub(super) fn may_retry(&self, ctx: &mut RequestContext) -> bool {
        let Some(view) = &ctx.app else { return ctx.tries < TRIES_MAX };
        let policy = &view.app.policy.retries;
        if ctx.tries > usize::from(policy.max) {
            return false;
        }
        let counters = view.app.live.counters();
        let allowed = view.app.live.retries.withdraw(policy, self.clock.monotonic());
        if allowed {
            counters.retries_allowed.add(1);
        } else {
            counters.retries_denied.add(1);
            ctx.detail = Some(BUDGET_SPENT);
        }
        allowed
    }
}

/// What a finished request says of its backend; `None`: nothing. Failed connects were noted when they failed.
fn verdict(session: &Session, ctx: &RequestContext, policy: &OutlierPolicy) -> Option<Verdict> {
    // What follows an upgrade is between the client and the app, and mostly ends by falling silent.
    if ctx.upgraded.is_some() {
        return Some(Verdict::Served);
    }
    // Its client says how long a call may take, and both are silent for as long as they like.
    if ctx.is_call() && matches!(ctx.failure, Some(Failure::BackendIdle | Failure::TotalTimeout)) {
        return None;
    }
    let is_late = ctx.failure == Some(Failure::TotalTimeout) && ctx.progress == Progress::Nothing;
    if is_late || ctx.failure.is_some_and(is_backends) {
        return Some(Verdict::Failed);
    }
    if ctx.progress == Progress::Nothing {
        return None;
    }
    let status = session.response_written()?.status.as_u16();
    Some(if policy.blames(status) { Verdict::Failed } else { Verdict::Served })
}

/// Whether this failure is the doing of the one backend that was asked. A request that took too long in all may be
/// its client's, once the response began.
fn is_backends(failure: Failure) -> bool {
    matches!(
        failure,
        Failure::BackendIdle
            | Failure::BackendInterrupted
            | Failure::BackendSilent
            | Failure::BadResponse
            | Failure::FirstByteTimeout
            | Failure::Restricted
    )
}
