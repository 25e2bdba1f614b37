//! wrk, and what it says.

use std::{
    fmt::{self, Display},
    io,
    net::SocketAddr,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, Output, Stdio},
    rc::Rc,
    time::Duration,
};

use crate::{
    failure::{Context, Failure},
    guard::Guard,
    kernel::{self, ProcessorTime},
    plan::Placement,
    topology,
};

/// Connections that wrk keeps busy, each with one request at a time.
const CONNECTIONS: usize = 64;

/// A request that takes longer is an error, in seconds.
const TIMEOUT_S: usize = 2;

/// The program that makes the load, with one thread.
pub(crate) struct Generator {
    pub(crate) program: PathBuf,
    pub(crate) placement: Placement,
    pub(crate) guard: Rc<Guard>,
}

/// One run of the generator.
pub(crate) struct Load {
    pub(crate) requests: f64,
    pub(crate) seconds: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) errors: Errors,
    /// What the generator itself used.
    pub(crate) processor: ProcessorTime,
}

/// What must not happen; zeros in a good run.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Errors {
    pub(crate) status: u64,
    pub(crate) connect: u64,
    pub(crate) read: u64,
    pub(crate) write: u64,
    pub(crate) timeout: u64,
}

impl Generator {
    /// Loads `address` for `seconds` and blocks until it is done.
    pub(crate) fn run(
        &self,
        address: SocketAddr,
        headers: &[String],
        seconds: usize,
    ) -> Result<Load, Failure> {
        let mut wrk = Command::new(&self.program);
        wrk.args(["--threads=1", "--latency"])
            .arg(format!("--connections={CONNECTIONS}"))
            .arg(format!("--duration={seconds}s"))
            .arg(format!("--timeout={TIMEOUT_S}s"))
            .args(headers.iter().map(|header| format!("--header={header}")))
            .arg(format!("http://{address}/"));
        let reaped = kernel::reaped_time();
        let output = self.output_of(topology::beside_proxy(wrk, self.placement));
        let output = output.context(|| format!("cannot run {}", self.program.display()))?;
        let processor = kernel::reaped_time().since(reaped);
        let text = String::from_utf8_lossy(&output.stdout);
        let load = parse(&text).filter(|load| load.requests > 0.0).ok_or_else(|| {
            let errors = String::from_utf8_lossy(&output.stderr);
            Failure::new(format!(
                "wrk ended with {} and did not finish a request:\n{text}{errors}",
                output.status
            ))
        })?;
        Ok(Load { processor, ..load })
    }

    fn output_of(&self, mut command: Command) -> io::Result<Output> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.process_group(0).spawn()?;
        let group = child.id();
        self.guard.started(group);
        let output = child.wait_with_output();
        self.guard.ended(group);
        output
    }
}

/// Reads the figures from wrk's report; `processor` is not among them.
pub(crate) fn parse(text: &str) -> Option<Load> {
    let value_after =
        |label: &str| text.lines().find_map(|line| line.trim().strip_prefix(label)).map(str::trim);
    let (requests, seconds) = text.lines().find_map(|line| {
        let (requests, rest) = line.trim().split_once(" requests in ")?;
        Some((requests.parse().ok()?, duration(rest.split_once(',')?.0)?.as_secs_f64()))
    })?;
    let socket_errors = value_after("Socket errors:").unwrap_or_default();
    let socket_error = |kind: &str| {
        let mut parts = socket_errors.split(", ").filter_map(|part| part.split_once(' '));
        parts.find(|(name, _)| *name == kind).and_then(|(_, count)| count.parse().ok()).unwrap_or(0)
    };
    Some(Load {
        requests,
        seconds,
        p50: duration(value_after("50%")?)?,
        p99: duration(value_after("99%")?)?,
        errors: Errors {
            status: value_after("Non-2xx or 3xx responses:")
                .and_then(|it| it.parse().ok())
                .unwrap_or(0),
            connect: socket_error("connect"),
            read: socket_error("read"),
            write: socket_error("write"),
            timeout: socket_error("timeout"),
        },
        processor: ProcessorTime::default(),
    })
}

/// Reads `850.00us`, `1.20ms`, `4.00s`, `1.00m`.
fn duration(text: &str) -> Option<Duration> {
    // The longer units first: every one of them ends in the letter of a shorter one.
    const UNITS_S: [(&str, f64); 4] = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0)];
    let (number, unit_s) =
        UNITS_S.iter().find_map(|(unit, unit_s)| Some((text.strip_suffix(unit)?, unit_s)))?;
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * unit_s).ok()
}

impl Display for Errors {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, connect, read, write, timeout } = self;
        write!(
            out,
            "{status} answers not 2xx, socket errors: {connect} connect, {read} read, {write} write, "
        )?;
        write!(out, "{timeout} timeout")
    }
}
