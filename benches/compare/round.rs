//! One measurement: one proxy, one workload, a few seconds.

use std::{
    fmt::{self, Display},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{
    failure::Failure,
    kernel::{self, ProcessorTime},
    load::{Interval, Load},
    plan::Placement,
    process::Process,
    proxy::Proxy,
    topology,
    workload::{Method, Unit, Workload},
};

/// Above this part of one core a process of one thread has nothing left to give.
const SATURATED: f64 = 0.95;

/// Above this part of one core somebody else's work disturbs ours.
const DISTURBED: f64 = 0.15;

/// How long a load runs before it is measured.
const SETTLE: Duration = Duration::from_millis(200);

/// How long that may take where every client has to get its cookie first.
const SETTLE_MAX: Duration = Duration::from_secs(30);

/// How far behind its schedule a proxy may leave the generator at the end of a round.
const BEHIND_MAX: Duration = Duration::from_millis(100);

/// The least processor time whose unit, a hundredth of a second, is no more than a tenth of it.
const PROCESSOR_MIN: Duration = Duration::from_millis(100);

/// The least part of TLS sessions that is resumed where all could be.
const RESUMED_SHARE_MIN: f64 = 0.9;

/// What makes a load: our own [`Load`], or another program.
pub(crate) trait Generator {
    /// Comes to what is measured.
    fn settle(&mut self) -> Result<(), Failure>;
    /// What it has used so far.
    fn processor_time(&self) -> ProcessorTime;
    /// Makes the load, and blocks until it is done.
    fn run(&mut self, duration: Duration) -> Result<Outcome, Failure>;
}

/// What came of a load.
pub(crate) struct Outcome {
    pub(crate) answers: f64,
    /// What the workload counts by: answers or megabytes.
    pub(crate) units: f64,
    pub(crate) elapsed: Duration,
    pub(crate) latency: Option<Latency>,
    /// Answers from another backend than the cookie says.
    pub(crate) moved: u64,
    /// Why it is worth nothing, if so.
    pub(crate) void: Option<String>,
}

/// From when a request was due to the end of its answer.
#[derive(Clone, Copy)]
pub(crate) struct Latency {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) p999: Duration,
    pub(crate) max: Duration,
}

/// The figures of one round.
pub(crate) struct Round {
    /// Processor time of the proxy's processes for each unit, in microseconds.
    pub(crate) processor_us: f64,
    /// The parts of it in user mode and in the kernel, in microseconds.
    pub(crate) user_us: f64,
    pub(crate) system_us: f64,
    pub(crate) units_per_s: f64,
    pub(crate) latency: Option<Latency>,
    /// Resident memory of the proxy's processes at the end of the round.
    pub(crate) resident_bytes: u64,
    pub(crate) busy: Busy,
    /// Why the figures are worth nothing, if so.
    pub(crate) void: Option<String>,
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
        generator: &mut dyn Generator,
        workload: Workload,
        placement: Placement,
        duration: Duration,
    ) -> Result<Self, Failure> {
        generator.settle()?;
        let start = Instant::now();
        let machine_start = kernel::machine_busy();
        let generator_start = generator.processor_time();
        let backends_start = backends.processor_time();
        let proxy_start = proxy.process.processor_time();
        let outcome = generator.run(duration)?;
        let proxy_time = proxy.process.processor_time().since(proxy_start);
        let backends_time = backends.processor_time().since(backends_start);
        let generator_time = generator.processor_time().since(generator_start);
        let machine_time = kernel::machine_busy().saturating_sub(machine_start);
        let wall = start.elapsed();

        proxy.process.check_alive()?;
        let resident_bytes = proxy.process.resident_bytes();
        proxy.account_log(outcome.answers)?;
        let ours = proxy_time.total() + backends_time.total() + generator_time.total();
        let part = |time: Duration| time.as_secs_f64() / wall.as_secs_f64();
        let busy = Busy {
            proxy: part(proxy_time.total()),
            generator: part(generator_time.total()),
            backends: part(backends_time.total()),
            others: part(machine_time.saturating_sub(ours)),
        };
        let each_us = |time: Duration| time.as_secs_f64() * 1e6 / outcome.units;
        Ok(Self {
            processor_us: each_us(proxy_time.total()),
            user_us: each_us(proxy_time.user),
            system_us: each_us(proxy_time.system),
            units_per_s: outcome.units / outcome.elapsed.as_secs_f64(),
            latency: outcome.latency,
            resident_bytes,
            busy,
            void: outcome
                .void()
                .or_else(|| busy.void(workload, placement))
                .or_else(|| unresolved(workload, proxy_time.total())),
            logged_share: proxy.logged_share(),
        })
    }
}

