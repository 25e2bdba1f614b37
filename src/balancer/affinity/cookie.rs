//! The cookie that carries a token: found in a request, taken out before the backend sees it,
//! written into a response (RFC 6265bis).

use std::time::Duration;

use cookie::{Cookie, CookieBuilder, SameSite as CrateSameSite};
use memchr::memchr;

/// Most of our cookies that are opened in one request. A browser sends one per path and domain that
/// covers the request; more than this is noise, and each costs two HMACs.
pub const CANDIDATES_MAX: usize = 8;

/// What follows the name of the cookie in that of its twin.
const TWIN_SUFFIX: &str = "-twin";

/// When a browser sends the cookie along from another site.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SameSite {
    /// Top-level navigation only: the default of browsers and ours.
    Lax,
    /// Always; needs `Secure`.
    None,
    /// Never.
    Strict,
}

/// Whether the cookie is kept off plain HTTP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Secure {
    /// Always `Secure`.
    Always,
    /// `Secure` when the client came over TLS.
    Auto,
    /// Never `Secure`.
    Never,
}

/// How the affinity cookie of an app looks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CookiePolicy {
    /// Its name, a token of RFC 9110 §5.6.2.
    pub name: Box<str>,
    /// `SameSite`.
    pub same_site: SameSite,
    /// `Secure`.
    pub secure: Secure,
    /// `Domain`; `None`: host-only.
    pub domain: Option<Box<str>>,
    /// `Path`.
    pub path: Box<str>,
    /// `Partitioned` (CHIPS).
    pub partitioned: bool,
    /// Whether a second cookie carries the same token, without `SameSite` and `Partitioned`: for browsers that
    /// drop the first for `SameSite=None`, or take it for `Strict`.
    pub twin: bool,
}

impl CookiePolicy {
    /// The name of the second cookie, if there is one.
    pub fn twin_name(&self) -> Option<Box<str>> {
        self.twin.then(|| format!("{}{TWIN_SUFFIX}", self.name).into())
    }
}

/// How the client came, as far as it is known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

/// The attributes of the cookie, rendered once per configuration.
#[derive(Clone, Debug)]
pub struct Attributes {
    plain: Box<str>,
    secure: Box<str>,
}

impl Attributes {
    /// Renders what follows `name=token` in `Set-Cookie`, for plain HTTP and for TLS.
    pub fn render(policy: &CookiePolicy) -> Self {
        let same_site = match policy.same_site {
            SameSite::Lax => CrateSameSite::Lax,
            SameSite::None => CrateSameSite::None,
            SameSite::Strict => CrateSameSite::Strict,
        };
        Self::of(policy, |cookie| {
            let cookie = cookie.same_site(same_site);
            if policy.partitioned { cookie.partitioned(true) } else { cookie }
        })
    }

    /// The same for its twin.
    pub fn render_twin(policy: &CookiePolicy) -> Self {
        Self::of(policy, |cookie| cookie)
    }

    fn of(
        policy: &CookiePolicy,
        cross_site: impl Fn(CookieBuilder<'static>) -> CookieBuilder<'static>,
    ) -> Self {
        let render = |secure: bool| {
            let mut cookie = Cookie::build(("n", "v"))
                .http_only(true)
                .secure(secure)
                .path(policy.path.to_string());
            if let Some(domain) = &policy.domain {
                cookie = cookie.domain(domain.to_string());
            }
            let text = cross_site(cookie).build().to_string();
            text.strip_prefix("n=v").unwrap_or(&text).into()
        };
        Self {
            plain: render(policy.secure == Secure::Always),
            secure: render(policy.secure != Secure::Never),
        }
    }

    /// The value of `Set-Cookie`. The browser forgets the cookie after `max_age`.
    pub fn set_cookie(&self, name: &str, token: &str, scheme: Scheme, max_age: Duration) -> String {
        let attributes = match scheme {
            Scheme::Http => &self.plain,
            Scheme::Https => &self.secure,
        };
        let max_age = max_age.as_secs().to_string();
        // In one piece of memory, of just the size.
        [name, "=", token, attributes, "; Max-Age=", &max_age].concat()
    }
}

/// The values of our cookie in one `Cookie` header, in order.
///
/// Names match exactly and with their case; white space around name and value is not part of them.
pub fn values<'a>(header: &'a [u8], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    pairs(header).filter_map(move |pair| value_of(pair, name))
}

/// The header without our cookie, the rest untouched to the byte; `None` when ours is not in it.
/// An empty answer means that nothing is left to send.
pub fn without(header: &[u8], name: &str) -> Option<Vec<u8>> {
    let ours = |pair: &[u8]| value_of(pair, name).is_some();
    let mut pairs = pairs(header);
    let mut before = 0;
    let first = loop {
        let pair = pairs.next()?;
        if ours(pair) {
            break pair;
        }
        before += pair.len() + 1;
    };
    let mut kept = Vec::with_capacity(header.len() - first.len());
    kept.extend_from_slice(&header[..before.saturating_sub(1)]);
    for pair in pairs.filter(|pair| !ours(pair)) {
        if kept.is_empty() {
            kept.extend_from_slice(pair.trim_ascii_start());
        } else {
            kept.push(b';');
            kept.extend_from_slice(pair);
        }
    }
    if kept.trim_ascii().is_empty() {
        kept.clear();
    }
    Some(kept)
}

