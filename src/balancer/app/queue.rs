//! Places for requests at a backend, and the queue of those that wait for one: first come, first served.
//!
//! Who finds a place takes it with one atomic step. Only who has to wait, and who leaves while somebody waits, takes a
//! lock. Nobody overtakes: as long as somebody waits, a place that becomes free is for the first of them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use super::live::BackendLive;

/// The requests that wait for a place at one backend.
#[derive(Debug, Default)]
pub struct Queue {
    /// How many there are: what is asked without a lock.
    waiting: AtomicUsize,
    tickets: AtomicU64,
    line: Mutex<VecDeque<Waiter>>,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    /// Whom to wake when it is the first and a place is free; `None`: it has not asked yet.
    waker: Option<Waker>,
}

impl Queue {
    /// How many requests wait.
    pub fn len(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Wakes the first in line, if there is one: a place may be free.
    pub fn wake(&self) {
        if !self.is_empty() {
            wake_first(&self.lock());
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Waiter>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake_first(line: &VecDeque<Waiter>) {
    if let Some(waker) = line.front().and_then(|first| first.waker.as_ref()) {
        waker.wake_by_ref();
    }
}

/// A request in flight of a backend, counted for as long as this value lives.
#[derive(Debug)]
pub struct Place(Arc<BackendLive>);

impl Place {
    /// Takes a place, whatever the limit.
    pub fn take(backend: &Arc<BackendLive>) -> Self {
        backend.in_flight.add(1);
        Self(Arc::clone(backend))
    }

    /// Takes a place if the backend has less than `limit` requests in flight, streams not counted, and nobody waits.
    pub fn take_below(backend: &Arc<BackendLive>, limit: u64) -> Option<Self> {
        if backend.queue.is_empty() { Self::next(backend, limit) } else { None }
    }

    fn next(backend: &Arc<BackendLive>, limit: u64) -> Option<Self> {
        let taken = backend.in_flight.add_below(limit, &backend.streams);
        taken.then(|| Self(Arc::clone(backend)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.in_flight.subtract(1);
        self.0.queue.wake();
    }
}

/// A turn in the queue of a backend; given up when dropped.
#[derive(Debug)]
pub struct Ticket {
    backend: Arc<BackendLive>,
    number: u64,
}

impl Ticket {
    /// Goes to the end of the queue, unless `most` wait already.
    pub fn draw(backend: &Arc<BackendLive>, most: usize) -> Option<Self> {
        let queue = &backend.queue;
        let mut line = queue.lock();
        if line.len() >= most {
            return None;
        }
        let number = queue.tickets.fetch_add(1, Ordering::Relaxed);
        line.push_back(Waiter { ticket: number, waker: None });
        queue.waiting.store(line.len(), Ordering::SeqCst);
        Some(Self { backend: Arc::clone(backend), number })
    }

    /// Whether it is for the queue of this backend.
    pub fn is_for(&self, backend: &Arc<BackendLive>) -> bool {
        Arc::ptr_eq(&self.backend, backend)
    }

    /// Takes a place when it is the turn of this one and the backend has less than `limit` requests in flight;
    /// else wakes `waker` when that may be so. To be asked no more when it has a place.
    pub fn poll(&self, waker: &Waker, limit: u64) -> Poll<Place> {
        let mut line = self.backend.queue.lock();
        let Some(index) = line.iter().position(|waiter| waiter.ticket == self.number) else {
            return Poll::Pending;
        };
        // Noted before the last look: who leaves after it wakes us.
        line[index].waker = Some(waker.clone());
        let place = if index == 0 { Place::next(&self.backend, limit) } else { None };
        let Some(place) = place else { return Poll::Pending };
        line.pop_front();
        self.backend.queue.waiting.store(line.len(), Ordering::SeqCst);
        // There may be another place.
        wake_first(&line);
        drop(line);
        Poll::Ready(place)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let queue = &self.backend.queue;
        let mut line = queue.lock();
        if let Some(index) = line.iter().position(|waiter| waiter.ticket == self.number) {
            line.remove(index);
            queue.waiting.store(line.len(), Ordering::SeqCst);
            wake_first(&line);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Wake;

    use super::*;

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Woken {
        fn read(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    /// One that waits, and what it is woken by.
    fn waiter(backend: &Arc<BackendLive>) -> (Ticket, Arc<Woken>, Waker) {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        (Ticket::draw(backend, 9).unwrap(), woken, waker)
    }

    #[test]
    fn who_came_first_is_served_first() {
        let backend = Arc::new(BackendLive::default());
        let held = Place::take_below(&backend, 1).unwrap();
        assert!(Place::take_below(&backend, 1).is_none());
        let (one, one_woken, one_waker) = waiter(&backend);
        let (two, two_woken, two_waker) = waiter(&backend);
        assert!(two.poll(&two_waker, 1).is_pending());
        assert!(one.poll(&one_waker, 1).is_pending());
        drop(held);
        assert_eq!((one_woken.read(), two_woken.read()), (1, 0));
        assert!(Place::take_below(&backend, 1).is_none(), "nobody overtakes who waits");
        assert!(two.poll(&two_waker, 1).is_pending(), "not its turn");
        let Poll::Ready(place) = one.poll(&one_waker, 1) else { panic!("it is its turn") };
        assert!(two.poll(&two_waker, 1).is_pending());
        drop((one, place));
        assert!(two_woken.read() > 0);
        assert!(two.poll(&two_waker, 1).is_ready());
    }

    #[test]
    fn who_leaves_the_queue_lets_the_next_one_go_ahead() {
        let backend = Arc::new(BackendLive::default());
        let held = Place::take(&backend);
        let (one, _, one_waker) = waiter(&backend);
        let (two, two_woken, two_waker) = waiter(&backend);
        assert!(one.poll(&one_waker, 1).is_pending());
        assert!(two.poll(&two_waker, 1).is_pending());
        drop(held);
        drop(one);
        assert_eq!(two_woken.read(), 1);
        assert!(two.poll(&two_waker, 1).is_ready());
        assert!(backend.queue.is_empty());
    }

    #[test]
    fn a_queue_takes_no_more_than_it_may() {
        let backend = Arc::new(BackendLive::default());
        let first = Ticket::draw(&backend, 1).unwrap();
        assert!(Ticket::draw(&backend, 1).is_none());
        drop(first);
        assert!(Ticket::draw(&backend, 1).is_some());
        assert!(Ticket::draw(&backend, 0).is_none());
    }

    #[test]
    fn streams_hold_no_place() {
        let backend = Arc::new(BackendLive::default());
        let _stream = Place::take_below(&backend, 1).unwrap();
        let (one, one_woken, one_waker) = waiter(&backend);
        assert!(one.poll(&one_waker, 1).is_pending());
        let _open = backend.begin_stream();
        assert_eq!(one_woken.read(), 1);
        assert!(one.poll(&one_waker, 1).is_ready());
    }

    #[test]
    fn a_limit_that_was_raised_lets_several_go_at_once() {
        let backend = Arc::new(BackendLive::default());
        let _held = Place::take(&backend);
        let waiters = [waiter(&backend), waiter(&backend)];
        assert!(waiters.iter().all(|(ticket, _, waker)| ticket.poll(waker, 1).is_pending()));
        let [(one, _, one_waker), (two, two_woken, two_waker)] = waiters;
        let _first = one.poll(&one_waker, 3);
        assert!(two_woken.read() > 0, "the next one is woken, since there may be more");
        let _second = two.poll(&two_waker, 3);
        assert_eq!((backend.in_flight.read(), backend.queue.len()), (3, 0));
    }

    #[test]
    fn many_threads_never_exceed_the_limit_and_all_are_served() {
        const LIMIT: u64 = 3;
        let backend = Arc::new(BackendLive::default());
        let served = AtomicUsize::new(0);
        let serve = || {
            for _ in 0..500 {
                let place = Place::take_below(&backend, LIMIT).unwrap_or_else(|| {
                    let waker = Waker::from(Arc::new(Parked(std::thread::current())));
                    let ticket = Ticket::draw(&backend, 100).unwrap();
                    loop {
                        match ticket.poll(&waker, LIMIT) {
                            Poll::Ready(place) => break place,
                            // A wake-up that got lost would end the test here.
                            Poll::Pending => {
                                std::thread::park_timeout(std::time::Duration::from_secs(60));
                            }
                        }
                    }
                });
                assert!(backend.in_flight.read() <= LIMIT);
                std::thread::yield_now();
                drop(place);
                served.fetch_add(1, Ordering::Relaxed);
            }
        };
        std::thread::scope(|scope| (0..8).for_each(|_| drop(scope.spawn(serve))));
        assert_eq!(served.load(Ordering::Relaxed), 4000);
        assert_eq!((backend.in_flight.read(), backend.queue.len()), (0, 0));
    }

    struct Parked(std::thread::Thread);

    impl Wake for Parked {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
}
