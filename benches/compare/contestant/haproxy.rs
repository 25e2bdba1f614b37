//! HAProxy with its own sticky cookie, which it derives from a secret and the backend's address.

use std::{fs, path::PathBuf, process::Command};

use super::Site;
use crate::{
    failure::{Context, Failure},
    workload::{APPS, Setup, app_host},
};

pub(super) fn locate() -> Result<PathBuf, Failure> {
    super::system_program("haproxy")
}

pub(super) fn locate_newer() -> Result<PathBuf, Failure> {
    super::given_program("haproxy-newer")
}

pub(super) fn command(site: &Site) -> Result<Command, Failure> {
    let file = site.directory.join("haproxy.cfg");
    let own = match site.setup {
        Setup::Shop => shop(site),
        Setup::Apps => apps(site)?,
    };
    fs::write(&file, format!("{COMMON}{own}"))
        .context(|| format!("cannot write {}", file.display()))?;
    let mut command = Command::new(&site.program);
    // `-db` stays in the foreground, in one process.
    command.args(["-db", "-f"]).arg(file);
    Ok(command)
}

const COMMON: &str = "\
global
    nbthread 1
    maxconn 16384
    no strict-limits
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 30s
    timeout tunnel 1h
    timeout http-keep-alive 60s
    http-reuse always
";

const AFFINITY: &str = "
    balance random
    cookie SRV insert indirect nocache dynamic
    dynamic-cookie-key secret
";

const CHECKS: &str = "    option httpchk GET /healthz\n";

fn shop(site: &Site) -> String {
    let Site { listen, secure_listen, certificate, .. } = site;
    format!(
        "listen shop
    bind {listen} backlog 4096
    bind {secure_listen} backlog 4096 ssl crt {} ssl-min-ver TLSv1.3 alpn h2,http/1.1{AFFINITY}{CHECKS}{}",
        certificate.both.display(),
        servers(site, " check inter 2s"),
    )
}

/// Hosts are found by a map. They share a backend: its kept connections would be ten thousand otherwise.
fn apps(site: &Site) -> Result<String, Failure> {
    let map = site.directory.join("apps.map");
    let lines: String = (0..APPS).map(|it| format!("{} shop\n", app_host(it))).collect();
    fs::write(&map, lines).context(|| format!("cannot write {}", map.display()))?;
    Ok(format!(
        "frontend apps
    bind {} backlog 4096
    use_backend %[req.hdr(host),lower,map({})]
backend shop{AFFINITY}{}",
        site.listen,
        map.display(),
        servers(site, ""),
    ))
}

fn servers(site: &Site, check: &str) -> String {
    let numbered = (1..).zip(&site.backends);
    numbered.map(|(number, address)| format!("    server web{number} {address}{check}\n")).collect()
}
