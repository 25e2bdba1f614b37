//! Caddy with `lb_policy cookie`, which hides the backend's address behind a keyed hash.

use std::{fs, path::PathBuf, process::Command};

use super::Site;
use crate::{
    failure::{Context, Failure},
    workload::{APPS, HOST, Setup, app_host},
};

pub(super) fn locate() -> Result<PathBuf, Failure> {
    super::given_program("caddy")
}

pub(super) fn command(site: &Site) -> Result<Command, Failure> {
    let file = site.directory.join("Caddyfile");
    fs::write(&file, configuration(site)).context(|| format!("cannot write {}", file.display()))?;
    let mut command = Command::new(&site.program);
    command
        .args(["run", "--adapter", "caddyfile", "--config"])
        .arg(file)
        .env("GOMAXPROCS", "1")
        .env("XDG_DATA_HOME", &site.directory)
        .env("XDG_CONFIG_HOME", &site.directory);
    Ok(command)
}

fn configuration(site: &Site) -> String {
    let Site { listen, secure_listen, certificate, .. } = site;
    let backends: Vec<String> = site.backends.iter().map(ToString::to_string).collect();
    let probes = match site.setup {
        Setup::Shop => "health_uri /healthz\nhealth_interval 2s\nhealth_timeout 1s",
        Setup::Apps => "",
    };
    let proxy = format!(
        "reverse_proxy {} {{
    lb_policy cookie route secret
    {probes}
    transport http {{
        keepalive_idle_conns_per_host 128
    }}
}}",
        backends.join(" ")
    );
    let sites = match site.setup {
        Setup::Shop => format!(
            "http://{HOST}:{} {{\nbind {}\n{proxy}\n}}\n\
             https://{HOST}:{} {{\nbind {}\ntls {} {} {{\nprotocols tls1.3\n}}\n{proxy}\n}}\n",
            listen.port(),
            listen.ip(),
            secure_listen.port(),
            secure_listen.ip(),
            certificate.chain.display(),
            certificate.key.display(),
        ),
        Setup::Apps => {
            let hosts = (0..APPS).map(|it| format!("http://{}:{}", app_host(it), listen.port()));
            let hosts: Vec<String> = hosts.collect();
            format!("{} {{\nbind {}\n{proxy}\n}}\n", hosts.join(", "), listen.ip())
        }
    };
    format!(
        "{{\nadmin off\nauto_https off\npersist_config off\nlog {{\nlevel ERROR\n}}\nservers {{\nprotocols h1 h2\n}}\n}}\n{sites}"
    )
}
