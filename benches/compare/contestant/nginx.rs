//! nginx: the 1.22 of Debian lacks `sticky`, so two `map`s read and write a plain cookie; newer ones have it.
//!
//! By default it writes bodies to files as soon as they do not fit its buffers; here it does not, as nobody else does.
//! It does less than the others: it probes nobody, and with the maps would not move a client whose backend died.

use std::{fs, path::PathBuf, process::Command};

use super::Site;
use crate::{
    failure::{Context, Failure},
    workload::{APPS, HOST, Setup, app_host},
};

/// Idle upstream connections kept, for each upstream; more than the generator's connections, so never the limit.
const KEPT_CONNECTIONS: usize = 128;

pub(super) fn locate() -> Result<PathBuf, Failure> {
    super::system_program("nginx")
}

pub(super) fn locate_newer() -> Result<PathBuf, Failure> {
    super::given_program("nginx-newer")
}

pub(super) fn command(site: &Site) -> Result<Command, Failure> {
    write(
        site,
        &format!(
            "{}{}",
            mapped_upstreams(site),
            servers(site, "$chosen", "add_header Set-Cookie $set_cookie;")
        ),
    )
}

/// With `sticky cookie`, which is free since 1.29.6.
pub(super) fn command_with_sticky(site: &Site) -> Result<Command, Failure> {
    let backends: String = site.backends.iter().map(|it| format!("server {it}; ")).collect();
    let upstream = format!(
        "upstream shop {{ random; {backends} sticky cookie route path=/ httponly samesite=lax; keepalive {KEPT_CONNECTIONS}; }}\n"
    );
    write(site, &format!("{upstream}{}", servers(site, "shop", "")))
}

/// An nginx of one process, so that nothing of it can outlive us, whose `http` section holds `section`.
fn write(site: &Site, section: &str) -> Result<Command, Failure> {
    let directory = site.directory.display();
    let configuration = site.directory.join("nginx.conf");
    // Its usual temporary directories belong to root and to the nginx of the system.
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {directory}/{kind};\n"))
        .concat();
    let text = format!(
        "daemon off;
        master_process off;
        pid {directory}/nginx.pid;
        events {{ worker_connections 32768; }}
        http {{
            access_log off;
            keepalive_requests 1000000000;
            keepalive_timeout 3600s;
            client_max_body_size 0;
            client_body_buffer_size 64k;
            proxy_max_temp_file_size 0;
            server_names_hash_max_size 65536;
            server_names_hash_bucket_size 128;
            {temporary}
            {section}
        }}\n"
    );
    fs::write(&configuration, text)
        .context(|| format!("cannot write {}", configuration.display()))?;
    let mut command = Command::new(&site.program);
    command.arg("-p").arg(&site.directory).args(["-e", "stderr", "-c"]).arg(configuration);
    Ok(command)
}

fn mapped_upstreams(site: &Site) -> String {
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
        map $chosen $set_cookie {{ default ''; any 'route=$name; Path=/; HttpOnly; SameSite=Lax'; }}\n"
    )
}

/// One virtual server for each app. All apps share the upstreams, whose kept connections would be too many otherwise.
fn servers(site: &Site, upstream: &str, answer: &str) -> String {
    let Site { listen, secure_listen, certificate, .. } = site;
    let location = format!(
        "location / {{
            proxy_pass http://{upstream};
            proxy_http_version 1.1;
            proxy_set_header Connection $upstream_wants;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Host $http_host;
            {answer}
        }}"
    );
    let connection = "map $http_upgrade $upstream_wants { default upgrade; '' ''; }\n".to_owned();
    let own = match site.setup {
        Setup::Shop => format!(
            "server {{
                listen {listen} backlog=4096;
                listen {secure_listen} ssl http2 backlog=4096;
                server_name {HOST};
                ssl_certificate {};
                ssl_certificate_key {};
                ssl_protocols TLSv1.3;
                ssl_session_tickets on;
                {location}
            }}",
            certificate.chain.display(),
            certificate.key.display(),
        ),
        Setup::Apps => (0..APPS)
            .map(|number| {
                format!(
                    "server {{ listen {listen}; server_name {}; {location} }}\n",
                    app_host(number)
                )
            })
            .collect(),
    };
    connection + &own
}
