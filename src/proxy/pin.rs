//! What a response says of the pin of its client.

use pingora::Result;
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

use super::caching;
use super::context::RequestContext;
use crate::balancer::affinity::{Affinity, OnCacheable};
use crate::balancer::app::view::AppView;
use crate::balancer::assign::Assignment;

/// Hands the client its token, when it is to have a new one. Answers with the mark of the client then.
pub(super) fn hand_out(
    session: &Session,
    response: &mut ResponseHeader,
    ctx: &RequestContext,
) -> Result<Option<u64>> {
    let (Some(view), Some(assignment)) = (&ctx.app, &ctx.assignment) else { return Ok(None) };
    let Some(affinity) = &view.app.affinity else { return Ok(None) };
    let now = ctx.started_unix.as_secs();
    let token = assignment.token(view, &ctx.presented, now, &mut rand::rng());
    let Some(token) = token.filter(|_| !pin_is_stale(view, affinity, assignment, now)) else {
        return Ok(None);
    };
    if affinity.policy.on_cacheable == OnCacheable::LeaveAlone
        && caching::is_for_shared_caches(&session.req_header().method, response)
    {
        return Ok(None);
    }
    if response.status != http::StatusCode::SWITCHING_PROTOCOLS {
        caching::mark_private(response)?;
    }
    let cookie = affinity.set_cookie(&token, ctx.scheme, now);
    response.append_header("Set-Cookie", cookie)?;
    Ok(Some(token.client.mark()))
}

/// Whether the client was moved while this request was under way: its new cookie must not be overwritten.
fn pin_is_stale(view: &AppView, affinity: &Affinity, assignment: &Assignment, now: u64) -> bool {
    let (Assignment::Follow(_, pin), Some(_)) = (assignment, affinity.policy.rebalance) else {
        return false;
    };
    view.app.live.moves().went_elsewhere(pin, now)
}
