//! The pages Homing answers with itself: what failed, in HTML or JSON, with the id of the request; or
//! the page that the operator wrote for it.

use bytes::Bytes;
use http::header;
use http::{HeaderMap, Method, StatusCode};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora_proxy::Session;
use serde_json::json;

use super::call;
use super::context::RequestContext;
use super::failure::Failure;
use super::fetched::FetchedPages;
use crate::balancer::failure::page::{ErrorPolicy, Page};
use crate::balancer::failure::{Facts, Repeat};

/// The least status an error page is sent with: what is logged as 499 has nobody to read a page.
const STATUS_NOBODY_READS: u16 = 499;

/// The status that a call is answered with, whatever becomes of it.
const GRPC_STATUS: u16 = 200;

const HTML: &str = "text/html; charset=utf-8";
const PROBLEM: &str = "application/problem+json";

/// What a client may ask with, when it asked with what we refuse (RFC 9110 §15.5.6).
const ALLOWED: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE";

/// Answers our own question whether this process serves. It is no client's request: it is neither
/// counted nor logged.
pub(super) async fn serving(session: &mut Session, ctx: &mut RequestContext) -> Result<bool> {
    ctx.accounted = true;
    session.set_keepalive(None);
    let response = ResponseHeader::build(StatusCode::NO_CONTENT, None)?;
    session.write_response_header(Box::new(response), true).await?;
    Ok(true)
}

/// Answers the challenge of an ACME server (RFC 8555 §8.3), whatever the name: it follows redirects here.
pub(super) async fn challenge(
    session: &mut Session,
    authorization: Box<str>,
    ctx: &mut RequestContext,
) -> Result<bool> {
    let body = Bytes::from(authorization.into_string());
    let head_only = session.req_header().method == Method::HEAD;
    let mut response = ResponseHeader::build(StatusCode::OK, Some(4))?;
    response.insert_header(header::CONTENT_TYPE, "application/octet-stream")?;
    response.insert_header(header::CONTENT_LENGTH, body.len())?;
    response.insert_header(header::CACHE_CONTROL, "no-store")?;
    super::forward::to_client(&mut response, ctx)?;
    session.write_response_header(Box::new(response), head_only).await?;
    if !head_only {
        session.write_response_body(Some(body), true).await?;
    }
    Ok(true)
}

/// What failures are answered with.
pub(super) struct Answers<'a> {
    pub(super) errors: &'a ErrorPolicy,
    pub(super) fetched: &'a FetchedPages,
}

/// Sends the page of a failure, unless nobody is there to read it. Answers with the status sent.
pub(super) async fn send(
    session: &mut Session,
    failure: Failure,
    ctx: &RequestContext,
    answers: &Answers<'_>,
) -> Result<Option<u16>> {
    let facts = failure.facts().with(answers.errors.statuses);
    if facts.status == STATUS_NOBODY_READS {
        session.set_keepalive(None);
        return Ok(None);
    }
    let id = ctx.id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or("");
    let request = session.req_header();
    if ctx.is_call() {
        let mut response = call::refusal(facts, request.version)?;
        super::forward::to_client(&mut response, ctx)?;
        write_head(session, response, true).await?;
        return Ok(Some(GRPC_STATUS));
    }
    let (media, body) = match form(&request.headers) {
        Form::Html => (HTML, own_page(facts, id, answers).unwrap_or_else(|| html(facts, id))),
        Form::Json => (PROBLEM, problem(facts, ctx.detail, id)),
    };
    let head_only = request.method == Method::HEAD;
    let mut response = ResponseHeader::build(facts.status, Some(8))?;
    response.insert_header(header::CONTENT_TYPE, media)?;
    response.insert_header(header::CONTENT_LENGTH, body.len())?;
    response.insert_header(header::CACHE_CONTROL, "no-store")?;
    response.insert_header("X-Homing-Error", facts.code)?;
    if let Some(seconds) = ctx.retry_after.or(facts.retry_after) {
        response.insert_header(header::RETRY_AFTER, seconds)?;
    }
    if failure == Failure::MethodRefused {
        response.insert_header(header::ALLOW, ALLOWED)?;
    }
    super::forward::to_client(&mut response, ctx)?;
    write_head(session, response, head_only).await?;
    if !head_only {
        session.write_response_body(Some(body), true).await?;
    }
    Ok(Some(facts.status))
}

/// Writes the head of a response of ours. Pingora does not tell a session of HTTP/2 that a head `is_all` of it.
async fn write_head(session: &mut Session, head: ResponseHeader, is_all: bool) -> Result<()> {
    let head = Box::new(head);
    match session.as_mut().as_custom_mut() {
        Some(stream) => stream.write_response_header(head, is_all).await,
        None => session.write_response_header(head, is_all).await,
    }
}

