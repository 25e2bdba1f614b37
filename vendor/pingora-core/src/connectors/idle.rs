// Copyright 2026 Cloudflare, Inc.
//
// Licensed under the Apache License, Version 2.0 (the "License");
// you may not use this file except in compliance with the License.
// You may obtain a copy of the License at
//
// http://www.apache.org/licenses/LICENSE-2.0
//
// Unless required by applicable law or agreed to in writing, software
// distributed under the License is distributed on an "AS IS" BASIS,
// WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
// See the License for the specific language governing permissions and
// limitations under the License.

//! Idle upstream streams, kept for reuse and watched without a task for each of them.
//!
//! A released stream is polled once, with a waker of its own: nothing comes of it as long as the
//! server says nothing. If the server closes the stream, the waker puts it on a list, and one task
//! for all streams looks at those on the list, and each second for those that were idle for too long.

use super::{is_reusable, PoolCallback};
use crate::protocols::Stream;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How many locks the streams are spread over, by their keys.
const SHARDS: usize = 16;

/// How often expired streams are looked for. None is reused after its time either way.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

type Shard = HashMap<u64, VecDeque<IdleStream>, ahash::RandomState>;

/// A stream that nobody uses at present.
struct IdleStream {
    stream: Stream,
    /// Tells this time of being idle from all others.
    number: u64,
    since: Instant,
    timeout: Option<Duration>,
    waker: Waker,
}

impl IdleStream {
    fn is_expired(&self, now: Instant) -> bool {
        self.timeout
            .is_some_and(|timeout| now.saturating_duration_since(self.since) >= timeout)
    }
}

/// The streams that became readable while they were idle.
#[derive(Default)]
struct Woken {
    streams: Mutex<Vec<(u64, u64)>>,
    notify: Notify,
}

/// Wakes the task that looks after one idle stream.
struct IdleWaker {
    key: u64,
    number: u64,
    woken: Arc<Woken>,
}

impl Wake for IdleWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.streams.lock().push((self.key, self.number));
        self.woken.notify.notify_one();
    }
}

/// All idle streams of a connector.
pub(crate) struct IdleStreams {
    shards: [Mutex<Shard>; SHARDS],
    /// How many may be idle at once.
    size: usize,
    count: AtomicUsize,
    numbered: AtomicU64,
    woken: Arc<Woken>,
    /// Whether the task that looks after them runs.
    is_watched: Arc<AtomicBool>,
    unexpected_data: Arc<AtomicU64>,
    on_eviction: Option<PoolCallback>,
}

impl IdleStreams {
    pub(crate) fn new(
        size: usize,
        unexpected_data: Arc<AtomicU64>,
        on_eviction: Option<PoolCallback>,
    ) -> Self {
        IdleStreams {
            shards: Default::default(),
            size,
            count: AtomicUsize::new(0),
            numbered: AtomicU64::new(0),
            woken: Arc::default(),
            is_watched: Arc::default(),
            unexpected_data,
            on_eviction,
        }
    }

    /// Takes the stream with this key that was idle for longest, if it can still be used: servers that
    /// close behind a response without saying so have had time to.
    pub(crate) fn take(&self, key: u64) -> Option<Stream> {
        loop {
            let mut idle = self.shard(key).lock().get_mut(&key)?.pop_front()?;
            self.count.fetch_sub(1, Ordering::Relaxed);
            let is_expired = idle.timeout.is_some() && idle.is_expired(Instant::now());
            if !is_expired && is_reusable(&mut idle.stream, Waker::noop(), &self.unexpected_data) {
                return Some(idle.stream);
            }
        }
    }

    /// Keeps a stream for who asks for this key next, for up to `timeout`.
    pub(crate) fn put(self: &Arc<Self>, stream: Stream, key: u64, timeout: Option<Duration>) {
        let number = self.numbered.fetch_add(1, Ordering::Relaxed);
        let woken = self.woken.clone();
        let waker = Waker::from(Arc::new(IdleWaker { key, number, woken }));
        let since = Instant::now();
        let mut idle = IdleStream {
            stream,
            number,
            since,
            timeout,
            waker,
        };
        if self.size == 0 || !self.is_reusable(&mut idle) {
            return;
        }
        if self.count.fetch_add(1, Ordering::Relaxed) >= self.size {
            self.evict(key);
        }
        self.shard(key)
            .lock()
            .entry(key)
            .or_default()
            .push_back(idle);
        if !self.is_watched.load(Ordering::Relaxed) {
            self.watch();
        }
    }

    /// Whether nothing ended the stream. Its waker is woken when something does.
    fn is_reusable(&self, idle: &mut IdleStream) -> bool {
        is_reusable(&mut idle.stream, &idle.waker, &self.unexpected_data)
    }

    fn shard(&self, key: u64) -> &Mutex<Shard> {
        &self.shards[key as usize % SHARDS]
    }

    /// Ends the stream that was idle for longest in the first shard that has one, from that of `key` on.
    fn evict(&self, key: u64) {
        for offset in 0..SHARDS {
            let mut shard = self.shards[(key as usize % SHARDS + offset) % SHARDS].lock();
            let oldest = shard
                .iter()
                .filter_map(|(key, streams)| Some((streams.front()?.since, *key)))
                .min();
            let evicted =
                oldest.and_then(|(_, key)| shard.get_mut(&key).and_then(VecDeque::pop_front));
            drop(shard);
            if let Some(evicted) = evicted {
                self.count.fetch_sub(1, Ordering::Relaxed);
                if let Some(callback) = &self.on_eviction {
                    callback(evicted.since.elapsed());
                }
                return;
            }
        }
    }

