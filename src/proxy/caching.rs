//! A response with our cookie is for one client: no shared cache may hand it to others (RFC 9111).

use http::header::{self, HeaderName};
use http::{HeaderValue, Method};
use pingora::Result;
use pingora::http::ResponseHeader;

use super::said::{Said, TARGETED};

/// Directives that invite shared caches; `private` takes their place.
const INVITING: [&str; 4] = ["public", "s-maxage", "proxy-revalidate", "private"];

/// Keeps the response out of shared caches, unless the app did already.
pub(super) fn mark_private(response: &mut ResponseHeader) -> Result<()> {
    if !Said::of(&response.headers).has(Said::CACHING) {
        return response.insert_header(header::CACHE_CONTROL, HeaderValue::from_static("private"));
    }
    for name in TARGETED {
        if response.headers.contains_key(name) {
            response.insert_header(
                HeaderName::from_static(name),
                HeaderValue::from_static("no-store"),
            )?;
        }
    }
    let lines: Vec<&str> = lines(response).collect();
    if lines.iter().flat_map(|line| directives(line)).any(|directive| forbids_sharing(&directive)) {
        return Ok(());
    }
    let kept = lines.iter().flat_map(|line| directives(line)).filter(|directive| {
        let name = directive.split('=').next().unwrap_or(directive).trim();
        !INVITING.iter().any(|inviting| inviting.eq_ignore_ascii_case(name))
    });
    let value = std::iter::once("private".to_owned()).chain(kept).collect::<Vec<_>>().join(", ");
    response.insert_header(header::CACHE_CONTROL, value)
}

/// Whether the app invites shared caches to keep this response.
pub(super) fn is_for_shared_caches(method: &Method, response: &ResponseHeader) -> bool {
    if *method != Method::GET && *method != Method::HEAD {
        return false;
    }
    let all: Vec<String> = lines(response).flat_map(directives).collect();
    if all.iter().any(|directive| forbids_sharing(directive)) {
        return false;
    }
    let invites = |directive: &String| {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        let lasting = value.trim().trim_matches('"').parse::<u64>().is_ok_and(|age| age > 0);
        match name.trim().to_ascii_lowercase().as_str() {
            "public" => true,
            "s-maxage" | "max-age" => lasting,
            _ => false,
        }
    };
    let targeted = TARGETED.iter().any(|name| response.headers.contains_key(*name));
    let expires = all.is_empty() && response.headers.contains_key(header::EXPIRES);
    targeted || expires || all.iter().any(invites)
}

fn lines(response: &ResponseHeader) -> impl Iterator<Item = &str> {
    response.headers.get_all(header::CACHE_CONTROL).iter().filter_map(|line| line.to_str().ok())
}

/// The directives of one line; a comma between quotes separates nothing.
fn directives(line: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut quoted = false;
    for character in line.chars() {
        match character {
            ',' if !quoted => all.push(String::new()),
            character => {
                quoted ^= character == '"';
                if let Some(last) = all.last_mut() {
                    last.push(character);
                }
            }
        }
    }
    all.iter().map(|directive| directive.trim().to_owned()).filter(|d| !d.is_empty()).collect()
}

/// `no-store`, and `private` for the whole response; `private="x"` concerns single fields only.
fn forbids_sharing(directive: &str) -> bool {
    directive.eq_ignore_ascii_case("no-store") || directive.eq_ignore_ascii_case("private")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(lines: &[(&'static str, &str)]) -> ResponseHeader {
        let mut response = ResponseHeader::build(200, None).unwrap();
        for (name, value) in lines {
            response.append_header(*name, *value).unwrap();
        }
        response
    }

    #[track_caller]
    fn marked(before: &[&str], after: &str) {
        let lines: Vec<_> = before.iter().map(|line| ("cache-control", *line)).collect();
        let mut response = response(&lines);
        mark_private(&mut response).unwrap();
        let all: Vec<_> = super::lines(&response).collect();
        assert_eq!(all.join(" | "), after, "{before:?}");
    }

    #[test]
    fn a_response_with_our_cookie_is_private() {
        marked(&[], "private");
        marked(&["public, max-age=60"], "private, max-age=60");
        marked(&["s-maxage=60, max-age=5, must-revalidate"], "private, max-age=5, must-revalidate");
        marked(&["max-age=5", "public"], "private, max-age=5");
        marked(&["private=\"x, y\", max-age=5"], "private, max-age=5");
    }

    #[test]
    fn what_the_app_forbade_already_stays_as_it_is() {
        marked(&["no-store"], "no-store");
        marked(&["Private, max-age=5"], "Private, max-age=5");
        marked(&["max-age=5", "no-store"], "max-age=5 | no-store");
    }

    #[test]
    fn caches_with_a_field_of_their_own_are_told_too() {
        let mut response =
            response(&[("cdn-cache-control", "max-age=60"), ("cache-control", "no-store")]);
        mark_private(&mut response).unwrap();
        assert_eq!(response.headers["cdn-cache-control"], "no-store");
    }

    #[test]
    fn an_invitation_to_shared_caches_is_recognised() {
        let invited =
            |line| is_for_shared_caches(&Method::GET, &response(&[("cache-control", line)]));
        assert!(invited("public"));
        assert!(invited("max-age=60"));
        assert!(invited("s-maxage=\"60\""));
        assert!(!invited("max-age=0"));
        assert!(!invited("private, max-age=60"));
        assert!(!invited("no-cache"));
        assert!(is_for_shared_caches(
            &Method::GET,
            &response(&[("expires", "Thu, 01 Jan 2032 00:00:00 GMT")])
        ));
        assert!(!is_for_shared_caches(&Method::GET, &response(&[])));
        assert!(!is_for_shared_caches(&Method::POST, &response(&[("cache-control", "public")])));
    }
}
