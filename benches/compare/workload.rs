//! What the clients do.

/// How every connection of the generator behaves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Workload {
    /// Keep-alive, and the cookie of an earlier answer in every request: what most requests of a site are.
    CookieFollowed,
    /// Keep-alive and no cookie: every request is drawn a backend and every answer carries a new cookie.
    NewClient,
    /// The cookie as in `CookieFollowed`, and one connection for each request.
    NewConnection,
}

impl Workload {
    pub(crate) const ALL: [Self; 3] = [Self::CookieFollowed, Self::NewClient, Self::NewConnection];

    /// The name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CookieFollowed => "cookie followed",
            Self::NewClient => "new client",
            Self::NewConnection => "new connection each",
        }
    }

    /// The name on the command line.
    pub(crate) fn option(self) -> &'static str {
        match self {
            Self::CookieFollowed => "followed",
            Self::NewClient => "new-client",
            Self::NewConnection => "new-connection",
        }
    }

    /// The header lines of every request, given the proxy's own cookie as `name=value`.
    pub(crate) fn headers(self, cookie: &str) -> Vec<String> {
        let cookie = (!cookie.is_empty()).then(|| format!("Cookie: {cookie}"));
        match self {
            Self::CookieFollowed => cookie.into_iter().collect(),
            Self::NewClient => vec![],
            Self::NewConnection => {
                cookie.into_iter().chain(["Connection: close".to_owned()]).collect()
            }
        }
    }
}
