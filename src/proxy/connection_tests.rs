//! What the list of connections does with time.

use std::pin::Pin;

use tokio::io::{AsyncRead, ReadBuf};

use super::super::guard::Guard;
use super::super::streaming::Streaming;
use super::super::watched::Watched;
use super::*;

const MINUTE: Duration = Duration::from_secs(60);

/// A connection on the list, and what the other end of it holds.
fn connected(all: &Arc<Connections>) -> (Registered, Watched, tokio::io::DuplexStream) {
    let registered = all.add(None);
    let (ours, theirs) = tokio::io::duplex(64);
    let connection = Arc::clone(&registered.connection);
    connection.begin_request();
    let watched = Watched::new(Box::new(ours), Guard::new(Arc::default()), connection);
    (registered, watched, theirs)
}

fn read(watched: &mut Watched) -> Poll<io::Result<()>> {
    let (mut bytes, mut cx) = ([0; 8], Context::from_waker(Waker::noop()));
    Pin::new(watched).poll_read(&mut cx, &mut ReadBuf::new(&mut bytes))
}

#[test]
fn only_streams_end_when_their_backend_is_to_be_left() {
    let all = Arc::new(Connections::new(HeadLimits::default(), MINUTE, MINUTE));
    let backend = Arc::new(BackendLive::default());
    let (one, mut with_stream, _client) = connected(&all);
    let (other, mut without, _client) = connected(&all);
    let stream = Streaming::new(&backend, Some(Arc::clone(&one.connection)));
    all.watch(MINUTE);
    assert_eq!(backend.streams.read(), 1);
    assert!(read(&mut with_stream).is_pending());
    backend.set_evict(true);
    all.watch(MINUTE);
    // A byte meanwhile moves the deadline on, and changes nothing.
    one.connection.allow(MINUTE);
    assert!(matches!(read(&mut with_stream), Poll::Ready(Err(_))));
    assert!(one.connection.is_evicted() && !other.connection.is_evicted());
    assert!(read(&mut without).is_pending());
    drop(stream);
    assert_eq!(backend.streams.read(), 0);
    assert!(!one.connection.is_evicted(), "what comes after the stream is another matter");
    assert!(read(&mut with_stream).is_pending());
}

#[test]
fn every_stream_ends_with_its_process_and_nothing_else_does() {
    let all = Arc::new(Connections::new(HeadLimits::default(), MINUTE, MINUTE));
    let backend = Arc::new(BackendLive::default());
    let (one, mut with_stream, _client) = connected(&all);
    let (_other, mut without, _client) = connected(&all);
    let stream = Streaming::new(&backend, Some(Arc::clone(&one.connection)));
    all.watch(MINUTE);
    assert!(read(&mut with_stream).is_pending());
    assert_eq!(all.end_streams(), 1);
    all.watch(MINUTE);
    assert!(matches!(read(&mut with_stream), Poll::Ready(Err(_))));
    assert!(read(&mut without).is_pending());
    drop(stream);
    assert_eq!(all.end_streams(), 0);
}

#[test]
fn an_evicted_stream_that_nobody_reads_is_dropped_whole() {
    let all = Arc::new(Connections::new(HeadLimits::default(), MINUTE, MINUTE));
    let backend = Arc::new(BackendLive::default());
    let (one, _watched, _client) = connected(&all);
    let _stream = Streaming::new(&backend, Some(Arc::clone(&one.connection)));
    backend.set_evict(true);
    all.watch(MINUTE);
    assert!(!one.connection.is_stuck());
    all.watch(MINUTE + STUCK + WATCH_INTERVAL);
    assert!(one.connection.is_stuck());
}
