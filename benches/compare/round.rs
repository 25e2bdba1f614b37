//! One measurement: one proxy, one workload, a few seconds.

use std::{
    fmt::{self, Display},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{
    failure::Failure,
    kernel,
    load::{Failures, Load},
    plan::Placement,
    process::Process,
    proxy::Proxy,
    topology,
};

/// Above this part of one core a process of one thread has nothing left to give.
const SATURATED: f64 = 0.95;

/// Above this part of one core somebody else's work disturbs ours.
const DISTURBED: f64 = 0.15;

/// How long a load runs before it is measured.
const SETTLE: Duration = Duration::from_millis(200);

/// The figures of one round.
pub(crate) struct Round {
    /// Processor time of the proxy's processes for each request, in microseconds.
    pub(crate) processor_us: f64,
    /// The part of it in user mode, in microseconds.
    pub(crate) user_us: f64,
    pub(crate) requests_per_s: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    /// Resident memory of the proxy's processes at the end of the round.
    pub(crate) resident_bytes: u64,
    pub(crate) busy: Busy,
    pub(crate) failures: Failures,
    /// Answers from another backend than the cookie says.
    pub(crate) moved: u64,
    /// The part of all requests so far that the access log has, if one is kept.
    pub(crate) logged_share: Option<f64>,
}

/// Processor time over wall time: 1 is one core in full use.
#[derive(Clone, Copy)]
pub(crate) struct Busy {
    pub(crate) proxy: f64,
    pub(crate) generator: f64,
    pub(crate) backends: f64,
    /// Everybody else on this machine, the hypervisor's other guests included as far as the kernel sees them.
    pub(crate) others: f64,
}

impl Round {
    pub(crate) fn measure(
        proxy: &mut Proxy,
        backends: &Process,
        load: &mut Load,
        duration: Duration,
    ) -> Result<Self, Failure> {
        sleep(SETTLE);
        load.interval()?;
        let start = Instant::now();
        let machine_start = kernel::machine_busy();
        let load_start = load.processor_time();
        let backends_start = backends.processor_time();
        let proxy_start = proxy.process.processor_time();
        sleep(duration);
        let interval = load.interval()?;
        let proxy_time = proxy.process.processor_time().since(proxy_start);
        let backends_time = backends.processor_time().since(backends_start);
        let load_time = load.processor_time().since(load_start);
        let machine_time = kernel::machine_busy().saturating_sub(machine_start);
        let wall = start.elapsed();

        proxy.process.check_alive()?;
        let resident_bytes = proxy.process.resident_bytes();
        let requests = interval.answers() as f64;
        if requests == 0.0 {
            return Err(proxy.fault(&format!("finished no request: {}", interval.failures)));
        }
        proxy.account_log(requests)?;
        let ours = proxy_time.total() + backends_time.total() + load_time.total();
        let part = |time: Duration| time.as_secs_f64() / wall.as_secs_f64();
        Ok(Self {
            processor_us: proxy_time.total().as_secs_f64() * 1e6 / requests,
            user_us: proxy_time.user.as_secs_f64() * 1e6 / requests,
            requests_per_s: requests / interval.elapsed.as_secs_f64(),
            p50: interval.latency.quantile(0.5),
            p99: interval.latency.quantile(0.99),
            resident_bytes,
            busy: Busy {
                proxy: part(proxy_time.total()),
                generator: part(load_time.total()),
                backends: part(backends_time.total()),
                others: part(machine_time.saturating_sub(ours)),
            },
            failures: interval.failures,
            moved: interval.moved,
            logged_share: proxy.logged_share(),
        })
    }
}

impl Round {
    /// Why the figures are worth nothing, if they are.
    pub(crate) fn void(&self) -> Option<String> {
        if self.failures != Failures::default() {
            return Some(self.failures.to_string());
        }
        (self.moved > 0)
            .then(|| format!("{} answers from another backend than the cookie says", self.moved))
    }
}

impl Busy {
    /// What of the surroundings, rather than the proxy, set the figures.
    pub(crate) fn remarks(self, placement: Placement) -> Vec<&'static str> {
        let remarks = [
            (self.generator > SATURATED, "generator saturated"),
            (self.backends > SATURATED, "backends saturated"),
            (self.is_starved(placement), "cores full before the proxy"),
            (self.others > DISTURBED, "machine shared with others"),
        ];
        remarks.into_iter().filter(|(applies, _)| *applies).map(|(_, remark)| remark).collect()
    }

    /// Whether the proxy had time left and the cores that feed it had none.
    fn is_starved(self, placement: Placement) -> bool {
        let cores = topology::cores() as f64;
        let beside = self.generator + self.backends + self.others;
        let is_full = match placement {
            Placement::Free => beside + self.proxy > SATURATED * cores,
            Placement::Pinned => beside > SATURATED * (cores - 1.0),
        };
        self.proxy < SATURATED && is_full
    }
}

impl Display for Round {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{:.1} us ({:.1} user), {:.0} requests/s",
            self.processor_us, self.user_us, self.requests_per_s
        )?;
        match self.void() {
            Some(reason) => write!(out, "; void: {reason}"),
            None => Ok(()),
        }
    }
}
