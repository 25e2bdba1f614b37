//! A client connection, what it may take in time, and the list of all of them.
//!
//! Pingora's timeouts are per read, so a byte now and then keeps a connection for ever, and it has
//! none from the end of a request to the first byte of its response. Each connection therefore has
//! one deadline, moved on by the phases of the proxy, and watched by one task for all connections:
//! a request costs a few atomic stores, and no timer. A missed deadline ends the next read.

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::task::AtomicWaker;
use pingora::protocols::SocketDigest;

use super::allowed::Limits;
use super::frames::FrameFaults;
use super::gate::Gate;
use super::origin::Origin;
use super::pace::{Pace, Reading, millis};
use crate::balancer::app::live::BackendLive;
use crate::balancer::assign::Pressure;
use crate::wire::fault::Fault;
use crate::wire::frame::FrameFault;
use crate::wire::head::HeadLimits;

/// How often deadlines are looked at. A deadline is late by up to this much.
pub const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// Parts of the list of connections, so that opening and closing them seldom meets a lock.
const SHARDS: usize = 16;

/// How long a connection that missed its deadline has to end by itself, error page included. Pingora
/// reads from no client whose bytes the backend does not take: there nobody sees the deadline.
const STUCK: Duration = Duration::from_secs(5);

/// How long a client that may ask again is left alone even where room is needed.
const IDLE_LEAST: Duration = Duration::from_secs(1);

const NO_DEADLINE: u64 = u64::MAX;
const MISSED: u64 = 0;

/// What a deadline is for, so that the one who missed it can be named.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Wait {
    /// The backend is to send the next byte of its response.
    BackendBody,
    /// The client is to send the next byte of its request.
    ClientBody,
    /// The client is to read what is there for it.
    ClientRead,
    /// Nothing any more: the stream is to end, since its backend is to be left.
    Evicted,
    /// The backend is to begin its response.
    FirstByte,
    /// The client may still send the body that its answer made needless.
    Unsent,
    /// The client is to send its body faster than it does.
    SlowBody,
    /// Either side is to say anything on an upgraded connection, or in a call of gRPC.
    Stream,
    /// The whole request is to end.
    Total,
}

/// What is watched.
enum Level {
    /// A connection of a client.
    Connection(Option<Arc<SocketDigest>>),
    /// A stream of HTTP/2 on one, which has this key, and how many bytes its client took of it.
    Stream { taken: AtomicU64, parent: u64 },
}

