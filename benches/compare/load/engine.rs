//! The loop that sends and receives: one thread, no runtime, one system call to wait.

use std::{
    collections::VecDeque,
    io,
    os::fd::OwnedFd,
    sync::mpsc::{Receiver, TryRecvError},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    buffer::spare_capacity,
    event::{PollFd, PollFlags, Timespec, epoll, poll},
};

use super::{
    answer::Answer,
    interval::Interval,
    link::{Link, Received, Secure},
    request::{echo_len, write_message, write_request},
    sample::{Outcome, Sample, Trouble, since_epoch},
    spec::{Client, Exchange, Life, Pace, Spec},
};

/// Longest time without a look at commands, deadlines and connections that failed.
const ROUND: Duration = Duration::from_millis(5);

/// Room for one receive: more than any answer but downloads.
const BUFFER_BYTES: usize = 256 * 1024;

const EVENTS: usize = 256;

/// Everything that is sent and awaited.
pub(crate) struct Engine {
    spec: Spec,
    secure: Option<Secure>,
    epoll: OwnedFd,
    seats: Vec<Seat>,
    /// Seats that may take a request, the longest idle first.
    idle: VecDeque<usize>,
    /// Seats whose connection failed; they are idle again after a round, so that a dead peer is not asked in a spin.
    resting: Vec<usize>,
    /// Clients that have no request under way.
    free: VecDeque<usize>,
    start: Instant,
    /// The start, since the epoch of Unix.
    started: Duration,
    /// How many requests were taken up since the start.
    taken: u64,
    interval: Interval,
    interval_start: Instant,
    scratch: Vec<u8>,
}

/// A place for one connection after the other.
#[derive(Default)]
struct Seat {
    link: Option<Link>,
    job: Option<Job>,
    answer: Answer,
    /// Answers that the connection has given.
    answers: u64,
    /// Bytes of a message that came back so far.
    echoed: usize,
    /// Whether TLS was accounted for.
    is_known: bool,
}

/// One request.
#[derive(Clone, Copy)]
struct Job {
    client: usize,
    /// From when its latency counts.
    due: Instant,
    sent: Instant,
    /// It opens a WebSocket, and is no request that counts.
    is_opening: bool,
    is_repeated: bool,
}

/// Why a request has no good answer.
#[derive(Clone, Copy)]
enum Fault {
    Ended,
    Status,
    Unreadable,
    Timeout,
}

