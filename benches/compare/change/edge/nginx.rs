//! nginx without `sticky`, which the 1.22 of Debian lacks: two `map`s read and write a plain cookie.
//!
//! Each upstream that a cookie names has the other backends as backups, so that a client is served while its own is
//! dead. It probes nobody: a request that fails says so.

use std::{
    fs,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use super::{Edge, Site, write};
use crate::{
    change::{daemon::Daemon, wanted::Wanted},
    failure::{Context, Failure},
    kernel::{self, ProcessorTime},
    topology,
};

/// Idle connections kept to each upstream: more than are ever used at once.
const KEPT_CONNECTIONS: usize = 128;

/// How long a process may take to write its id, or to end.
const TAKES_MAX: Duration = Duration::from_secs(20);

const POLL: Duration = Duration::from_millis(5);

struct Nginx {
    site: Site,
    daemon: Daemon,
    /// The master that serves, which is another one after each restart.
    master: i32,
}

pub(super) fn start(site: Site, wanted: &Wanted) -> Result<Box<dyn Edge>, Failure> {
    write(&site.file("nginx.conf"), &configuration(&site, wanted))?;
    let mut command = Command::new(&site.program);
    command.arg("-p").arg(&site.directory).arg("-e").arg(site.file("nginx.out"));
    command.arg("-c").arg(site.file("nginx.conf"));
    // In the foreground it would ignore the signal for a new program: it tells by its parent whether it may.
    let mut command = topology::for_proxy(command, site.placement);
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    let status = status.context(|| format!("cannot start {}", site.program.display()))?;
    if !status.success() {
        return Err(Failure::new(format!("nginx ended with {status}; see above")));
    }
    let master = await_id(&site, |_| true)?;
    let daemon = Daemon::adopt(master, site.file("nginx.out"), &site.guard);
    Ok(Box::new(Nginx { site, daemon, master }))
}

impl Edge for Nginx {
    fn apply(&mut self, wanted: &Wanted) -> Result<(), Failure> {
        write(&self.site.file("nginx.conf"), &configuration(&self.site, wanted))?;
        let before = workers(self.master);
        self.daemon.signal(self.master, Signal::HUP)?;
        await_worker(self.master, &before)
    }

    /// "Upgrading Executable on the Fly" (nginx.org/en/docs/control.html): the new master starts beside the old one, which
    /// then finishes what it has.
    fn restart(&mut self) -> Result<(), Failure> {
        let before = self.master;
        self.daemon.signal(before, Signal::USR2)?;
        self.master = await_id(&self.site, |id| id != before)?;
        await_worker(self.master, &[])?;
        self.daemon.signal(before, Signal::QUIT)
    }

    fn check_alive(&mut self) -> Result<(), Failure> {
        self.daemon.check_alive()
    }

    fn processor_time(&self) -> ProcessorTime {
        self.daemon.processor_time()
    }

    fn last_words(&self) -> String {
        self.daemon.last_words()
    }
}

/// Waits until the file names a process that is `wanted`.
fn await_id(site: &Site, wanted: impl Fn(i32) -> bool) -> Result<i32, Failure> {
    let file = site.file("nginx.pid");
    let deadline = Instant::now() + TAKES_MAX;
    while Instant::now() < deadline {
        let text = fs::read_to_string(&file).unwrap_or_default();
        // Without its end, a line may be a part of one.
        if let Some(Ok(id)) = text.strip_suffix('\n').map(str::parse)
            && wanted(id)
            && is_of(id, site)
        {
            return Ok(id);
        }
        sleep(POLL);
    }
    Err(Failure::new(format!("{} names no new process after {TAKES_MAX:?}", file.display())))
}

/// Whether a process was started with the files of this site. What is adopted is killed later, so it must be ours.
fn is_of(id: i32, site: &Site) -> bool {
    let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).contains(&site.file("nginx.conf").display().to_string())
}

fn workers(master: i32) -> Vec<u32> {
    kernel::tree(master.unsigned_abs()).iter().map(|it| it.id).skip(1).collect()
}

/// Waits until a master has a worker that it did not have `before`: without one nobody would accept when the old one
/// has gone.
fn await_worker(master: i32, before: &[u32]) -> Result<(), Failure> {
    let deadline = Instant::now() + TAKES_MAX;
    while Instant::now() < deadline {
        if workers(master).iter().any(|id| !before.contains(id)) {
            return Ok(());
        }
        sleep(POLL);
    }
    Err(Failure::new(format!("nginx has no new worker after {TAKES_MAX:?}")))
}

fn configuration(site: &Site, wanted: &Wanted) -> String {
    let directory = site.directory.display();
    // Its usual temporary directories belong to the nginx of the system.
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {directory}/{kind};\n"))
        .concat();
    format!(
        "user root;
        worker_processes 1;
        pid {directory}/nginx.pid;
        events {{ worker_connections 8192; }}
        http {{
            access_log off;
            {temporary}
            {}
            server {{
                listen {} backlog=4096;
                location / {{
                    proxy_pass http://$chosen;
                    proxy_http_version 1.1;
                    proxy_set_header Connection '';
                    proxy_set_header Host $http_host;
                    add_header Set-Cookie $set_cookie;
                }}
            }}
        }}\n",
        upstreams(wanted),
        site.listen
    )
}

fn upstreams(wanted: &Wanted) -> String {
    let (mut routes, mut names, mut servers, mut own) = Default::default();
    let backends = wanted.backends();
    let append = |text: &mut String, more: String| text.push_str(&more);
    for backend in &backends {
        let (number, address, weight) = (backend.number, backend.address, backend.weight);
        append(&mut routes, format!("web{number} web{number}; "));
        append(&mut names, format!("{address} web{number}; "));
        append(&mut servers, format!("server {address} weight={weight}; "));
        let others = backends.iter().filter(|it| it.number != number);
        let backups: String = others.map(|it| format!("server {} backup; ", it.address)).collect();
        append(
            &mut own,
            format!(
                "upstream web{number} {{ server {address}; {backups} keepalive {KEPT_CONNECTIONS}; }}\n"
            ),
        );
    }
    let elsewhere: String =
        wanted.elsewhere().iter().map(|address| format!("server {address}; ")).collect();
    format!(
        "upstream any {{ random; {servers} keepalive {KEPT_CONNECTIONS}; }}
        {own}
        upstream elsewhere {{ {elsewhere} }}
        map $cookie_route $chosen {{ default any; {routes} }}
        map $upstream_addr $name {{ {names} }}
        map $chosen $set_cookie {{ default ''; any 'route=$name; Path=/; HttpOnly; SameSite=Lax'; }}"
    )
}
