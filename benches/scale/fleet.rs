//! Configurations of any size.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

/// So many apps, each with so many backends.
#[derive(Clone, Copy)]
pub(crate) struct Fleet {
    pub(crate) apps: usize,
    pub(crate) backends: usize,
}

/// Where everything is.
pub(crate) struct Site<'s> {
    pub(crate) state_dir: &'s Path,
    pub(crate) listener: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// Where backends listen; apps take them in turn.
    pub(crate) backends: &'s [SocketAddr],
    /// Whether backends are probed, over HTTP.
    pub(crate) probed: bool,
}

impl Fleet {
    /// The host of an app.
    pub(crate) fn host(app: usize) -> String {
        format!("app-{app}.example.com")
    }

    /// The text of the file; `release` is part of one app, so that two texts differ in one app.
    pub(crate) fn yaml(self, site: &Site<'_>, release: usize) -> String {
        let mut out = String::with_capacity(self.apps * (90 + self.backends * 60));
        let health = if site.probed { "{ path: /healthz, interval: 5s }" } else { "off" };
        let Site { state_dir, listener, admin, backends, .. } = site;
        let _ = write!(
            out,
            "state_dir: {}\n\
             server: {{ threads: 1, watch: off, connections: 1000000, connections_per_address: 1000000 }}\n\
             admin: {{ address: {admin} }}\n\
             access_log: {{ format: off }}\n\
             defaults: {{ health: {health} }}\n\
             listeners:\n  - address: {listener}\n\
             apps:\n",
            state_dir.display()
        );
        for app in 0..self.apps {
            let host = Self::host(app);
            let _ = write!(out, "  - name: app-{app}\n    domains: [{host}]\n    backends:\n");
            for number in 0..self.backends {
                let address = backends[(app * self.backends + number) % backends.len()];
                let run = match app {
                    0 => format!(", incarnation: v{release}"),
                    _ => String::new(),
                };
                let _ = writeln!(out, "      - {{ id: web.{number}, address: {address}{run} }}");
            }
        }
        out
    }
}