/// What stands between the semicolons of a header, if only nothing.
fn pairs(header: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(header);
    std::iter::from_fn(move || {
        let left = rest?;
        let end = memchr(b';', left);
        rest = end.map(|end| &left[end + 1..]);
        Some(&left[..end.unwrap_or(left.len())])
    })
}

fn value_of<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    // Most pairs are the app's own: look at the name before splitting.
    let pair = pair.trim_ascii_start();
    let rest = pair.strip_prefix(name.as_bytes())?.trim_ascii_start();
    Some(rest.strip_prefix(b"=")?.trim_ascii())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAME: &str = "homing-affinity";

    #[track_caller]
    fn check(header: &str, found: &[&str], rest: Option<&str>) {
        let values: Vec<_> = values(header.as_bytes(), NAME)
            .map(|value| std::str::from_utf8(value).unwrap())
            .collect();
        assert_eq!(values, found, "{header}");
        let without = without(header.as_bytes(), NAME).map(|rest| String::from_utf8(rest).unwrap());
        assert_eq!(without.as_deref(), rest, "{header}");
    }

    #[test]
    fn our_cookie_is_found_and_taken_out_wherever_it_stands() {
        check("homing-affinity=x", &["x"], Some(""));
        check("a=1; homing-affinity=x; b=2", &["x"], Some("a=1; b=2"));
        check("homing-affinity=x; a=1; b=2", &["x"], Some("a=1; b=2"));
        check("a=1; b=2; homing-affinity=x", &["x"], Some("a=1; b=2"));
        check("a=1;homing-affinity=x;b=2", &["x"], Some("a=1;b=2"));
        check("a=1;  homing-affinity = x ;b=2", &["x"], Some("a=1;b=2"));
    }

    #[test]
    fn several_of_our_cookies_are_all_found_and_all_taken_out() {
        check("homing-affinity=x; a=1; homing-affinity=y", &["x", "y"], Some("a=1"));
    }

    #[test]
    fn a_name_that_only_looks_like_ours_is_the_apps_own() {
        check("xhoming-affinity=x; homing-affinity2=y; Homing-Affinity=z", &[], None);
        check("a=homing-affinity=x", &[], None);
        check("homing-affinity", &[], None);
        check("", &[], None);
    }

    #[test]
    fn odd_cookies_of_the_app_are_kept_to_the_byte() {
        check(
            "a=\"1; q=2\"; ;; homing-affinity=x; =;b==;  c",
            &["x"],
            Some("a=\"1; q=2\"; ;; =;b==;  c"),
        );
    }

    #[test]
    fn the_cookie_is_secure_when_the_client_came_over_tls() {
        let policy = CookiePolicy {
            name: NAME.into(),
            same_site: SameSite::Lax,
            secure: Secure::Auto,
            domain: None,
            path: "/".into(),
            partitioned: false,
            twin: false,
        };
        let day = Duration::from_secs(86_400);
        let attributes = Attributes::render(&policy);
        assert_eq!(
            attributes.set_cookie(NAME, "t", Scheme::Http, day),
            "homing-affinity=t; HttpOnly; SameSite=Lax; Path=/; Max-Age=86400"
        );
        assert_eq!(
            attributes.set_cookie(NAME, "t", Scheme::Https, day),
            "homing-affinity=t; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=86400"
        );
        let cross_site = CookiePolicy {
            same_site: SameSite::None,
            secure: Secure::Always,
            domain: Some("example.com".into()),
            partitioned: true,
            twin: true,
            ..policy
        };
        assert_eq!(
            Attributes::render(&cross_site).set_cookie(NAME, "t", Scheme::Http, day),
            "homing-affinity=t; HttpOnly; SameSite=None; Partitioned; Secure; Path=/; Domain=example.com; Max-Age=86400"
        );
        let twin = cross_site.twin_name().unwrap();
        assert_eq!(
            Attributes::render_twin(&cross_site).set_cookie(&twin, "t", Scheme::Http, day),
            "homing-affinity-twin=t; HttpOnly; Secure; Path=/; Domain=example.com; Max-Age=86400"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        /// What the app gets is what the client sent, less our pairs: nothing else moves.
        #[test]
        fn taking_ours_out_never_touches_the_rest(
            pairs in prop::collection::vec("[ -:<-~]{0,12}", 0..8),
            places in prop::collection::vec(0..9_usize, 1..4),
        ) {
            let foreign: Vec<String> =
                pairs.into_iter().filter(|pair| value_of(pair.as_bytes(), NAME).is_none()).collect();
            let mut mixed = foreign.clone();
            for place in &places {
                mixed.insert((*place).min(mixed.len()), format!(" {NAME}=v"));
            }
            let header = mixed.join(";");
            prop_assert_eq!(values(header.as_bytes(), NAME).count(), places.len());
            let kept = without(header.as_bytes(), NAME).unwrap();
            let squeezed = |text: &[u8]| text.iter().filter(|byte| !b"; ".contains(byte)).copied().collect::<Vec<u8>>();
            prop_assert_eq!(squeezed(&kept), squeezed(foreign.join(";").as_bytes()));
            prop_assert!(without(&kept, NAME).is_none());
        }

        #[test]
        fn no_header_panics(header in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = values(&header, NAME).count();
            let _ = without(&header, NAME);
        }
    }
}