impl Outcome {
    fn void(&self) -> Option<String> {
        if self.void.is_some() {
            return self.void.clone();
        }
        if self.units == 0.0 {
            return Some("no answer in this time".to_owned());
        }
        (self.moved > 0)
            .then(|| format!("{} answers from another backend than the cookie says", self.moved))
    }

    /// What an interval of our own generator says of a workload.
    fn of(interval: &Interval, spec_rate: Option<f64>, workload: Workload) -> Self {
        let answers = interval.answers() as f64;
        let quantile = |share| interval.latency.quantile(share);
        Self {
            answers,
            units: match workload.unit() {
                Unit::Megabyte => interval.body_bytes as f64 / 1e6,
                Unit::Request | Unit::Message => answers,
            },
            elapsed: interval.elapsed,
            latency: (answers > 0.0).then(|| Latency {
                p50: quantile(0.5),
                p99: quantile(0.99),
                p999: quantile(0.999),
                max: interval.latency.max(),
            }),
            moved: interval.moved,
            void: void(interval, spec_rate, workload),
        }
    }
}

/// A proxy that hardly got to run was hardly measured.
fn unresolved(workload: Workload, processor: Duration) -> Option<String> {
    (workload.method() == Method::Cost && processor < PROCESSOR_MIN)
        .then(|| format!("only {processor:?} of processor time, which is counted in 10 ms"))
}

fn void(interval: &Interval, rate: Option<f64>, workload: Workload) -> Option<String> {
    if interval.failures.total() > 0 {
        return Some(interval.failures.to_string());
    }
    let behind_max = rate.map_or(0.0, |it| it * BEHIND_MAX.as_secs_f64());
    if interval.waiting as f64 > behind_max {
        return Some(format!("{} requests behind the schedule at the end", interval.waiting));
    }
    let resumed = interval.resumed as f64 / (interval.opened as f64).max(1.0);
    (workload == Workload::TlsResumed && resumed < RESUMED_SHARE_MIN)
        .then(|| format!("only {:.0} % of the sessions resumed", resumed * 100.0))
}

/// Our own generator with one workload.
pub(crate) struct Own {
    pub(crate) load: Load,
    pub(crate) workload: Workload,
    /// Requests a second, where that is fixed.
    pub(crate) rate: Option<f64>,
    /// Answers that are needed before anything is measured.
    pub(crate) first_answers: u64,
}

impl Generator for Own {
    fn settle(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + SETTLE_MAX;
        let mut answers = 0;
        loop {
            sleep(SETTLE);
            answers += self.load.interval()?.answers();
            if answers >= self.first_answers {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Failure::new(format!(
                    "{answers} answers in {SETTLE_MAX:?}, of {} that come before the measurement",
                    self.first_answers
                )));
            }
        }
    }

    fn processor_time(&self) -> ProcessorTime {
        self.load.processor_time()
    }

    fn run(&mut self, duration: Duration) -> Result<Outcome, Failure> {
        sleep(duration);
        Ok(Outcome::of(&self.load.interval()?, self.rate, self.workload))
    }
}

impl Busy {
    /// What of the surroundings, rather than the proxy, set the figures.
    pub(crate) fn remarks(self, workload: Workload, placement: Placement) -> Vec<&'static str> {
        // In a closed loop generator and backends never sleep: how much they were busy says nothing.
        let sleeps = workload.method() == Method::Rate;
        let remarks = [
            (sleeps && self.generator > SATURATED, "generator saturated"),
            (sleeps && self.backends > SATURATED, "backends saturated"),
            (sleeps && self.is_starved(placement), "cores full before the proxy"),
            (!sleeps && self.proxy < SATURATED, "the proxy had time left"),
            (self.others > DISTURBED, "machine shared with others"),
        ];
        remarks.into_iter().filter(|(applies, _)| *applies).map(|(_, remark)| remark).collect()
    }

    /// A latency at a fixed rate is the proxy's own only where nobody else was at an end.
    fn void(self, workload: Workload, placement: Placement) -> Option<String> {
        // Others that disturb are remarked on, but may be far from the end of what there is.
        let is_starved = Self { others: 0.0, ..self }.is_starved(placement);
        let is_full = self.generator > SATURATED || self.backends > SATURATED || is_starved;
        (workload.method() == Method::Rate && is_full)
            .then(|| "generator or backends had no processor time left".to_owned())
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
        let Self { processor_us, user_us, system_us, units_per_s, .. } = self;
        write!(
            out,
            "{processor_us:.1} us ({user_us:.1} user, {system_us:.1} system), {units_per_s:.0} a second"
        )?;
        match &self.void {
            Some(reason) => write!(out, "; void: {reason}"),
            None => Ok(()),
        }
    }
}
