//! HAProxy as its packages run it: a master and its worker, which hands its sockets to its successor.
//!
//! SIGUSR2 makes the master run its program anew (haproxy(1)), so that a reload and a restart are the same.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use super::{Edge, Site, write};
use crate::{
    change::wanted::Wanted, failure::Failure, kernel::ProcessorTime, process::Process, topology,
};

/// How long a reload may take.
const LOADS_MAX: Duration = Duration::from_secs(20);

/// A signal of which nothing came in this time was not heard.
const UNHEARD: Duration = Duration::from_millis(250);

const POLL: Duration = Duration::from_millis(2);

struct Haproxy {
    site: Site,
    process: Process,
}

pub(super) fn start(site: Site, wanted: &Wanted) -> Result<Box<dyn Edge>, Failure> {
    write(&file(&site), &configuration(&site, wanted))?;
    let mut command = Command::new(&site.program);
    // `-W -db`: master and worker, in the foreground.
    command.args(["-W", "-db", "-f"]).arg(file(&site));
    let command = topology::for_proxy(command, site.placement);
    let process = Process::start("haproxy", command, &site.directory, &site.guard)?;
    Ok(Box::new(Haproxy { site, process }))
}

impl Haproxy {
    /// How often the master said that it started a worker.
    fn times_loaded(&self) -> usize {
        let words = fs::read_to_string(self.site.file("haproxy.out")).unwrap_or_default();
        words.matches("Loading success.").count()
    }
}

impl Edge for Haproxy {
    fn apply(&mut self, wanted: &Wanted) -> Result<(), Failure> {
        write(&file(&self.site), &configuration(&self.site, wanted))?;
        self.restart()
    }

    /// Waits for the new worker: a master that is told again while it starts anew begins anew, or does not hear it.
    /// Then it is told once more.
    fn restart(&mut self) -> Result<(), Failure> {
        let before = self.times_loaded();
        self.process.signal(Signal::USR2)?;
        let deadline = Instant::now() + LOADS_MAX;
        let mut again = Instant::now() + UNHEARD;
        while self.times_loaded() <= before {
            self.process.check_alive()?;
            if Instant::now() > deadline {
                return Err(Failure::new(format!("no new worker {LOADS_MAX:?} after SIGUSR2")));
            }
            if Instant::now() > again {
                again += UNHEARD;
                self.process.signal(Signal::USR2)?;
            }
            sleep(POLL);
        }
        Ok(())
    }

    fn check_alive(&mut self) -> Result<(), Failure> {
        self.process.check_alive()
    }

    fn processor_time(&self) -> ProcessorTime {
        self.process.processor_time()
    }

    fn last_words(&self) -> String {
        self.process.last_words()
    }
}

fn file(site: &Site) -> PathBuf {
    site.file("haproxy.cfg")
}

/// `redispatch 1` sends a client elsewhere with the first retry. As it is without the number, only the last retry goes
/// elsewhere, and each one before it waits a second for the dead server. A GET that was not answered is sent again too.
fn configuration(site: &Site, wanted: &Wanted) -> String {
    let server = |number: usize, address, weight| {
        format!("    server web{number} {address} weight {weight} check inter 1s fall 3 rise 2\n")
    };
    let servers: String =
        wanted.backends().iter().map(|it| server(it.number, it.address, it.weight)).collect();
    let elsewhere: String = (1..)
        .zip(wanted.elsewhere())
        .map(|(number, address)| server(number, *address, 1))
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
    timeout check 1s
    retries 3
    option redispatch 1
    retry-on conn-failure empty-response
    http-reuse always
    option httpchk GET /healthz
listen shop
    bind {} backlog 4096
    http-request disable-l7-retry unless METH_GET
    balance random
    cookie SRV insert indirect nocache dynamic
    dynamic-cookie-key secret-{}
{servers}backend elsewhere
{elsewhere}",
        site.listen, wanted.key
    )
}
