//! Sōzu with `sticky_session`, whose cookie carries the id of the backend in the clear. It probes nobody.

use std::{fs, path::PathBuf, process::Command};

use super::Site;
use crate::{
    failure::{Context, Failure},
    workload::{APPS, HOST, Setup, app_host},
};

pub(super) fn locate() -> Result<PathBuf, Failure> {
    super::given_program("sozu")
}

pub(super) fn command(site: &Site) -> Result<Command, Failure> {
    let file = site.directory.join("sozu.toml");
    fs::write(&file, configuration(site)).context(|| format!("cannot write {}", file.display()))?;
    let mut command = Command::new(&site.program);
    command.arg("--config").arg(file).arg("start");
    Ok(command)
}

fn configuration(site: &Site) -> String {
    let Site { listen, secure_listen, certificate, .. } = site;
    let backends: Vec<String> = (1..)
        .zip(&site.backends)
        .map(|(number, address)| {
            format!("{{ address = \"{address}\", sticky_id = \"web{number}\" }}")
        })
        .collect();
    let cluster = |name: &str, frontends: &str| {
        format!(
            "[clusters.{name}]
protocol = \"http\"
load_balancing = \"RANDOM\"
sticky_session = true
frontends = [{frontends}]
backends = [{}]\n",
            backends.join(", ")
        )
    };
    let plain = |host: &str| format!("{{ address = \"{listen}\", hostname = \"{host}\" }}");
    let clusters: String = match site.setup {
        Setup::Shop => {
            let chain = certificate.chain.display();
            let key = certificate.key.display();
            let secure = format!(
                "{{ address = \"{secure_listen}\", hostname = \"{HOST}\", certificate = \"{chain}\", \
                 certificate_chain = \"{chain}\", key = \"{key}\" }}"
            );
            cluster("shop", &format!("{}, {secure}", plain(HOST)))
        }
        Setup::Apps => {
            (0..APPS).map(|it| cluster(&format!("app-{it}"), &plain(&app_host(it)))).collect()
        }
    };
    format!(
        "log_level = \"error\"
log_target = \"stdout\"
command_socket = \"{}/sozu.sock\"
worker_count = 1
worker_automatic_restart = false
max_connections = 16384
activate_listeners = true
[[listeners]]
protocol = \"http\"
address = \"{listen}\"
[[listeners]]
protocol = \"https\"
address = \"{secure_listen}\"
tls_versions = [\"TLS_V13\"]
[clusters]
{clusters}",
        site.directory.display(),
    )
}
