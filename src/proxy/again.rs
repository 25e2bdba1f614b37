//! An attempt that failed: what it says of the backend, and whether another one follows.

use pingora::{Error, ErrorType};
use pingora_proxy::Session;

use super::context::RequestContext;
use super::failure::{Failure, Progress};
use super::{Proxy, stream_error};
use crate::balancer::failure::Retried;
use crate::balancer::state::Event;

impl Proxy {
    /// Takes note of a connect that failed, and says whether there is another.
    pub(super) fn after_connect(
        &self,
        session: &Session,
        ctx: &mut RequestContext,
        mut error: Box<Error>,
    ) -> Box<Error> {
        let failure = Failure::connecting(&error);
        ctx.tries += 1;
        ctx.connect_failure = Some(failure);
        let whole = !session.as_ref().retry_buffer_truncated();
        if failure == Failure::BackendSilent {
            // It takes connections: the next one may do, with the place that the request has.
            error.set_retry(whole && !self.left_to_connect(ctx).is_zero() && self.may_retry(ctx));
            return error;
        }
        ctx.backend_in_flight = None;
        let ours = matches!(failure, Failure::Internal | Failure::Shed);
        if let (Some(view), Some(slot)) = (&ctx.app, ctx.assignment.and_then(|a| a.slot())) {
            let backend = view.app.backend(slot);
            backend.live.count_connect(failure.as_connect());
            if ours {
                // No fault of the backend's: it keeps its clients, and they their pins.
                error.set_retry(false);
                return error;
            }
            let cut = ctx.connect_limit < view.app.policy.timeouts.connect;
            if failure == Failure::ConnectTimeout && cut {
                // It had less time than backends are given: that says nothing of it.
                ctx.failure = Some(self.out_of_time(ctx));
                error.set_retry(false);
                return error;
            }
            self.events.offer(Event::ConnectFailed {
                app: view.app.name.clone(),
                backend: backend.id.clone(),
                address: backend.address.clone(),
            });
            self.judge_connect(view, slot);
            ctx.tried.push(slot);
            ctx.failed.push(slot);
        }
        // Nothing was sent on this connection; a body that an earlier one took must still be at hand.
        let elsewhere = failure.facts().retried == Retried::Elsewhere;
        let in_time = !self.left_to_connect(ctx).is_zero();
        error.set_retry(elsewhere && whole && in_time && self.may_retry(ctx));
        error
    }

    /// Says whether a request whose connection broke is sent again.
    pub(super) fn after_break(
        &self,
        session: &Session,
        ctx: &mut RequestContext,
        mut error: Box<Error>,
        client_reused: bool,
    ) -> Box<Error> {
        let unprocessed = stream_error::is_unprocessed(&error);
        let replayable = (unprocessed || session.req_header().method.is_idempotent())
            && !session.as_ref().retry_buffer_truncated()
            && ctx.progress == Progress::Nothing
            && ctx.missed().is_none()
            && ctx.failure.is_none()
            && Failure::proxying(&error, ctx.progress).facts().retried == Retried::Again;
        if replayable {
            // A kept connection that the backend was just closing: the request never reached it.
            error.retry.decide_reuse(client_reused);
            // Pingora marks what it cannot read on a kept connection, but not what it cannot write.
            let is_cut = *error.etype() == ErrorType::WriteError || stream_error::is_broken(&error);
            if unprocessed || client_reused && is_cut {
                error.set_retry(true);
            }
        } else {
            error.set_retry(false);
        }
        if error.retry() && !self.may_retry(ctx) {
            error.set_retry(false);
        }
        if error.retry() {
            ctx.connecting = self.clock.monotonic();
            // With the place it has: it goes to the same backend.
            ctx.wait_is_over();
            ctx.forget_body();
        }
        error
    }
}
