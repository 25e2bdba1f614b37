//! When pins begin: with the first request, or when the app opens a session.

use ::cookie::Cookie;
use http::HeaderMap;
use http::header::{COOKIE, SET_COOKIE};

use super::cookie;

/// Most cookies that may begin a pin. Each costs a comparison for every cookie of a client that has no pin.
pub const START_COOKIES_MAX: usize = 8;

/// When the pin of a client begins.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StartOn {
    /// When the app sets one of these cookies, or says `start`. Names are exact.
    Cookies(Box<[Box<str>]>),
    /// At its first request.
    FirstRequest,
    /// When the app says `start`.
    Signal,
}

impl StartOn {
    /// Whether a request shows that the app opened a session before, which may be anywhere by now: the
    /// affinity cookie was lost, or Homing is new here.
    pub fn is_open(&self, request: &HeaderMap) -> bool {
        let Self::Cookies(names) = self else { return false };
        let lines = || request.get_all(COOKIE).iter();
        let shows = |name: &str| {
            lines()
                .flat_map(|line| cookie::values(line.as_bytes(), name))
                .any(|value| !is_empty(value))
        };
        names.iter().any(|name| shows(name))
    }

    /// Whether a response opens a session, at `now` (Unix seconds). A cookie that is taken back opens none: it
    /// is empty, or lives no longer than until now (RFC 6265 §5.2.1, §5.2.2).
    pub fn opens(&self, response: &HeaderMap, now: u64) -> bool {
        let Self::Cookies(names) = self else { return false };
        let mut lines = response.get_all(SET_COOKIE).iter().map(http::HeaderValue::as_bytes);
        lines.any(|line| {
            let (name, value) = pair(line);
            let listed = names.iter().any(|own| own.as_bytes() == name);
            listed && !is_empty(value) && !is_taken_back(line, now)
        })
    }
}

/// Name and value of a line of `Set-Cookie`.
fn pair(line: &[u8]) -> (&[u8], &[u8]) {
    let pair = line.split(|byte| *byte == b';').next().unwrap_or_default();
    match pair.iter().position(|byte| *byte == b'=') {
        Some(place) => (pair[..place].trim_ascii(), pair[place + 1..].trim_ascii()),
        None => (b"", pair.trim_ascii()),
    }
}

fn is_empty(value: &[u8]) -> bool {
    matches!(value, b"" | b"\"\"")
}

/// Whether the browser forgets the cookie at once: `Max-Age` before `Expires`.
fn is_taken_back(line: &[u8], now: u64) -> bool {
    let Ok(cookie) = Cookie::parse(String::from_utf8_lossy(line)) else { return false };
    match (cookie.max_age(), cookie.expires_datetime()) {
        (Some(age), _) => !age.is_positive(),
        (None, Some(end)) => u64::try_from(end.unix_timestamp()).unwrap_or(0) <= now,
        (None, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::HeaderName;
    use proptest::prelude::*;

    use super::*;

    /// 2026-11-21, about.
    const NOW: u64 = 1_795_000_000;

    fn sessions() -> StartOn {
        StartOn::Cookies(["JSESSIONID", "connect.sid"].map(Into::into).into())
    }

    fn headers(name: HeaderName, lines: &[&str]) -> HeaderMap {
        let value = |line: &&str| HeaderValue::from_bytes(line.as_bytes()).unwrap();
        lines.iter().map(|line| (name.clone(), value(line))).collect()
    }

    /// Whether a response with these lines of `Set-Cookie` opens a session.
    #[track_caller]
    fn check(lines: &[&str], expected: bool) {
        assert_eq!(sessions().opens(&headers(SET_COOKIE, lines), NOW), expected, "{lines:?}");
    }

    #[test]
    fn a_session_begins_when_the_app_sets_one_of_its_cookies() {
        check(&["JSESSIONID=x"], true);
        check(&["JSESSIONID=x; Path=/; HttpOnly"], true);
        check(
            &["connect.sid=s%3Ax.y; Path=/; Expires=Thu, 01 Jan 2032 00:00:00 GMT; HttpOnly"],
            true,
        );
        check(&[" JSESSIONID = x ;Path=/"], true);
        check(&["theme=dark", "JSESSIONID=x"], true);
        check(&["JSESSIONID=x; Max-Age=60"], true);
        check(&["JSESSIONID=x\u{fc}"], true);
    }

    #[test]
    fn a_name_counts_exactly() {
        check(&[], false);
        check(&["theme=dark"], false);
        check(&["jsessionid=x"], false);
        check(&["XJSESSIONID=x", "JSESSIONID2=x", "connectXsid=x"], false);
        check(&["theme=JSESSIONID=x"], false);
        check(&["theme=x; JSESSIONID=x"], false);
        check(&["JSESSIONID"], false);
        check(&["=JSESSIONID"], false);
    }

    #[test]
    fn a_cookie_that_is_taken_back_begins_nothing() {
        check(&["JSESSIONID="], false);
        check(&["JSESSIONID=\"\"; Path=/"], false);
        check(&["JSESSIONID=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT"], false);
        check(&["JSESSIONID=deleted; Expires=Thu, 01-Jan-1970 00:00:01 GMT; Max-Age=0"], false);
        check(&["JSESSIONID=x; Max-Age=0"], false);
        check(&["JSESSIONID=x; max-age=-1"], false);
        check(&["JSESSIONID=x; Expires=Sat, 01 Jan 2022 00:00:00 GMT"], false);
        check(&["JSESSIONID=", "connect.sid=x"], true);
    }

    #[test]
    fn max_age_goes_before_expires_and_what_is_no_date_is_none() {
        check(&["JSESSIONID=x; Expires=Sat, 01 Jan 2022 00:00:00 GMT; Max-Age=60"], true);
        check(&["JSESSIONID=x; Expires=Thu, 01 Jan 2032 00:00:00 GMT; Max-Age=0"], false);
        check(&["JSESSIONID=x; Expires=soon"], true);
        check(&["JSESSIONID=x; Max-Age=long"], true);
    }

    #[test]
    fn a_client_that_shows_a_session_has_one() {
        let shown = |line| sessions().is_open(&headers(COOKIE, &[line]));
        assert!(shown("a=1; JSESSIONID=x"));
        assert!(shown("connect.sid=x"));
        assert!(!shown("a=1; b=JSESSIONID"));
        assert!(!shown("JSESSIONID="));
        assert!(!sessions().is_open(&HeaderMap::new()));
    }

    #[test]
    fn pins_that_begin_otherwise_look_at_no_cookie() {
        for start in [StartOn::FirstRequest, StartOn::Signal] {
            assert!(!start.opens(&headers(SET_COOKIE, &["JSESSIONID=x"]), NOW));
            assert!(!start.is_open(&headers(COOKIE, &["JSESSIONID=x"])));
        }
    }

    proptest! {
        #[test]
        fn no_line_panics(line in "JSESSIONID=x;? ?(Max-Age|Expires)?=?.{0,40}") {
            let Ok(value) = HeaderValue::from_bytes(line.as_bytes()) else { return Ok(()) };
            sessions().opens(&HeaderMap::from_iter([(SET_COOKIE, value)]), NOW);
        }
    }
}