    /// Starts the task that looks after the streams, on this runtime.
    fn watch(self: &Arc<Self>) {
        if self.is_watched.swap(true, Ordering::AcqRel) {
            return;
        }
        let watched = Watched(self.is_watched.clone());
        let watch = watch(Arc::downgrade(self), self.woken.clone(), watched);
        pingora_runtime::current_handle().spawn(watch);
    }

    /// Ends the streams that became readable.
    fn end_woken(&self) {
        let woken = std::mem::take(&mut *self.woken.streams.lock());
        for (key, number) in woken {
            let mut shard = self.shard(key).lock();
            let Some(streams) = shard.get_mut(&key) else {
                continue;
            };
            // One that is not here was taken meanwhile.
            let Some(place) = streams.iter().position(|idle| idle.number == number) else {
                continue;
            };
            if !self.is_reusable(&mut streams[place]) {
                let ended = streams.remove(place);
                drop(shard);
                self.count.fetch_sub(1, Ordering::Relaxed);
                drop(ended);
            }
        }
    }

    /// Ends the streams that were idle for too long, and forgets keys without any.
    fn end_expired(&self) {
        let now = Instant::now();
        for shard in &self.shards {
            let mut ended = Vec::new();
            shard.lock().retain(|_, streams| {
                if streams.iter().any(|idle| idle.is_expired(now)) {
                    let (expired, kept): (VecDeque<_>, VecDeque<_>) =
                        streams.drain(..).partition(|idle| idle.is_expired(now));
                    ended.extend(expired);
                    *streams = kept;
                }
                !streams.is_empty()
            });
            self.count.fetch_sub(ended.len(), Ordering::Relaxed);
        }
    }
}

/// Says that the task runs, until it is dropped, with its runtime if need be.
struct Watched(Arc<AtomicBool>);

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

async fn watch(idle: Weak<IdleStreams>, woken: Arc<Woken>, _watched: Watched) {
    let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let is_sweep = tokio::select! {
            () = woken.notify.notified() => false,
            _ = sweep.tick() => true,
        };
        let Some(idle) = idle.upgrade() else {
            return;
        };
        idle.end_woken();
        if is_sweep {
            idle.end_expired();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocols::l4::stream::Stream as L4Stream;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    async fn pair() -> (Stream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (server, _) = listener.accept().await.unwrap();
        (Box::new(L4Stream::from(client)), server)
    }

    fn streams(size: usize) -> Arc<IdleStreams> {
        Arc::new(IdleStreams::new(size, Arc::default(), None))
    }

    async fn until(condition: impl Fn() -> bool) {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn the_first_released_is_taken_first() {
        let idle = streams(8);
        let (first, _server1) = pair().await;
        let (second, _server2) = pair().await;
        let (first_id, second_id) = (first.id(), second.id());
        idle.put(first, 1, None);
        idle.put(second, 1, None);
        assert!(idle.take(2).is_none());
        assert_eq!(idle.take(1).unwrap().id(), first_id);
        assert_eq!(idle.take(1).unwrap().id(), second_id);
        assert!(idle.take(1).is_none());
        assert_eq!(idle.count.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_stream_that_the_server_closes_is_dropped_without_being_asked_for() {
        let idle = streams(8);
        let (stream, server) = pair().await;
        idle.put(stream, 1, None);
        drop(server);
        until(|| idle.count.load(Ordering::Relaxed) == 0).await;
        assert!(idle.take(1).is_none());
    }

    #[tokio::test]
    async fn a_stream_on_which_the_server_speaks_unasked_is_not_reused() {
        let idle = streams(8);
        let (stream, mut server) = pair().await;
        idle.put(stream, 1, None);
        server.write_all(b"x").await.unwrap();
        until(|| idle.count.load(Ordering::Relaxed) == 0).await;
    }

    #[tokio::test]
    async fn an_expired_stream_is_neither_reused_nor_kept() {
        let idle = streams(8);
        let (taken, _server1) = pair().await;
        let (swept, _server2) = pair().await;
        idle.put(taken, 1, Some(Duration::ZERO));
        assert!(idle.take(1).is_none());
        idle.put(swept, 1, Some(Duration::from_millis(1)));
        until(|| idle.count.load(Ordering::Relaxed) == 0).await;
    }

    #[tokio::test]
    async fn a_reused_stream_is_watched_anew_when_it_comes_back() {
        let idle = streams(8);
        let (stream, server) = pair().await;
        idle.put(stream, 1, None);
        let stream = idle.take(1).unwrap();
        idle.put(stream, 1, None);
        drop(server);
        until(|| idle.count.load(Ordering::Relaxed) == 0).await;
    }

    #[tokio::test]
    async fn the_longest_idle_gives_way_when_there_are_too_many() {
        let evicted = Arc::new(AtomicUsize::new(0));
        let count = evicted.clone();
        let callback: PoolCallback = Arc::new(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let idle = Arc::new(IdleStreams::new(1, Arc::default(), Some(callback)));
        let (first, _server1) = pair().await;
        let (second, _server2) = pair().await;
        let second_id = second.id();
        idle.put(first, 1, None);
        idle.put(second, 18, None);
        assert_eq!(evicted.load(Ordering::Relaxed), 1);
        assert!(idle.take(1).is_none());
        assert_eq!(idle.take(18).unwrap().id(), second_id);
    }
}
