//! The three backends: one nginx process with one thread that answers from memory.

use std::{fs, net::SocketAddr, path::Path, process::Command};

use crate::failure::{Context, Failure};

/// How many backends every proxy has.
pub(crate) const COUNT: usize = 3;

/// Length of an answer's body, in bytes.
const BODY_BYTES: usize = 1024;

/// The command that serves all of `addresses`: each answers 1 KB and says in a header who it is, by its port.
pub(crate) fn command(
    nginx: &Path,
    directory: &Path,
    addresses: &[SocketAddr],
) -> Result<Command, Failure> {
    let listens: String =
        addresses.iter().map(|address| format!("listen {address} backlog=4096; ")).collect();
    let body = "x".repeat(BODY_BYTES);
    let server = format!(
        "server {{
            {listens}
            default_type text/plain;
            add_header X-Backend $server_port;
            location / {{ return 200 {body}; }}
            location = /healthz {{ return 200 ok; }}
        }}"
    );
    nginx_command(nginx, directory, "backends", &server)
}

/// An nginx of one process, so that nothing of it can outlive us, whose `http` section holds `section`.
pub(crate) fn nginx_command(
    nginx: &Path,
    directory: &Path,
    name: &str,
    section: &str,
) -> Result<Command, Failure> {
    let configuration = directory.join(format!("{name}.conf"));
    // Its usual temporary directories belong to root and to the nginx of the system.
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {}/{name}-{kind};\n", directory.display()))
        .concat();
    let text = format!(
        "daemon off;
        master_process off;
        pid {}/{name}.pid;
        events {{ worker_connections 8192; }}
        http {{
            access_log off;
            keepalive_requests 1000000000;
            keepalive_timeout 3600s;
            {temporary}
            {section}
        }}\n",
        directory.display()
    );
    fs::write(&configuration, text)
        .context(|| format!("cannot write {}", configuration.display()))?;
    let mut command = Command::new(nginx);
    command.arg("-p").arg(directory).args(["-e", "stderr", "-c"]).arg(configuration);
    Ok(command)
}
