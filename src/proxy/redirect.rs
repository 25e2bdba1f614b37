//! Who came without TLS, and is sent to the same place with it.

use bytes::{BufMut, Bytes, BytesMut};
use http::header;
use http::{HeaderValue, StatusCode};
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::context::RequestContext;
use super::forward::{split_absolute, to_client};
use super::record;
use crate::balancer::affinity::cookie::Scheme;
use crate::config::model::Redirect;
use crate::issued;

/// The port that a URL of `https` needs not name.
const HTTPS: u16 = 443;

/// What the log says of such a request.
const DETAIL: &str = "redirect to https";

/// How the request is to be sent to TLS, if it is: neither who came over it already, as far as we or a trusted proxy
/// know, nor a certificate authority.
pub(super) fn due(request: &RequestHeader, ctx: &RequestContext) -> Option<Redirect> {
    let redirect = ctx.connection.as_ref()?.origin().redirect?;
    let is_challenge = request.uri.path().starts_with(issued::PATH);
    (ctx.scheme == Scheme::Http && !is_challenge).then_some(redirect)
}

/// Sends a request to the same host and target over TLS. `false`: it names no host, so that there is none to send to.
pub(super) async fn send(
    session: &mut Session,
    redirect: Redirect,
    ctx: &mut RequestContext,
) -> Result<bool> {
    let request = session.req_header();
    let location = location(record::host(request), request.raw_path(), redirect.port);
    let Some(location) = location.and_then(|url| HeaderValue::from_maybe_shared(url).ok()) else {
        return Ok(false);
    };
    let status = StatusCode::from_u16(redirect.status).unwrap_or(StatusCode::PERMANENT_REDIRECT);
    let mut response = ResponseHeader::build(status, Some(4))?;
    response.insert_header(header::LOCATION, location)?;
    response.insert_header(header::CONTENT_LENGTH, 0)?;
    to_client(&mut response, ctx)?;
    session.write_response_header(Box::new(response), true).await?;
    ctx.detail = Some(DETAIL);
    ctx.own_status = Some(status.as_u16());
    Ok(true)
}

/// The URL of `target` on `host`, whose own port is that of the plain listener. Both were checked byte by byte.
fn location(host: &[u8], target: &[u8], port: u16) -> Option<Bytes> {
    let end = match host.first()? {
        b'[' => host.iter().position(|byte| *byte == b']')? + 1,
        _ => host.iter().position(|byte| *byte == b':').unwrap_or(host.len()),
    };
    let target = split_absolute(target).map_or(target, |(_, target)| target);
    let mut url = BytesMut::from(&b"https://"[..]);
    url.put_slice(&host[..end]);
    if port != HTTPS {
        url.put_slice(format!(":{port}").as_bytes());
    }
    // `*`, of OPTIONS, stands for the host.
    if target.first() != Some(&b'/') {
        url.put_u8(b'/');
    }
    url.put_slice(target.strip_prefix(b"*").unwrap_or(target));
    Some(url.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_that_of_the_request_with_another_scheme_and_port() {
        for (host, target, port, expected) in [
            ("shop.example.com", "/", 443, "https://shop.example.com/"),
            ("shop.example.com:8080", "/a%20b?c=d", 443, "https://shop.example.com/a%20b?c=d"),
            ("Shop.Example.com.", "/a", 8443, "https://Shop.Example.com.:8443/a"),
            ("[::1]:8080", "/a", 8443, "https://[::1]:8443/a"),
            ("[::1]", "/a", 443, "https://[::1]/a"),
            ("a.example", "//evil.example/x", 443, "https://a.example//evil.example/x"),
            ("a.example", "http://a.example:80/x?y", 443, "https://a.example/x?y"),
            ("a.example", "http://a.example?y", 443, "https://a.example/?y"),
            ("a.example", "http://a.example", 443, "https://a.example/"),
            ("a.example", "*", 443, "https://a.example/"),
        ] {
            let url = location(host.as_bytes(), target.as_bytes(), port);
            assert_eq!(url.as_deref(), Some(expected.as_bytes()), "{host} {target}");
        }
        assert_eq!(location(b"", b"/", 443), None);
    }
}
