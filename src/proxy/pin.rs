//! What a response says of the pin of its client.

use http::header::SET_COOKIE;
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

use super::caching;
use super::context::RequestContext;
use crate::balancer::affinity::token::Token;
use crate::balancer::affinity::word::AppWord;
use crate::balancer::affinity::{Affinity, OnCacheable, Presented};
use crate::balancer::app::view::AppView;
use crate::balancer::assign::Assignment;

/// Takes in what the app says of the pin: by its word, where that counts, and by the session it opens.
pub(super) fn hear(
    said: AppWord,
    session: &Session,
    response: &ResponseHeader,
    ctx: &mut RequestContext,
) {
    let affinity = ctx.app.as_ref().and_then(|view| view.app.affinity.as_ref());
    let (Some(affinity), Some(assignment)) = (affinity, ctx.assignment) else { return };
    let mut word = match (affinity.policy.obey_app, affinity.uses_cookie()) {
        (true, true) => said,
        // There is no pin to speak of.
        (true, false) => AppWord { drain: said.drain, ..AppWord::default() },
        (false, _) => AppWord::default(),
    };
    if affinity.uses_cookie() && !matches!(ctx.presented, Presented::Pin(_)) {
        let now = ctx.started_unix.as_secs();
        word.start |= affinity.policy.start_on.opens(&response.headers, now);
    }
    ctx.assignment = Some(match word {
        AppWord { end: true, .. } => assignment.ended(),
        AppWord { start: true, .. } if !is_left_alone(affinity, session, response) => {
            assignment.begun()
        }
        AppWord { .. } => assignment,
    });
    ctx.word = word;
}

/// Hands the client its token, when it is to have a new one, or takes it back. Answers with the mark of the
/// client when it got one.
pub(super) fn hand_out(
    session: &Session,
    response: &mut ResponseHeader,
    ctx: &RequestContext,
) -> Result<Option<u64>> {
    let (Some(view), Some(assignment)) = (&ctx.app, &ctx.assignment) else { return Ok(None) };
    let Some(affinity) = &view.app.affinity else { return Ok(None) };
    let token = match ctx.word.end {
        true if !shows_cookie(&ctx.presented) => return Ok(None),
        true => None,
        false => match token(view, assignment, ctx) {
            Some(token) => Some(token),
            None => return Ok(None),
        },
    };
    if is_left_alone(affinity, session, response) {
        return Ok(None);
    }
    if response.status != http::StatusCode::SWITCHING_PROTOCOLS {
        caching::mark_private(response)?;
    }
    let mut set = |cookie| response.append_header(SET_COOKIE, cookie).map(drop);
    match &token {
        Some(token) => affinity
            .set_cookies(token, ctx.scheme, ctx.started_unix.as_secs())
            .try_for_each(&mut set)?,
        None => affinity.delete_cookies(ctx.scheme).try_for_each(&mut set)?,
    }
    Ok(token.map(|token| token.client.mark()))
}

/// Whether a response is for shared caches, and is to stay so.
fn is_left_alone(affinity: &Affinity, session: &Session, response: &ResponseHeader) -> bool {
    affinity.policy.on_cacheable == OnCacheable::LeaveAlone
        && caching::is_for_shared_caches(&session.req_header().method, response)
}

/// Whether the client has a cookie of ours that can be taken back.
fn shows_cookie(presented: &Presented) -> bool {
    match presented {
        Presented::Key(key) => key.lost.is_some(),
        Presented::Nothing => false,
        Presented::Pin(_) | Presented::Unusable(_) => true,
    }
}

/// The token that the client is to have, if it has not.
fn token(view: &AppView, assignment: &Assignment, ctx: &RequestContext) -> Option<Token> {
    let now = ctx.started_unix.as_secs();
    let token = assignment.token(view, &ctx.presented, ctx.word, now, &mut rand::rng());
    // Asked only when there is something to hand out: it takes a lock.
    token.filter(|_| !pin_is_stale(view, assignment, ctx, now))
}

/// Whether the client was moved while this request was under way: its new cookie must not be overwritten.
fn pin_is_stale(view: &AppView, assignment: &Assignment, ctx: &RequestContext, now: u64) -> bool {
    let keeps = matches!(assignment, Assignment::Borrow(..) | Assignment::Follow(..));
    match &ctx.presented {
        Presented::Pin(pin) if keeps && view.rebalances() => {
            view.app.live.moves().went_elsewhere(pin, now)
        }
        Presented::Key(_) | Presented::Nothing | Presented::Pin(_) | Presented::Unusable(_) => {
            false
        }
    }
}
