//! The pages Homing answers with itself: what failed, in HTML or JSON, with the id of the request; or
//! the page that the operator wrote for the maintenance of an app.

use bytes::Bytes;
use http::header;
use http::{HeaderMap, Method, StatusCode};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora_proxy::Session;
use serde_json::json;

use super::context::RequestContext;
use super::failure::Failure;

/// The least status an error page is sent with: what is logged as 499 has nobody to read a page.
const STATUS_NOBODY_READS: u16 = 499;

const HTML: &str = "text/html; charset=utf-8";
/// Answers our own question whether this process serves. It is no client's request: it is neither
/// counted nor logged.
pub(super) async fn serving(session: &mut Session, ctx: &mut RequestContext) -> Result<bool> {
    ctx.accounted = true;
    session.set_keepalive(None);
    let response = ResponseHeader::build(StatusCode::NO_CONTENT, None)?;
    session.write_response_header(Box::new(response), true).await?;
    Ok(true)
}

/// Sends the page of a failure, unless nobody is there to read it. Answers with the status sent.
pub(super) async fn send(
    session: &mut Session,
    failure: Failure,
    ctx: &RequestContext,
) -> Result<Option<u16>> {
    let facts = failure.facts();
    if facts.status == STATUS_NOBODY_READS {
        session.set_keepalive(None);
        return Ok(None);
    }
    let id = ctx.id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or("");
    let request = session.req_header();
    let (media, body) = match (form(&request.headers), own_page(failure, ctx)) {
        (Form::Html, Some(page)) => (HTML, page),
        (Form::Html, None) => (HTML, Bytes::from(html(failure, id))),
        (Form::Json, _) => ("application/json", Bytes::from(json_body(failure, id))),
    };
    let head_only = request.method == Method::HEAD;
    let mut response = ResponseHeader::build(facts.status, Some(6))?;
    response.insert_header(header::CONTENT_TYPE, media)?;
    response.insert_header(header::CONTENT_LENGTH, body.len())?;
    response.insert_header(header::CACHE_CONTROL, "no-store")?;
    response.insert_header("X-Homing-Error", facts.code)?;
    if let Some(seconds) = ctx.retry_after {
        response.insert_header(header::RETRY_AFTER, seconds)?;
    }
    super::forward::to_client(&mut response, ctx)?;
    session.write_response_header(Box::new(response), head_only).await?;
    if !head_only {
        session.write_response_body(Some(body), true).await?;
    }
    Ok(Some(facts.status))
}

/// The page that the operator wrote for this failure, if there is one.
fn own_page(failure: Failure, ctx: &RequestContext) -> Option<Bytes> {
    let page = ctx.app.as_ref()?.app.policy.maintenance_page.clone();
    page.filter(|_| failure == Failure::Maintenance)
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

fn json_body(failure: Failure, id: &str) -> String {
    let facts = failure.facts();
    let body = json!({
        "code": facts.code,
        "error": facts.label,
        "message": facts.text,
        "request_id": id,
        "status": facts.status,
    });
    format!("{body}\n")
}

fn html(failure: Failure, id: &str) -> String {
    let facts = failure.facts();
    let (status, code, text) = (facts.status, facts.code, facts.text);
    // The id holds letters, digits and `+/=-` only: nothing to escape.
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{status} {text}</title>\n\
         <h1>{text}</h1>\n<p>{status} · {code}</p>\n<p>Request <code>{id}</code></p>\n</html>\n"
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::balancer::affinity::keyring::{Key, Keyring};
    use crate::balancer::app::policy::Policy;
    use crate::balancer::state::{Balancer, Event};
    use crate::config;

    #[test]
    fn the_page_of_the_operator_is_for_maintenance_alone() {
        let file = "state_dir: s\nlisteners: [{ address: \"127.0.0.1:1\" }]\n\
                    apps: [{ name: shop, domains: [a.example], backends: [] }]\n";
        let mut config = config::parse(Path::new("f.yaml"), file.into()).unwrap();
        let maintenance_page = Some(Bytes::from_static(b"<p>Back at eight</p>"));
        let policy = (*config.apps[0].policy).clone();
        config.apps[0].policy =
            Arc::new(Policy { maintenance_page: maintenance_page.clone(), ..policy });
        let ring = Keyring::new(vec![Key::from_secret(&[1; 32]).unwrap()]).unwrap();
        let mut balancer = Balancer::default();
        balancer.apply(Event::Configured(Box::new(config.spec(ring, 0))), Duration::ZERO);
        let mut ctx = RequestContext::new(Duration::ZERO, Duration::ZERO);
        assert_eq!(own_page(Failure::Maintenance, &ctx), None);
        ctx.app = Some(Arc::clone(&balancer.snapshot().apps[0]));
        assert_eq!(own_page(Failure::Maintenance, &ctx), maintenance_page);
        assert_eq!(own_page(Failure::NoBackend, &ctx), None);
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
