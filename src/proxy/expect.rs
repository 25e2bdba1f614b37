//! `Expect: 100-continue` (RFC 9110 §10.1.1): a client that sends its body only when it is told to. The backend
//! decides; Homing tells the client so itself only where the backend cannot be heard: Pingora sees no interim
//! responses of HTTP/2.

use std::time::Duration;

use http::{Method, StatusCode, Version, header};
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::connection::Wait;
use super::context::RequestContext;
use super::forward::listed;
use super::said::Said;

/// How long a client that got its answer instead of `100 Continue` may take to begin its body all the same. Then its
/// connection is closed, as it was told.
const UNSENT: Duration = Duration::from_millis(500);

/// What the client waits for before it sends its body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Expects {
    /// Nothing, or nothing any more.
    Nothing,
    /// `100 Continue`, or a final status.
    Continue,
    /// A final status came: the body need not come, and nobody can tell whether it will.
    Unsent,
}

/// What a request expects; `None`: what nobody can fulfil. Clients of HTTP/1.0 cannot wait.
pub(super) fn read(request: &RequestHeader, said: Said) -> Option<Expects> {
    if !said.has(Said::EXPECT) {
        return Some(Expects::Nothing);
    }
    let items = listed(&request.headers, &header::EXPECT);
    let mut expects = Expects::Nothing;
    for item in items.filter(|item| !item.is_empty()) {
        if !item.eq_ignore_ascii_case(b"100-continue") {
            return None;
        }
        if request.version != Version::HTTP_10 {
            expects = Expects::Continue;
        }
    }
    Some(expects)
}

/// Lets a client go on that waits for a backend which speaks HTTP/2.
///
/// # Errors
/// When the client left.
pub(super) async fn release(session: &mut Session, ctx: &mut RequestContext) -> Result<()> {
    if ctx.expects == Expects::Continue {
        interim(session, StatusCode::CONTINUE, ctx);
        session.as_mut().write_continue_response().await?;
    }
    Ok(())
}

/// Notes that an interim response passes. It says nothing of whether the connection of the client is kept, which
/// Pingora would decide here.
pub(super) fn interim(session: &mut Session, status: StatusCode, ctx: &mut RequestContext) {
    session.as_downstream_mut().set_close_on_response_before_downstream_finish(false);
    if status == StatusCode::CONTINUE {
        ctx.expects = Expects::Nothing;
    }
}

/// Notes that the final head passes: the connection of a client that has not sent its whole body is closed after it.
pub(super) fn answer(session: &mut Session, response: &ResponseHeader, ctx: &mut RequestContext) {
    session.as_downstream_mut().set_close_on_response_before_downstream_finish(true);
    let begun = session.body_bytes_read() > 0 || session.as_downstream_mut().is_body_done();
    if ctx.expects == Expects::Nothing || begun {
        return;
    }
    ctx.expects = Expects::Unsent;
    let bodiless = session.req_header().method == Method::HEAD
        || matches!(response.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || response.headers.get(header::CONTENT_LENGTH).is_some_and(|length| length == "0");
    if bodiless {
        answered(ctx);
    }
}

/// Notes that the whole answer passed.
pub(super) fn answered(ctx: &mut RequestContext) {
    if ctx.expects == Expects::Unsent {
        ctx.wait_for(Wait::Unsent, UNSENT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expectation_is_100_continue_in_any_case_or_nobody_meets_it() {
        let read = |lines: &[&'static str], version| {
            let mut request = RequestHeader::build("POST", b"/", None).unwrap();
            request.set_version(version);
            for line in lines {
                request.append_header("Expect", *line).unwrap();
            }
            read(&request, Said::of(&request.headers))
        };
        let now = |lines: &[&'static str]| read(lines, Version::HTTP_11);
        for lines in [&["100-continue"][..], &["100-Continue"], &["100-continue, 100-continue"]] {
            assert_eq!(now(lines), Some(Expects::Continue), "{lines:?}");
            assert_eq!(read(lines, Version::HTTP_10), Some(Expects::Nothing), "{lines:?}");
        }
        for lines in [&[][..], &[""], &[" , "]] {
            assert_eq!(now(lines), Some(Expects::Nothing), "{lines:?}");
        }
        for lines in [
            &["100 continue"][..],
            &["100-continue=1"],
            &["whatever"],
            &["100-continue, x"],
            &["100-continue", "x"],
        ] {
            assert_eq!(now(lines), None, "{lines:?}");
            assert_eq!(read(lines, Version::HTTP_10), None, "{lines:?}");
        }
    }
}
