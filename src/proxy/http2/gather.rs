//! What is written to a client over HTTP/2, gathered. The crate `h2` writes and flushes every frame of a body by
//! itself, which makes a system call and a record of TLS of each; here all frames of a turn go together.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use pingora::protocols::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much is gathered before it is written, in bytes: what one system call takes, and four whole records of TLS.
const GATHERED_MAX: usize = 64 * 1024;

/// How much room is made first, and kept while there is nothing to write, in bytes: some small responses.
const KEPT: usize = 4 * 1024;

/// A connection as `h2` gets it, and who flushes it. Both are one task: the lock is free whenever it is taken.
#[derive(Clone, Debug)]
pub(super) struct Gathered(Arc<Mutex<Gathering>>);

#[derive(Debug)]
struct Gathering {
    stream: Stream,
    held: Vec<u8>,
    /// How much of that was written.
    written: usize,
    /// Whether a flush may wait for the end of the turn.
    by_turns: bool,
}

impl Gathered {
    /// Writes to `stream`, and flushes when it is asked to, until [`Gathered::by_turns`].
    pub(super) fn new(stream: Stream) -> Self {
        let held = Vec::new();
        Self(Arc::new(Mutex::new(Gathering { stream, held, written: 0, by_turns: false })))
    }

    /// From here on, only [`Gathered::poll_turn`] flushes.
    pub(super) fn by_turns(&self) {
        self.lock().by_turns = true;
    }

    /// Ends a turn: all that was written goes to the client.
    pub(super) fn poll_turn(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lock().poll_flush(cx)
    }

    fn lock(&self) -> MutexGuard<'_, Gathering> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gathering {
    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.held.len() {
            let rest = &self.held[self.written..];
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
                count => self.written += count,
            }
        }
        self.written = 0;
        self.held.clear();
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_written(cx))?;
        if self.held.capacity() > KEPT {
            self.held = Vec::new();
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Gathers what there is room for, and makes room when there is none.
    fn poll_gather(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.held.len() >= GATHERED_MAX {
            ready!(self.poll_written(cx))?;
        }
        let before = self.held.len();
        let wanted = before + bufs.iter().map(|buf| buf.len()).sum::<usize>();
        if wanted > self.held.capacity() {
            let room = if wanted <= KEPT { KEPT } else { GATHERED_MAX };
            self.held.reserve_exact(room - before);
        }
        for buf in bufs {
            let count = buf.len().min(GATHERED_MAX - self.held.len());
            self.held.extend_from_slice(&buf[..count]);
        }
        Poll::Ready(Ok(self.held.len() - before))
    }
}

impl AsyncRead for Gathered {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.lock().stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Gathered {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.lock().poll_gather(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.lock().poll_gather(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gathering = self.lock();
        if gathering.by_turns { Poll::Ready(Ok(())) } else { gathering.poll_flush(cx) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gathering = self.lock();
        ready!(gathering.poll_flush(cx))?;
        Pin::new(&mut gathering.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::{DuplexStream, duplex};

    use super::*;

    fn gathered(client_holds: usize) -> (Gathered, DuplexStream) {
        let (server, client) = duplex(client_holds);
        (Gathered::new(Box::new(server)), client)
    }

    fn write(gathered: &mut Gathered, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(gathered).poll_write(&mut Context::from_waker(Waker::noop()), bytes)
    }

    fn flush(gathered: &mut Gathered) -> bool {
        let flushed = Pin::new(gathered).poll_flush(&mut Context::from_waker(Waker::noop()));
        matches!(flushed, Poll::Ready(Ok(())))
    }

    fn end_turn(gathered: &Gathered) -> bool {
        let ended = gathered.poll_turn(&mut Context::from_waker(Waker::noop()));
        matches!(ended, Poll::Ready(Ok(())))
    }

    /// What the client can read now.
    fn read(client: &mut DuplexStream) -> Vec<u8> {
        let mut bytes = vec![0; 2 * GATHERED_MAX];
        let mut buf = ReadBuf::new(&mut bytes);
        let polled = Pin::new(client).poll_read(&mut Context::from_waker(Waker::noop()), &mut buf);
        assert!(!matches!(polled, Poll::Ready(Err(_))), "{polled:?}");
        buf.filled().to_vec()
    }

    #[test]
    fn what_is_written_in_a_turn_goes_to_the_client_at_its_end() {
        let (mut gathered, mut client) = gathered(GATHERED_MAX);
        gathered.by_turns();
        for frame in [&b"head"[..], b"body"] {
            assert!(write(&mut gathered, frame).is_ready());
            assert!(flush(&mut gathered));
            assert_eq!(read(&mut client), b"");
        }
        assert!(end_turn(&gathered));
        assert_eq!(read(&mut client), b"headbody");
        assert!(end_turn(&gathered), "nothing to write");
        assert_eq!(read(&mut client), b"");
    }

    #[test]
    fn before_there_are_turns_a_flush_is_one() {
        let (mut gathered, mut client) = gathered(GATHERED_MAX);
        assert!(write(&mut gathered, b"settings").is_ready());
        assert!(flush(&mut gathered));
        assert_eq!(read(&mut client), b"settings");
    }

    #[test]
    fn no_more_is_held_for_a_client_that_reads_nothing_than_the_limit() {
        const CLIENT: usize = 1000;
        let (mut gathered, mut client) = gathered(CLIENT);
        gathered.by_turns();
        let all: Vec<u8> = (0..=u8::MAX).cycle().take(3 * GATHERED_MAX).collect();
        let mut taken = 0;
        while let Poll::Ready(count) = write(&mut gathered, &all[taken..]) {
            taken += count.unwrap();
        }
        assert_eq!(taken, GATHERED_MAX);
        assert!(!end_turn(&gathered));
        let mut came = Vec::new();
        while came.len() < taken {
            let some = read(&mut client);
            assert!(!some.is_empty());
            came.extend(some);
            let _more_to_come = end_turn(&gathered);
        }
        assert!(came == all[..taken], "as it was written");
        assert!(end_turn(&gathered));
    }
}
