//! Who may have anything done on the admin listener, which every page in the operator's browser can reach.

use http::{HeaderMap, StatusCode, header};
use pingora::http::RequestHeader;

use super::{Answer, api};
use crate::config::model::Api;

/// Lets a request pass that shows the token, was addressed to us, and comes from no web page.
///
/// # Errors
/// With the answer to the others.
pub(super) fn check(request: &RequestHeader, api: Option<&Api>) -> Result<(), Answer> {
    let Some(api) = api else {
        let text = "commands are off here: set `admin.token`, or use the control socket";
        return Err(api::error(StatusCode::NOT_FOUND, text));
    };
    let headers = &request.headers;
    if is_from_a_page(headers) {
        return Err(api::error(StatusCode::FORBIDDEN, "commands are not taken from web pages"));
    }
    // A name that leads to us only by a page's own DNS (rebinding) is none of ours.
    let authority = request.uri.authority().map(|authority| authority.as_str());
    let host = authority.or_else(|| text(headers, &header::HOST));
    if !host.is_some_and(|host| is_ours(host, &api.hosts)) {
        let text = "this is no name of the admin listener; `admin.hosts` lists them";
        return Err(api::error(StatusCode::MISDIRECTED_REQUEST, text));
    }
    match bearer(headers) {
        Some(token) if api.token.is(token.as_bytes()) => Ok(()),
        Some(_) | None => {
            Err(api::error(StatusCode::UNAUTHORIZED, "the bearer token is missing or wrong"))
        }
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &header::HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// Browsers say so: `Origin` (RFC 6454) with every request that changes anything, and `Sec-Fetch-Site`
/// with every request at all.
fn is_from_a_page(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").map(|site| site.as_bytes() != b"none");
    headers.contains_key(header::ORIGIN) || site == Some(true)
}

/// The token of an `Authorization` header (RFC 6750 §2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = text(headers, &header::AUTHORIZATION)?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

fn is_ours(host: &str, names: &[Box<str>]) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<std::net::IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || names.iter().any(|own| own.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::BearerToken;

    #[track_caller]
    fn check_with(headers: &[(&'static str, &str)], expected: Option<u16>) {
        let api = Api {
            token: BearerToken::new(b"a token of tests"),
            hosts: vec!["edge.internal".into()],
        };
        let mut request = RequestHeader::build("POST", b"/v1/reload", None).unwrap();
        for (name, value) in headers {
            request.insert_header(*name, *value).unwrap();
        }
        let status = check(&request, Some(&api)).err().map(|answer| answer.status.as_u16());
        assert_eq!(status, expected, "{headers:?}");
    }

    const TOKEN: (&str, &str) = ("authorization", "Bearer a token of tests");

    #[test]
    fn who_shows_the_token_may_act() {
        check_with(&[("host", "127.0.0.1:9180"), TOKEN], None);
        check_with(&[("host", "[::1]:9180"), TOKEN], None);
        check_with(&[("host", "localhost"), TOKEN], None);
        check_with(&[("host", "Edge.internal:9180"), TOKEN], None);
    }

    #[test]
    fn who_does_not_may_not() {
        check_with(&[("host", "127.0.0.1")], Some(401));
        check_with(&[("host", "127.0.0.1"), ("authorization", "Bearer another")], Some(401));
        check_with(
            &[("host", "127.0.0.1"), ("authorization", "Basic a token of tests")],
            Some(401),
        );
    }

    #[test]
    fn a_name_that_is_not_ours_is_refused_even_with_the_token() {
        check_with(&[("host", "rebound.example:9180"), TOKEN], Some(421));
        check_with(&[TOKEN], Some(421));
    }

    #[test]
    fn a_web_page_is_refused_even_with_the_token() {
        let host = ("host", "127.0.0.1");
        check_with(&[host, TOKEN, ("origin", "https://evil.example")], Some(403));
        check_with(&[host, TOKEN, ("sec-fetch-site", "same-site")], Some(403));
        check_with(&[host, TOKEN, ("sec-fetch-site", "none")], None);
    }
}
