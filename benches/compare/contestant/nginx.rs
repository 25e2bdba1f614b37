//! nginx without `sticky`, which the 1.22 of Debian lacks: two `map`s read and write a plain cookie.
//!
//! It does less than the others: it probes nobody, and would not move a client whose backend died.

use std::{path::PathBuf, process::Command};

use super::Site;
use crate::{backends::nginx_command, failure::Failure};

/// Idle upstream connections kept, for each upstream; more than the generator's connections, so never the limit.
const KEPT_CONNECTIONS: usize = 128;

pub(super) fn locate() -> Result<PathBuf, Failure> {
    super::system_program("nginx")
}

pub(super) fn command(site: &Site) -> Result<Command, Failure> {
    nginx_command(&site.program, &site.directory, "proxy", &section(site))
}

fn section(site: &Site) -> String {
    let mut routes = String::new();
    let mut names = String::new();
    let mut upstreams = String::new();
    let mut servers = String::new();
    for (number, address) in (1..).zip(&site.backends) {
        routes += &format!("web{number} web{number}; ");
        names += &format!("{address} web{number}; ");
        servers += &format!("server {address}; ");
        upstreams += &format!(
            "upstream web{number} {{ server {address}; keepalive {KEPT_CONNECTIONS}; }}\n"
        );
    }
    format!(
        "upstream any {{ random; {servers} keepalive {KEPT_CONNECTIONS}; }}
        {upstreams}
        map $cookie_route $chosen {{ default any; {routes} }}
        map $upstream_addr $name {{ {names} }}
        map $chosen $set_cookie {{ default ''; any 'route=$name; Path=/; HttpOnly; SameSite=Lax'; }}
        server {{
            listen {} backlog=4096;
            location / {{
                proxy_pass http://$chosen;
                proxy_http_version 1.1;
                proxy_set_header Connection '';
                proxy_set_header Host $http_host;
                add_header Set-Cookie $set_cookie;
            }}
        }}",
        site.listen
    )
}
