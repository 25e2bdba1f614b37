//! What a response says of the pin of its client.

use pingora::Result;
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

use super::caching;
use super::context::RequestContext;
use crate::balancer::affinity::token::Token;
use crate::balancer::affinity::{Affinity, HandOut, OnCacheable, Presented, Renewal};
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
    let Some(token) = token(view, affinity, assignment, ctx) else { return Ok(None) };
    if affinity.policy.on_cacheable == OnCacheable::LeaveAlone
        && caching::is_for_shared_caches(&session.req_header().method, response)
    {
        return Ok(None);
    }
    if response.status != http::StatusCode::SWITCHING_PROTOCOLS {
        caching::mark_private(response)?;
    }
    let cookie = affinity.set_cookie(&token, ctx.scheme, ctx.started_unix.as_secs());
    response.append_header("Set-Cookie", cookie)?;
    Ok(Some(token.client.mark()))
}

/// The token that the client is to have, if it has not.
fn token(
    view: &AppView,
    affinity: &Affinity,
    assignment: &Assignment,
    ctx: &RequestContext,
) -> Option<Token> {
    let now = ctx.started_unix.as_secs();
    let no_cookie = |presented: &Presented| match presented {
        Presented::Key(key) => key.cookie == HandOut::No,
        Presented::Nothing | Presented::Pin(_) | Presented::Unusable(_) => false,
    };
    match assignment {
        Assignment::Follow(_, pin) if pin.renewal == Renewal::NotDue => None,
        Assignment::Follow(_, pin) => Some(pin.token.renewed_at(now)),
        Assignment::Make(_) | Assignment::Move(..) if no_cookie(&ctx.presented) => None,
        Assignment::Make(slot) | Assignment::Move(slot, _) => {
            let backend = view.app.backend(*slot);
            Some(affinity.token(backend, &ctx.presented, now, &mut rand::rng()))
        }
        Assignment::Borrow(..) => match &ctx.presented {
            // Lent for long, it must not expire under a client that comes.
            Presented::Pin(pin) if pin.renewal == Renewal::Due => Some(pin.token.renewed_at(now)),
            Presented::Key(_) | Presented::Nothing | Presented::Pin(_) | Presented::Unusable(_) => {
                None
            }
        },
        Assignment::Refuse(_) | Assignment::Spread(_) | Assignment::Wait(_) => None,
    }
}
