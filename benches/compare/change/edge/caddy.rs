//! Caddy: `caddy reload` for whatever changes in its file; a program that is replaced is stopped and started.

use std::{
    path::PathBuf,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use super::{Edge, Site, write};
use crate::{
    change::wanted::Wanted, failure::Failure, kernel::ProcessorTime, process::Process, topology,
    workload::HOST,
};

/// How long it may take to end: the grace period of its file, and a little.
const END_MAX: Duration = Duration::from_secs(10);

const POLL: Duration = Duration::from_millis(5);

struct Caddy {
    site: Site,
    process: Process,
    /// What those before used.
    used: ProcessorTime,
}

pub(super) fn start(site: Site, wanted: &Wanted) -> Result<Box<dyn Edge>, Failure> {
    write(&file(&site), &configuration(&site, wanted))?;
    let process = launch(&site)?;
    Ok(Box::new(Caddy { site, process, used: ProcessorTime::default() }))
}

fn launch(site: &Site) -> Result<Process, Failure> {
    // It keeps certificates and its last configuration in directories of the user.
    let mut command = Command::new(&site.program);
    command.env("XDG_CONFIG_HOME", &site.directory).env("XDG_DATA_HOME", &site.directory);
    command.env("GOMAXPROCS", "1").args(["run", "--adapter", "caddyfile", "--config"]);
    command.arg(file(site));
    let command = topology::for_proxy(command, site.placement);
    Process::start("caddy", command, &site.directory, &site.guard)
}

impl Edge for Caddy {
    fn apply(&mut self, wanted: &Wanted) -> Result<(), Failure> {
        write(&file(&self.site), &configuration(&self.site, wanted))?;
        let mut command = Command::new(&self.site.program);
        command.args(["reload", "--adapter", "caddyfile", "--config"]).arg(file(&self.site));
        command.arg("--address").arg(self.site.admin.to_string());
        self.site.tell(command)
    }

    fn restart(&mut self) -> Result<(), Failure> {
        self.used += self.process.processor_time();
        self.process.signal(Signal::TERM)?;
        let deadline = Instant::now() + END_MAX;
        while self.process.check_alive().is_ok() {
            if Instant::now() > deadline {
                return Err(Failure::new(format!("caddy still runs {END_MAX:?} after SIGTERM")));
            }
            sleep(POLL);
        }
        self.process = launch(&self.site)?;
        Ok(())
    }

    fn check_alive(&mut self) -> Result<(), Failure> {
        self.process.check_alive()
    }

    fn processor_time(&self) -> ProcessorTime {
        let mut sum = self.used;
        sum += self.process.processor_time();
        sum
    }

    fn last_words(&self) -> String {
        self.process.last_words()
    }
}

fn file(site: &Site) -> PathBuf {
    site.file("Caddyfile")
}

/// It has no weights with this policy, so that a reload changes the list elsewhere only. `lb_try_duration` lets a
/// request go on to another backend where its own refuses it.
fn configuration(site: &Site, wanted: &Wanted) -> String {
    let list =
        |addresses: &mut dyn Iterator<Item = String>| addresses.collect::<Vec<_>>().join(" ");
    let backends = list(&mut wanted.backends().iter().map(|it| it.address.to_string()));
    let elsewhere = list(&mut wanted.elsewhere().iter().map(ToString::to_string));
    let checks =
        "health_uri /healthz\n health_interval 1s\n health_timeout 1s\n lb_try_duration 3s";
    format!(
        "{{
    admin {}
    auto_https off
    grace_period 2s
}}
http://{HOST}:{} {{
    bind 127.0.0.1
    reverse_proxy {backends} {{
        lb_policy cookie route secret-{}
        {checks}
        transport http {{
            keepalive_idle_conns_per_host 128
        }}
    }}
}}
http://elsewhere.test:{} {{
    bind 127.0.0.1
    reverse_proxy {elsewhere} {{
        {checks}
    }}
}}\n",
        site.admin,
        site.listen.port(),
        wanted.key,
        site.listen.port()
    )
}