impl Engine {
    pub(crate) fn new(spec: Spec, secure: Option<Secure>) -> io::Result<Self> {
        let now = Instant::now();
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            seats: (0..spec.connections).map(|_| Seat::default()).collect(),
            idle: (0..spec.connections).collect(),
            resting: Vec::new(),
            free: (0..spec.clients.len()).collect(),
            start: now,
            started: since_epoch(),
            taken: 0,
            interval: Interval::default(),
            interval_start: now,
            scratch: Vec::new(),
            secure,
            spec,
        })
    }

    /// Sends and receives until `commands` has no sender; each command asks for the interval since the one before.
    pub(crate) fn run(
        &mut self,
        commands: &Receiver<()>,
        mut tell: impl FnMut(&Interval) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS);
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut round_end = Instant::now();
        loop {
            let now = Instant::now();
            if now >= round_end {
                round_end = now + ROUND;
                match commands.try_recv() {
                    Ok(()) => tell(&self.take_interval(now))?,
                    Err(TryRecvError::Empty) => {}
                    Err(TryRecvError::Disconnected) => return Ok(()),
                }
                self.end_late(now);
                self.idle.extend(self.resting.drain(..));
            }
            self.send_due(now);
            events.clear();
            self.wait(&mut events, self.next_due().map_or(round_end, |due| due.min(round_end)))?;
            for event in &events {
                let event: &epoll::Event = event;
                self.serve(event.data.u64() as usize, &mut buffer);
            }
        }
    }

    /// Fills `events`, at the latest at `until`.
    ///
    /// epoll_wait(2) rounds to milliseconds, ppoll(2) does not; it is asked only where there is nothing to do, and not
    /// in a closed loop: a proxy would pay for waking us (see `Rest` in `backends.rs`).
    fn wait(&self, events: &mut Vec<epoll::Event>, until: Instant) -> io::Result<()> {
        const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
        epoll::wait(&self.epoll, spare_capacity(events), Some(&NOW))?;
        let left = until.saturating_duration_since(Instant::now());
        if !events.is_empty() || left.is_zero() {
            return Ok(());
        }
        if self.spec.pace == Pace::Greedy {
            // Leaves the core to the backends.
            thread::yield_now();
            return Ok(());
        }
        let timeout =
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&self.epoll, PollFlags::IN)], Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(()),
            Ok(_) => {}
            Err(cause) => return Err(cause.into()),
        }
        epoll::wait(&self.epoll, spare_capacity(events), Some(&NOW))?;
        Ok(())
    }

    /// When the next request is due, if it can be sent then at all.
    fn next_due(&self) -> Option<Instant> {
        let Pace::PerSecond(rate) = self.spec.pace else { return None };
        (!self.idle.is_empty() && !self.free.is_empty())
            .then(|| self.start + Duration::from_secs_f64(self.taken as f64 / rate))
    }

    fn send_due(&mut self, now: Instant) {
        while let (Some(seat), Some(client)) = (self.idle.front(), self.free.front()) {
            let (seat, client) = (*seat, *client);
            let due = match self.spec.pace {
                Pace::Greedy => now,
                Pace::PerSecond(_) => match self.next_due() {
                    Some(due) if due <= now => due,
                    _ => return,
                },
            };
            self.idle.pop_front();
            let must_open = matches!(self.spec.exchange, Exchange::Echo { .. })
                && self.seats[seat].link.is_none();
            self.free.pop_front();
            // To open a WebSocket is no request; what is due waits for it.
            if !must_open {
                self.taken += 1;
            }
            self.send(
                seat,
                Job { client, due, sent: now, is_opening: must_open, is_repeated: false },
            );
        }
    }

    /// Sends a request, over a new connection where there is none.
    fn send(&mut self, index: usize, job: Job) {
        self.scratch.clear();
        match self.spec.exchange {
            Exchange::Echo { bytes, .. } if !job.is_opening => {
                write_message(&mut self.scratch, bytes)
            }
            Exchange::Get { .. } | Exchange::Post { .. } | Exchange::Echo { .. } => write_request(
                &mut self.scratch,
                &self.spec.exchange,
                self.spec.life,
                &self.spec.clients[job.client],
            ),
        }
        let seat = &mut self.seats[index];
        seat.job = Some(job);
        seat.answer.clear();
        seat.echoed = 0;
        let sent = match &mut seat.link {
            Some(link) => link.send(&self.scratch),
            None => self.open(index),
        };
        if sent.is_err() {
            self.fail(index, Fault::Ended);
        }
    }

    fn open(&mut self, index: usize) -> io::Result<()> {
        let seat = &mut self.seats[index];
        let mut link = Link::open(self.spec.address, self.secure.as_ref())?;
        let wanted = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(&self.epoll, &link, epoll::EventData::new_u64(index as u64), wanted)?;
        let sent = link.send(&self.scratch);
        self.interval.opened += 1;
        seat.answers = 0;
        seat.is_known = false;
        seat.link = Some(link);
        sent
    }

    /// Something happened on a connection.
    fn serve(&mut self, index: usize, buffer: &mut [u8]) {
        let Self { seats, spec, interval, .. } = self;
        let seat = &mut seats[index];
        let Some(link) = &mut seat.link else { return };
        let mut complete = Ok(false);
        let body_bytes = seat.answer.body_bytes;
        let received = link.ready().and_then(|()| {
            link.receive(buffer, |bytes| {
                complete = match (&complete, seat.job) {
                    (Ok(false), Some(job)) => match spec.exchange {
                        Exchange::Echo { bytes: length, .. } if !job.is_opening => {
                            seat.echoed += bytes.len();
                            Ok(seat.echoed >= echo_len(length))
                        }
                        Exchange::Get { .. } | Exchange::Post { .. } | Exchange::Echo { .. } => {
                            seat.answer.feed(bytes).map_err(|_| Fault::Unreadable)
                        }
                    },
                    // Bytes that nobody asked for.
                    (Ok(_), _) => Err(Fault::Unreadable),
                    (Err(fault), _) => Err(*fault),
                };
            })
        });
        interval.body_bytes += seat.answer.body_bytes - body_bytes;
        if !seat.is_known
            && let Some(resumed) = link.resumed()
        {
            seat.is_known = true;
            interval.resumed += u64::from(resumed);
        }
        match (complete, received) {
            (Ok(true), received) => self.complete(index, received.unwrap_or(Received::Ended)),
            (Err(fault), _) => self.fail(index, fault),
            (Ok(false), Ok(Received::Open)) => {}
            (Ok(false), Ok(Received::Ended) | Err(_)) if self.seats[index].job.is_some() => {
                self.fail(index, Fault::Ended);
            }
            // Nobody minds that an idle connection is closed; the next request opens another.
            (Ok(false), _) => self.seats[index].link = None,
        }
    }

    /// An answer is there as a whole.
    fn complete(&mut self, index: usize, received: Received) {
        let Self { seats, spec, interval, .. } = self;
        let seat = &mut seats[index];
        let Some(job) = seat.job.take() else { return };
        let is_message = matches!(spec.exchange, Exchange::Echo { .. }) && !job.is_opening;
        let status = seat.answer.status;
        let is_good =
            is_message || if job.is_opening { status == 101 } else { (200..300).contains(&status) };
        if !is_good {
            seat.job = Some(job);
            return self.fail(index, Fault::Status);
        }
        seat.answers += 1;
        if !job.is_opening {
            interval.latency.record(job.due.elapsed());
        }
        if spec.logs && !job.is_opening {
            let backend = seat.answer.backend.parse().unwrap_or(0);
            interval.samples.push(sample(&job, self.start, Outcome::Answered(backend)));
        }
        if !is_message {
            let client = &mut spec.clients[job.client];
            interval.moved += u64::from(learn(client, &seat.answer, spec.keeps_cookies));
        }
        let ends = received == Received::Ended || seat.answer.closes || spec.life == Life::Single;
        if ends && !is_message {
            seat.link = None;
        }
        self.free.push_back(job.client);
        if spec.life != Life::Idle {
            self.idle.push_back(index);
        }
    }

    /// A request has no good answer, and its connection is of no more use.
    fn fail(&mut self, index: usize, fault: Fault) {
        let seat = &mut self.seats[index];
        let link = seat.link.take();
        let Some(job) = seat.job.take() else { return };
        let is_raced = seat.answers > 0 && seat.answer.is_empty() && !job.is_repeated;
        let is_request = !matches!(self.spec.exchange, Exchange::Echo { .. });
        let failures = &mut self.interval.failures;
        let (count, trouble) = match fault {
            // It closed as the request was under way: RFC 9112 section 9.3.1 lets clients try again.
            Fault::Ended if is_raced && is_request => {
                self.interval.repeated += 1;
                return self.send(index, Job { is_repeated: true, ..job });
            }
            Fault::Ended if link.is_none_or(|it| !it.was_connected()) => {
                (&mut failures.connect, Trouble::Refused)
            }
            Fault::Ended => (&mut failures.broken, Trouble::Reset),
            Fault::Status => (&mut failures.status, Trouble::Status),
            Fault::Unreadable => (&mut failures.unreadable, Trouble::Unreadable),
            Fault::Timeout => (&mut failures.timeout, Trouble::TimedOut),
        };
        *count += 1;
        if self.spec.logs {
            self.interval.samples.push(sample(&job, self.start, Outcome::Failed(trouble)));
        }
        self.free.push_back(job.client);
        self.resting.push(index);
    }

    fn end_late(&mut self, now: Instant) {
        let timeout = self.spec.timeout;
        let is_late = |job: &Job| now.saturating_duration_since(job.sent) > timeout;
        for index in 0..self.seats.len() {
            if self.seats[index].job.as_ref().is_some_and(is_late) {
                self.fail(index, Fault::Timeout);
            }
        }
    }

    fn take_interval(&mut self, now: Instant) -> Interval {
        let elapsed = now - self.interval_start;
        self.interval_start = now;
        let waiting = match self.spec.pace {
            Pace::Greedy => 0,
            Pace::PerSecond(rate) => {
                (((now - self.start).as_secs_f64() * rate) as u64).saturating_sub(self.taken)
            }
        };
        let is_established = |seat: &&Seat| seat.link.is_some() && seat.answers > 0;
        let established = self.seats.iter().filter(is_established).count() as u64;
        let started = self.started;
        Interval { elapsed, waiting, established, started, ..std::mem::take(&mut self.interval) }
    }
}

/// What is told of a request that ended now.
fn sample(job: &Job, start: Instant, outcome: Outcome) -> Sample {
    Sample {
        client: job.client,
        due: job.due - start,
        sent: job.sent - start,
        done: start.elapsed(),
        outcome,
        is_repeated: job.is_repeated,
    }
}

/// What a client takes from an answer; says whether it lost its session.
fn learn(client: &mut Client, answer: &Answer, keeps_cookies: bool) -> bool {
    if answer.backend.is_empty() {
        return false;
    }
    let is_known = client.cookie.is_some() && client.backend.is_some();
    let is_moved = is_known && client.backend.as_deref() != Some(answer.backend.as_str());
    if keeps_cookies && !answer.cookie.is_empty() {
        client.cookie = Some(answer.cookie.clone());
    }
    if (is_moved || client.backend.is_none()) && client.cookie.is_some() {
        client.backend = Some(answer.backend.clone());
    }
    is_moved
}
