//! h2load of nghttp2, for HTTP/2.

use std::{
    fmt::Write,
    net::SocketAddr,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, Stdio},
    rc::Rc,
    time::Duration,
};

use crate::{
    failure::{Context, Failure},
    guard::Guard,
    kernel::{self, ProcessorTime},
    load::Client,
    plan::Placement,
    round::{Generator, Outcome},
    topology,
};

/// Connections, and streams at once on each of them: as many requests at once as with HTTP/1.1.
const CONNECTIONS: usize = 4;
const STREAMS: usize = 16;

/// One run of h2load against one proxy.
pub(crate) struct H2load {
    pub(crate) program: PathBuf,
    pub(crate) placement: Placement,
    pub(crate) guard: Rc<Guard>,
    pub(crate) address: SocketAddr,
    pub(crate) client: Client,
}

impl Generator for H2load {
    /// Its first requests are among those that count.
    fn settle(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn processor_time(&self) -> ProcessorTime {
        kernel::reaped_time()
    }

    fn run(&mut self, duration: Duration) -> Result<Outcome, Failure> {
        let Self { address, client, .. } = self;
        let mut h2load = Command::new(&self.program);
        h2load
            .arg("--threads=1")
            .arg(format!("--clients={CONNECTIONS}"))
            .arg(format!("--max-concurrent-streams={STREAMS}"))
            .arg(format!("--duration={}", duration.as_secs().max(1)))
            .arg(format!("--connect-to={address}"))
            .args(client.cookie.iter().map(|it| format!("--header=cookie: {it}")))
            .arg(format!("https://{}/", client.host));
        let mut h2load = topology::beside_proxy(h2load, self.placement);
        h2load.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let failed = || "cannot run h2load".to_owned();
        let child = h2load.spawn().context(failed)?;
        let group = child.id();
        self.guard.started(group);
        let output = child.wait_with_output();
        self.guard.ended(group);
        let output = output.context(failed)?;
        let text = String::from_utf8_lossy(&output.stdout);
        parse(&text).ok_or_else(|| {
            let errors = String::from_utf8_lossy(&output.stderr);
            Failure::new(format!(
                "h2load ended with {} and no figures:\n{text}{errors}",
                output.status
            ))
        })
    }
}

/// Reads h2load's report. It knows the mean and the greatest latency, but no quantiles.
pub(crate) fn parse(text: &str) -> Option<Outcome> {
    let line = |label: &str| text.lines().find_map(|line| line.strip_prefix(label)).map(str::trim);
    let count = |line: &str, word: &str| -> Option<u64> {
        let mut parts = line.split(", ").filter_map(|part| part.split_once(' '));
        parts.find(|(_, name)| *name == word)?.0.parse().ok()
    };
    // 4.00s or 950.00ms.
    let elapsed = line("finished in ")?.split(',').next()?;
    let elapsed_s = match elapsed.strip_suffix("ms") {
        Some(milliseconds) => milliseconds.parse::<f64>().ok()? / 1e3,
        None => elapsed.strip_suffix('s')?.parse().ok()?,
    };
    let requests = line("requests: ")?;
    let good = count(line("status codes: ")?, "2xx")?;
    let mut void = String::new();
    for word in ["failed", "errored", "timeout"] {
        if let Some(number) = count(requests, word).filter(|it| *it > 0) {
            let _ = write!(void, "{number} {word}, ");
        }
    }
    let succeeded = count(requests, "succeeded")?;
    if succeeded > good {
        let _ = write!(void, "{} not 2xx, ", succeeded - good);
    }
    Some(Outcome {
        answers: good as f64,
        units: good as f64,
        elapsed: Duration::from_secs_f64(elapsed_s),
        latency: None,
        moved: 0,
        void: (!void.is_empty()).then(|| void.trim_end_matches(", ").to_owned()),
    })
}