/// One client connection, or a stream of one that speaks HTTP/2.
pub(super) struct Connection {
    id: u64,
    /// Milliseconds on the monotonic clock, or one of the constants above.
    deadline: AtomicU64,
    waker: AtomicWaker,
    /// When the deadline was missed, in milliseconds; [`NO_DEADLINE`]: it was not.
    missed_at: AtomicU64,
    /// Woken when nothing but the end of the connection helps.
    stuck: AtomicWaker,
    /// Woken with `waker`, for who writes.
    write_waker: AtomicWaker,
    /// Whether the last write found no room.
    write_blocked: AtomicBool,
    /// What the next wait for the client may take, in milliseconds; 0: what the deadline leaves.
    patience: AtomicU64,
    /// What the deadline was last moved on by, in milliseconds.
    allowed: AtomicU64,
    /// How slow its client may be, and was.
    pub(super) pace: Pace,
    /// Requests that came on it.
    requests: AtomicU64,
    level: Level,
    /// Whether the connection waits for the first byte of a request.
    idle: AtomicBool,
    /// The backend of the stream that runs on the connection, if one does.
    stream: Mutex<Option<Arc<BackendLive>>>,
    /// Whether one does: asked for all connections, few of which have one.
    has_stream: AtomicBool,
    /// Whether that stream was told to end.
    evicted: AtomicBool,
    /// Whether both sides left HTTP, by a 101.
    tunnel: AtomicBool,
    /// Why a request was refused as it came; the last one then.
    fault: OnceLock<Fault>,
    /// What its frames are wrong in, which ends it (`proxy/frames.rs`).
    pub(super) frame_fault: OnceLock<FrameFault>,
    /// Whether a field block was begun that is not whole yet.
    pub(super) in_block: AtomicBool,
    pub(super) limits: Arc<Limits>,
    /// Where it comes from: as the socket tells, until more is known.
    seen: Arc<Origin>,
    told: OnceLock<Arc<Origin>>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Connection {
    /// Gives the connection `limit` from now on.
    pub(super) fn allow(&self, limit: Duration) {
        let limit = millis(limit);
        self.allowed.store(limit, Ordering::Relaxed);
        let at = self.limits.now.load(Ordering::Relaxed).saturating_add(limit);
        self.deadline.store(at.clamp(1, NO_DEADLINE - 1), Ordering::Relaxed);
    }

    /// Wakes `waker` when the deadline is over.
    pub(super) fn wake_when_over(&self, waker: &Waker) {
        if self.patience.load(Ordering::Relaxed) != 0 {
            self.allow(Duration::from_millis(self.patience.swap(0, Ordering::Relaxed)));
        }
        self.waker.register(waker);
        self.pace.begin_wait(self.limits.now.load(Ordering::Relaxed));
    }

    /// Gives the connection `limit` from when it waits for the client: what came was taken then.
    pub(super) fn be_patient(&self, limit: Duration) {
        self.patience.store(millis(limit), Ordering::Relaxed);
    }

    /// Something came of what was waited for, if only the end.
    pub(super) fn end_wait(&self) {
        self.pace.end_wait(|| self.limits.now.load(Ordering::Relaxed));
    }

    /// Notes whether a write found no room; it fails when the deadline is over.
    pub(super) fn written(
        &self,
        written: Poll<io::Result<usize>>,
        cx: &Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let blocked = written.is_pending();
        if blocked || self.write_blocked.load(Ordering::Relaxed) {
            self.write_blocked.store(blocked, Ordering::Relaxed);
        }
        if blocked {
            self.write_waker.register(cx.waker());
            if self.missed_deadline() || self.is_evicted() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        written
    }

    /// Gives the whole request `limit` from now on; `None`: any time.
    pub(super) fn allow_in_all(&self, limit: Option<Duration>) {
        let now = self.limits.now.load(Ordering::Relaxed);
        self.pace.end_at(limit.map(|limit| now.saturating_add(millis(limit))));
    }

    /// Whether the client leaves unread what is there for it.
    pub(super) fn is_write_blocked(&self) -> bool {
        self.write_blocked.load(Ordering::Relaxed)
    }

    /// Wakes `waker` when nothing but the end of the connection helps.
    pub(super) fn wake_when_stuck(&self, waker: &Waker) {
        self.stuck.register(waker);
    }

    /// Gives the client its time for the head of its first request.
    pub(super) fn allow_head(&self) {
        self.idle.store(false, Ordering::Relaxed);
        self.allow(self.limits.head_timeout());
    }

    /// Counts a request that is about to come. Answers whether it is the last that may.
    pub(super) fn begin_request(&self) -> bool {
        let count = self.requests.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        count >= self.limits.requests.load(Ordering::Relaxed)
    }

    /// Whether the deadline was missed so long ago that nobody looks at it.
    pub(super) fn is_stuck(&self) -> bool {
        let now = self.limits.now.load(Ordering::Relaxed);
        let grace = u64::try_from(STUCK.as_millis()).unwrap_or(0);
        let over = self.missed_deadline() || self.is_evicted();
        over && now.saturating_sub(self.missed_at.load(Ordering::Relaxed)) > grace
    }

    /// Gives the client its time to begin another request.
    pub(super) fn allow_idle(&self) {
        self.idle.store(true, Ordering::Relaxed);
        self.pace.reset();
        self.allow(self.limits.keepalive_timeout());
    }

    /// The first bytes of a request end the idle time; from here on the whole head has its limit.
    pub(super) fn note_read(&self) {
        if self.idle.load(Ordering::Relaxed) {
            self.idle.store(false, Ordering::Relaxed);
            self.allow(self.limits.head_timeout());
        }
    }

    /// Gives the client its time to read what is left of its responses.
    pub(super) fn allow_unread(&self) {
        self.idle.store(false, Ordering::Relaxed);
        self.allow(self.limits.keepalive_timeout());
    }

    /// Lets a connection take its time whose streams have deadlines of their own.
    pub(super) fn begin_work(&self) {
        self.idle.store(false, Ordering::Relaxed);
        self.clear_deadline();
    }

    /// Counts what the client took of a stream.
    pub(super) fn note_taken(&self, bytes: usize) {
        if let Level::Stream { taken, .. } = &self.level {
            taken.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// Whether it is a stream of HTTP/2.
    pub(super) fn is_stream(&self) -> bool {
        matches!(self.level, Level::Stream { .. })
    }

    /// Lets the connection take its time.
    pub(super) fn clear_deadline(&self) {
        self.deadline.store(NO_DEADLINE, Ordering::Relaxed);
    }

    /// Whether the deadline was missed.
    pub(super) fn missed_deadline(&self) -> bool {
        self.deadline.load(Ordering::Relaxed) == MISSED || self.pace.slow().is_some()
    }

    /// Whether the stream on the connection was told to end. What is left of an earlier stream says nothing.
    pub(super) fn is_evicted(&self) -> bool {
        self.evicted.load(Ordering::Relaxed) && self.has_stream.load(Ordering::Relaxed)
    }

    /// Notes that a stream of this backend runs on it from now on.
    pub(super) fn begin_stream(&self, backend: &Arc<BackendLive>) {
        self.evicted.store(false, Ordering::Relaxed);
        *lock(&self.stream) = Some(Arc::clone(backend));
        self.has_stream.store(true, Ordering::Relaxed);
    }

    /// Notes that none does any more.
    pub(super) fn end_stream(&self) {
        self.has_stream.store(false, Ordering::Relaxed);
        *lock(&self.stream) = None;
    }

    /// Whether the stream on the connection has to end: its backend is to be left, or the process.
    fn has_to_leave(&self) -> bool {
        let all = || self.limits.streams_end.load(Ordering::Relaxed);
        let is_told = |backend: &Arc<BackendLive>| backend.evicts() || all();
        self.has_stream.load(Ordering::Relaxed) && lock(&self.stream).as_ref().is_some_and(is_told)
    }

    /// The number of the request that Pingora reads or serves; 0 before the first.
    pub(super) fn turn(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Tells that what follows is no HTTP, and no body.
    pub(super) fn open_tunnel(&self) {
        self.pace.budget(None);
        self.tunnel.store(true, Ordering::Relaxed);
    }

    /// Whether what comes is no HTTP.
    pub(super) fn is_tunnel(&self) -> bool {
        self.tunnel.load(Ordering::Relaxed)
    }

    /// Notes why a request is refused. The first reason counts.
    pub(super) fn refuse(&self, fault: Fault) {
        self.fault.get_or_init(|| fault);
    }

    /// Why the request was refused as it came, if it was.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault.get().copied()
    }

    /// How large the head of a request may be.
    pub(super) fn head_limits(&self) -> HeadLimits {
        self.limits.head()
    }

    /// Ends the wait of a connection whose deadline is over at `now` (milliseconds), or whose stream
    /// has to end.
    fn watch(&self, now: u64) {
        if self.missed_deadline() || self.is_evicted() {
            if self.is_stuck() {
                self.stuck.wake();
            }
            return;
        }
        if self.has_to_leave() {
            self.missed_at.store(now, Ordering::Relaxed);
            // Not the deadline, which every byte of a busy stream moves on.
            self.evicted.store(true, Ordering::Relaxed);
            self.wake();
            return;
        }
        if self.pace.watch(now) || self.is_read_too_slowly(now) {
            self.missed_at.store(now, Ordering::Relaxed);
            self.wake();
            return;
        }
        let deadline = self.deadline.load(Ordering::Relaxed);
        if deadline > now && !self.may_go(deadline, now) {
            return;
        }
        self.missed_at.store(now, Ordering::Relaxed);
        // A phase that moved the deadline meanwhile wins.
        let missed =
            self.deadline.compare_exchange(deadline, MISSED, Ordering::Relaxed, Ordering::Relaxed);
        if missed.is_ok() {
            self.wake();
        }
    }

    fn wake(&self) {
        self.waker.wake();
        self.write_waker.wake();
    }

    /// Whether the client is too slow to read its response. As long as it reads some of it, the deadline is moved on:
    /// the kernel tells of room for more only when a third of all it holds is read.
    fn is_read_too_slowly(&self, now: u64) -> bool {
        if !self.is_write_blocked() {
            self.pace.all_read();
            return false;
        }
        let acked = || match &self.level {
            Level::Connection(socket) => Some(socket.as_ref()?.tcp_info()?.tcpi_bytes_acked),
            Level::Stream { taken, .. } => Some(taken.load(Ordering::Relaxed)),
        };
        let reading = self.pace.watch_reading(now, acked);
        let deadline = self.deadline.load(Ordering::Relaxed);
        if reading == Reading::Goes && deadline != NO_DEADLINE {
            let later = now.saturating_add(self.allowed.load(Ordering::Relaxed)).max(deadline);
            // A phase that moved it meanwhile wins.
            let _moved = self.deadline.compare_exchange(
                deadline,
                later.min(NO_DEADLINE - 1),
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
        }
        self.pace.slow().is_some()
    }

    /// Whether the connection waits for another request for long enough to be closed where room is needed.
    fn may_go(&self, deadline: u64, now: u64) -> bool {
        self.limits.gate.pressure() == Pressure::High
            && self.idle.load(Ordering::Relaxed)
            && deadline
                < now
                    .saturating_add(millis(self.limits.keepalive_timeout()))
                    .saturating_sub(millis(IDLE_LEAST))
    }

    /// A number that no other connection of this process has, and never 0. Streams have that of their connection.
    pub(super) fn key(&self) -> u64 {
        match self.level {
            Level::Connection(_) => self.id.wrapping_add(1),
            Level::Stream { parent, .. } => parent,
        }
    }

    /// The time by which deadlines are set.
    pub(super) fn time(&self) -> Duration {
        Duration::from_millis(self.limits.now.load(Ordering::Relaxed))
    }

    /// Where its requests come from.
    pub(super) fn origin(&self) -> &Arc<Origin> {
        self.told.get().unwrap_or(&self.seen)
    }

    /// Tells more of where they come from, before the first comes.
    pub(super) fn tell(&self, origin: Origin) {
        self.told.get_or_init(|| Arc::new(origin));
    }

    /// Waits for `work`, unless the deadline is over before. Who waits pins it: here it would be held a second time.
    pub(super) async fn in_time<F: Future + Unpin>(&self, mut work: F) -> Option<F::Output> {
        poll_fn(|cx| {
            if let Poll::Ready(done) = Pin::new(&mut work).poll(cx) {
                return Poll::Ready(Some(done));
            }
            self.waker.register(cx.waker());
            if self.missed_deadline() { Poll::Ready(None) } else { Poll::Pending }
        })
        .await
    }
}

/// All client connections of the process.
#[derive(Debug)]
pub struct Connections {
    limits: Arc<Limits>,
    shards: [Mutex<HashMap<u64, Arc<Connection>>>; SHARDS],
    accepted: AtomicU64,
    open: AtomicUsize,
    /// Connections and streams there ever were.
    numbered: AtomicU64,
}

impl Connections {
    /// A client may take `head_timeout` for the head of a request, and `keepalive_timeout` before it.
    pub fn new(head: HeadLimits, head_timeout: Duration, keepalive_timeout: Duration) -> Self {
        let all = Self {
            limits: Arc::default(),
            shards: Default::default(),
            accepted: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            numbered: AtomicU64::new(0),
        };
        all.limit(head, head_timeout, keepalive_timeout);
        all.limit_requests(None);
        all
    }

    /// Changes what a client may take, from its next request on.
    pub fn limit(&self, head: HeadLimits, head_timeout: Duration, keepalive_timeout: Duration) {
        self.limits.set(head, head_timeout, keepalive_timeout);
    }

    /// Who may connect.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.limits.gate
    }

    /// Allows so many requests on a connection, from its next one on; `None`: any number.
    pub fn limit_requests(&self, limit: Option<u64>) {
        self.limits.requests.store(limit.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Adds what another process accepted before.
    pub fn count_accepted(&self, others: u64) {
        self.accepted.fetch_add(others, Ordering::Relaxed);
    }

    /// How large the head of a request may be.
    pub(super) fn head(&self) -> HeadLimits {
        self.limits.head()
    }

    /// How many streams a client may have at once on a connection of HTTP/2.
    pub(super) fn streams(&self) -> u32 {
        self.limits.streams.load(Ordering::Relaxed)
    }

    /// Changes that, for connections to come.
    pub fn limit_streams(&self, limit: u32) {
        self.limits.streams.store(limit, Ordering::Relaxed);
    }

    /// How many connections were ended for their frames.
    pub fn frame_faults(&self) -> &FrameFaults {
        &self.limits.frame_faults
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Tells every stream to end, and how many have not yet.
    pub fn end_streams(&self) -> usize {
        self.limits.streams_end.store(true, Ordering::Relaxed);
        let held = |connection: &&Arc<Connection>| connection.has_stream.load(Ordering::Relaxed);
        self.shards.iter().map(|shard| lock(shard).values().filter(held).count()).sum()
    }

    /// How many were ever accepted.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Ends every wait whose deadline is over at `now` on the monotonic clock.
    pub fn watch(&self, now: Duration) {
        let now = u64::try_from(now.as_millis()).unwrap_or(NO_DEADLINE - 1);
        self.limits.now.store(now, Ordering::Relaxed);
        let mut unread = Vec::new();
        for shard in &self.shards {
            for connection in lock(shard).values() {
                match connection.is_write_blocked() {
                    // The kernel is asked about these: not while others wait for the lock.
                    true => unread.push(Arc::clone(connection)),
                    false => connection.watch(now),
                }
            }
            unread.drain(..).for_each(|connection| connection.watch(now));
        }
    }

    pub(super) fn add(self: &Arc<Self>, digest: Option<Arc<SocketDigest>>) -> Registered {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        let origin = Arc::new(Origin::of(digest.as_deref()));
        self.register(Level::Connection(digest), origin)
    }

    /// Adds a stream of HTTP/2, which is watched as a connection of its own.
    pub(super) fn add_stream(self: &Arc<Self>, parent: &Connection) -> Registered {
        let level = Level::Stream { taken: AtomicU64::new(0), parent: parent.key() };
        self.register(level, Arc::clone(parent.origin()))
    }

    fn register(self: &Arc<Self>, level: Level, seen: Arc<Origin>) -> Registered {
        let id = self.numbered.fetch_add(1, Ordering::Relaxed);
        let connection = Arc::new(Connection {
            id,
            deadline: AtomicU64::new(NO_DEADLINE),
            waker: AtomicWaker::new(),
            missed_at: AtomicU64::new(NO_DEADLINE),
            stuck: AtomicWaker::new(),
            write_waker: AtomicWaker::new(),
            write_blocked: AtomicBool::new(false),
            patience: AtomicU64::new(0),
            allowed: AtomicU64::new(0),
            pace: Pace::default(),
            requests: AtomicU64::new(0),
            level,
            idle: AtomicBool::new(false),
            stream: Mutex::default(),
            has_stream: AtomicBool::new(false),
            evicted: AtomicBool::new(false),
            tunnel: AtomicBool::new(false),
            fault: OnceLock::new(),
            frame_fault: OnceLock::new(),
            in_block: AtomicBool::new(false),
            limits: Arc::clone(&self.limits),
            seen,
            told: OnceLock::new(),
        });
        lock(self.shard(id)).insert(id, Arc::clone(&connection));
        Registered { all: Arc::clone(self), connection }
    }

    fn shard(&self, id: u64) -> &Mutex<HashMap<u64, Arc<Connection>>> {
        &self.shards[usize::try_from(id).unwrap_or(0) % SHARDS]
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection on the list; off it when dropped.
pub(super) struct Registered {
    all: Arc<Connections>,
    pub(super) connection: Arc<Connection>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        lock(self.all.shard(self.connection.id)).remove(&self.connection.id);
        if !self.connection.is_stream() {
            self.all.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
