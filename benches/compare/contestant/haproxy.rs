//! HAProxy with its own sticky cookie, which it derives from a secret and the backend's address.

use std::{fs, path::PathBuf, process::Command};

use super::Site;
use crate::failure::{Context, Failure};

pub(super) fn locate() -> Result<PathBuf, Failure> {
    super::system_program("haproxy")
}

pub(super) fn command(site: &Site) -> Result<Command, Failure> {
    let file = site.directory.join("haproxy.cfg");
    fs::write(&file, configuration(site)).context(|| format!("cannot write {}", file.display()))?;
    let mut command = Command::new(&site.program);
    // `-db` stays in the foreground, in one process.
    command.args(["-db", "-f"]).arg(file);
    Ok(command)
}

fn configuration(site: &Site) -> String {
    let servers: String = (1..)
        .zip(&site.backends)
        .map(|(number, address)| format!("    server web{number} {address} check inter 2s\n"))
        .collect();
    format!(
        "\
global
    nbthread 1
    maxconn 8192
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 30s
    http-reuse always
listen shop
    bind {} backlog 4096
    balance random
    cookie SRV insert indirect nocache dynamic
    dynamic-cookie-key secret
    option httpchk GET /healthz
{servers}",
        site.listen
    )
}
