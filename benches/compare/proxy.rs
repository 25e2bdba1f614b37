//! A contestant that runs, and has proved that it keeps clients.

use std::{
    fs::File,
    io::{self, Read},
    net::SocketAddr,
    path::PathBuf,
    rc::Rc,
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{
    contestant::{AccessLog, Affinity, Contestant, Site},
    failure::{Context, Failure},
    guard::Guard,
    load::Client,
    plan::Placement,
    process::Process,
    topology,
    visit::{Visit, visit},
    workload::{HOST, Setup, Workload, app_host},
};

/// How long a proxy may take from its start to its first good answer.
const START_MAX: Duration = Duration::from_secs(60);

const START_POLL: Duration = Duration::from_millis(50);

/// Requests with one cookie that must all reach the same backend.
const FOLLOWED_VISITS: usize = 16;

/// Requests without a cookie that must reach more than one backend: by chance they miss that once in 3^31.
const NEW_VISITS: usize = 32;

/// A running proxy and the cookie it gave us.
pub(crate) struct Proxy {
    pub(crate) contestant: &'static Contestant,
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    /// The same over TLS.
    pub(crate) secure_address: SocketAddr,
    /// One with the cookie of the first answer, if there is any.
    pub(crate) client: Client,
    access_log: PathBuf,
    lines_logged: f64,
    requests: f64,
}

impl Proxy {
    /// Starts the contestant and waits until it answers and has proved its affinity.
    pub(crate) fn start(
        contestant: &'static Contestant,
        site: &Site,
        placement: Placement,
        guard: &Rc<Guard>,
    ) -> Result<Self, Failure> {
        let command = topology::for_proxy((contestant.command)(site)?, placement);
        let process = Process::start(contestant.name, command, &site.directory, guard)?;
        let host = match site.setup {
            Setup::Shop => HOST.to_owned(),
            Setup::Apps => app_host(0),
        };
        let mut proxy = Self {
            contestant,
            process,
            address: site.listen,
            secure_address: site.secure_listen,
            client: Client { host, ..Client::default() },
            access_log: site.access_log(),
            lines_logged: 0.0,
            requests: 0.0,
        };
        let first = proxy.await_first_answer()?;
        if contestant.affinity == Affinity::Off {
            proxy.prove_random()?;
            return Ok(proxy);
        }
        if first.cookie.is_none() {
            return Err(proxy.fault("sets no cookie"));
        }
        proxy.client.cookie.clone_from(&first.cookie);
        proxy.client.backend.clone_from(&first.backend);
        proxy.prove_pinned(&first)?;
        proxy.prove_random()?;
        Ok(proxy)
    }

    /// Where the clients of a workload go.
    pub(crate) fn address_for(&self, workload: Workload) -> SocketAddr {
        if workload.is_secure() { self.secure_address } else { self.address }
    }

    /// Counts what was asked and what was logged since the last time, and empties the log.
    ///
    /// A log that drops lines under load is cheap, and the table must say so.
    pub(crate) fn account_log(&mut self, requests: f64) -> Result<(), Failure> {
        if self.contestant.access_log == AccessLog::Off {
            return Ok(());
        }
        let failed = || format!("cannot read the access log {}", self.access_log.display());
        self.requests += requests;
        self.lines_logged += count_lines(&self.access_log).context(failed)?;
        File::options()
            .write(true)
            .open(&self.access_log)
            .and_then(|file| file.set_len(0))
            .context(failed)
    }

    /// The part of all requests so far that has a line in the log, if a log is kept.
    pub(crate) fn logged_share(&self) -> Option<f64> {
        (self.contestant.access_log == AccessLog::On && self.requests > 0.0)
            .then(|| self.lines_logged / self.requests)
    }

    fn await_first_answer(&mut self) -> Result<Visit, Failure> {
        let deadline = Instant::now() + START_MAX;
        loop {
            self.process.check_alive()?;
            match visit(self.address, &self.client.host, None) {
                Ok(answer) if answer.status == 200 => return Ok(answer),
                _ if Instant::now() < deadline => sleep(START_POLL),
                Ok(answer) => {
                    return Err(
                        self.fault(&format!("still answers {} after {START_MAX:?}", answer.status))
                    );
                }
                Err(cause) => {
                    return Err(
                        self.fault(&format!("does not answer after {START_MAX:?}: {cause}"))
                    );
                }
            }
        }
    }

    fn prove_pinned(&self, first: &Visit) -> Result<(), Failure> {
        for _ in 0..FOLLOWED_VISITS {
            let answer = self.visit(self.client.cookie.as_deref())?;
            if answer.backend != first.backend {
                return Err(self.fault("does not follow its own cookie"));
            }
        }
        Ok(())
    }

    /// New clients reach more than one backend; a proxy that probes opens them one after the other.
    fn prove_random(&self) -> Result<(), Failure> {
        let first = self.visit(None)?;
        let deadline = Instant::now() + START_MAX;
        while Instant::now() < deadline {
            for _ in 1..NEW_VISITS {
                if self.visit(None)?.backend != first.backend {
                    return Ok(());
                }
            }
            sleep(START_POLL);
        }
        Err(self.fault("sends every new client to the same backend"))
    }

    fn visit(&self, cookie: Option<&str>) -> Result<Visit, Failure> {
        let answer = visit(self.address, &self.client.host, cookie)
            .context(|| format!("cannot ask {}", self.contestant.name))?;
        if answer.status == 200 {
            Ok(answer)
        } else {
            Err(self.fault(&format!("answers {}", answer.status)))
        }
    }

    pub(crate) fn fault(&self, what: &str) -> Failure {
        let Self { contestant, address, process, .. } = self;
        Failure::new(format!("{} at {address} {what}\n{}", contestant.name, process.last_words()))
    }
}

fn count_lines(path: &PathBuf) -> io::Result<f64> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    let mut lines = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(f64::from(lines)),
            length => {
                lines += buffer[..length].iter().map(|byte| u32::from(*byte == b'\n')).sum::<u32>()
            }
        }
    }
}
