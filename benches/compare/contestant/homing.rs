//! Homing itself, as this build made it.

use std::{fs, path::PathBuf, process::Command};

use super::Site;
use crate::{
    failure::{Context, Failure},
    workload::{APPS, HOST, Setup, app_host},
};

pub(super) fn locate() -> Result<PathBuf, Failure> {
    Ok(PathBuf::from(env!("CARGO_BIN_EXE_homing")))
}

/// Another build is whatever the caller says it is.
pub(super) fn locate_before() -> Result<PathBuf, Failure> {
    Err(Failure::new("say which build was before: `--program before=PATH`"))
}

pub(super) fn command(site: &Site) -> Result<Command, Failure> {
    command_with(site, "{ format: off }", "on")
}

pub(super) fn command_with_access_log(site: &Site) -> Result<Command, Failure> {
    command_with(site, &format!("{{ format: json, path: {} }}", site.access_log().display()), "on")
}

pub(super) fn command_without_affinity(site: &Site) -> Result<Command, Failure> {
    command_with(site, "{ format: off }", "off")
}

fn command_with(site: &Site, access_log: &str, affinity: &str) -> Result<Command, Failure> {
    let state = site.directory.join("state");
    fs::create_dir_all(&state).context(|| format!("cannot make {}", state.display()))?;
    let file = site.directory.join("homing.yaml");
    fs::write(&file, configuration(site, access_log, affinity))
        .context(|| format!("cannot write {}", file.display()))?;
    let mut command = Command::new(&site.program);
    command.args(["run", "-c"]).arg(file);
    Ok(command)
}

/// All connections come from one address here, and as many as all together may be, so no limit may bite.
fn configuration(site: &Site, access_log: &str, affinity: &str) -> String {
    let Site { listen, secure_listen, certificate, .. } = site;
    let backends: Vec<String> = (1..)
        .zip(&site.backends)
        .map(|(number, address)| format!("{{ id: web.{number}, address: {address} }}"))
        .collect();
    let backends = backends.join(", ");
    let app = |name: &str, host: &str| {
        format!("  - {{ name: {name}, domains: [{host}], backends: [{backends}] }}\n")
    };
    let (secure, health, apps) = match site.setup {
        Setup::Shop => (
            format!(
                "  - address: {secure_listen}
    tls: {{ min_version: 1.3, certificates: [ {{ certificate: {}, key: {} }} ] }}\n",
                certificate.chain.display(),
                certificate.key.display()
            ),
            "{ path: /healthz, interval: 2s, timeout: 1s }",
            app("shop", HOST),
        ),
        Setup::Apps => {
            let apps = (0..APPS).map(|it| app(&format!("app-{it}"), &app_host(it)));
            (String::new(), "off", apps.collect())
        }
    };
    format!(
        "\
state_dir: {}/state
server: {{ threads: 1, grace_period: 1s, connections: 16384, connections_per_address: 16384 }}
admin: {{ address: 127.0.0.1:0 }}
access_log: {access_log}
listeners:
  - address: {listen}
{secure}defaults:
  affinity: {affinity}
  health: {health}
  limits: {{ app_in_flight: 16384 }}
apps:
{apps}",
        site.directory.display(),
    )
}