/// The page that the operator wrote for this failure, if there is one and it is at hand.
fn own_page(facts: Facts, id: &str, answers: &Answers<'_>) -> Option<Bytes> {
    let at_hand = |page: &Page| page.kept.clone().or_else(|| answers.fetched.get(&page.name));
    let page = answers.errors.pages.of(facts).find_map(at_hand)?;
    Some(page.fill(facts, id))
}

/// The form of a page.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Form {
    Html,
    Json,
}

/// JSON for who asks for it and not for HTML; a browser asks for HTML first.
fn form(headers: &HeaderMap) -> Form {
    let accepts = |media: &str| {
        let lines = headers.get_all(header::ACCEPT).iter().filter_map(|line| line.to_str().ok());
        lines.flat_map(|line| line.split(',')).any(|item| {
            item.split(';').next().is_some_and(|name| name.trim().eq_ignore_ascii_case(media))
        })
    };
    let json = accepts("application/json") || accepts("application/problem+json");
    if json && !accepts("text/html") { Form::Json } else { Form::Html }
}

/// The problem as RFC 9457 has it; `code`, `error` and `request_id` are ours.
fn problem(facts: Facts, detail: Option<&str>, id: &str) -> Bytes {
    let body = json!({
        "type": format!("urn:x-homing:failure:{}", facts.label),
        "title": facts.text,
        "status": facts.status,
        "detail": detail.unwrap_or_else(|| advice(facts.repeat)),
        "instance": instance(id),
        "code": facts.code,
        "error": facts.label,
        "request_id": id,
    });
    format!("{body}\n").into()
}

/// What the client may do about it.
fn advice(repeat: Repeat) -> &'static str {
    match repeat {
        Repeat::Any => "the same request may be sent again",
        Repeat::Idempotent => "the same request may be sent again if it is idempotent",
        Repeat::Never => "the same request would fail again",
    }
}

/// The request as a URN (RFC 8141). Its id holds letters, digits and `+/=-` only.
fn instance(id: &str) -> String {
    match uuid::Uuid::try_parse(id) {
        Ok(uuid) => uuid.urn().to_string(),
        Err(_) => format!("urn:x-homing:request:{id}"),
    }
}

fn html(facts: Facts, id: &str) -> Bytes {
    let Facts { status, code, text, .. } = facts;
    // The id holds letters, digits and `+/=-` only: nothing to escape.
    let page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{status} {text}</title>\n\
         <h1>{text}</h1>\n<p>{status} · {code}</p>\n<p>Request <code>{id}</code></p>\n</html>\n"
    );
    page.into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::balancer::failure::page::{Pages, Template, Which};

    fn template(text: &'static str) -> Template {
        Template::new(Bytes::from_static(text.as_bytes())).unwrap()
    }

    #[test]
    fn a_page_that_was_not_fetched_yet_leaves_its_place_to_the_next_one() {
        let page = |name: &str, kept| Page { name: name.into(), kept };
        let pages = Pages::new(vec![
            (Which::Default, page("all.html", Some(Arc::new(template("all"))))),
            (Which::Code("H12"), page("http://a/", None)),
        ]);
        let errors = ErrorPolicy { pages, ..ErrorPolicy::default() };
        let fetched = FetchedPages::default();
        let answers = Answers { errors: &errors, fetched: &fetched };
        let sent = || own_page(Failure::FirstByteTimeout.facts(), "id", &answers).unwrap();
        assert_eq!(sent(), "all");
        fetched.put("http://a/", template("{{request_id}}"));
        assert_eq!(sent(), "id");
        fetched.keep(|url| url != "http://a/");
        assert_eq!(sent(), "all");
        let none = Answers { errors: &ErrorPolicy::default(), fetched: &fetched };
        assert_eq!(own_page(Failure::FirstByteTimeout.facts(), "id", &none), None);
    }

    #[test]
    fn a_request_is_a_urn_whatever_its_id() {
        let id = "6903a168-b79b-ec27-03c8-b8f64d8d8792";
        assert_eq!(instance(id), format!("urn:uuid:{id}"));
        assert_eq!(instance("abc+/=0123456789abcde"), "urn:x-homing:request:abc+/=0123456789abcde");
    }

    #[test]
    fn who_asks_for_json_alone_gets_json() {
        let asked = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, http::HeaderValue::from_static(accept));
            form(&headers)
        };
        assert_eq!(asked("application/json"), Form::Json);
        assert_eq!(asked("application/problem+json;q=0.9, */*"), Form::Json);
        assert_eq!(asked("text/html,application/json;q=0.9"), Form::Html);
        assert_eq!(asked("*/*"), Form::Html);
        assert_eq!(form(&HeaderMap::new()), Form::Html);
    }
}
