//! The frames of HTTP/2 on their way to who serves them: each is looked at (`crate::wire::frame`) before it is handed
//! on, and the first that is none, or one too many, ends its connection with the code of the RFC.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use pingora::protocols::Stream;
use tokio::io::{AsyncRead, ReadBuf};
use tracing::debug;

use super::connection::Connection;
use crate::wire::frame::{FrameFault, FrameLimits, FrameReader};

/// The label of connections that are ended for what the crate `h2` found.
const FOUND_BY_H2: &str = "h2";

/// How many connections were ended for their frames.
#[derive(Debug, Default)]
pub struct FrameFaults {
    by_fault: [AtomicU64; FrameFault::ALL.len()],
    by_h2: AtomicU64,
}

impl FrameFaults {
    /// Counts one that ends for this.
    pub(super) fn count(&self, fault: FrameFault) {
        self.by_fault[fault as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one that ends for what the crate `h2` found.
    pub(super) fn count_h2(&self) {
        self.by_h2.fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were of each kind, by label.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let ours =
            FrameFault::ALL.iter().map(|fault| (fault.as_str(), &self.by_fault[*fault as usize]));
        let all = ours.chain([(FOUND_BY_H2, &self.by_h2)]);
        all.map(|(label, count)| (label, count.load(Ordering::Relaxed)))
    }

    /// Adds those of a process before this one.
    pub fn add(&self, counts: &BTreeMap<String, u64>) {
        let read = |label: &str| counts.get(label).copied().unwrap_or_default();
        for fault in FrameFault::ALL {
            self.by_fault[fault as usize].fetch_add(read(fault.as_str()), Ordering::Relaxed);
        }
        self.by_h2.fetch_add(read(FOUND_BY_H2), Ordering::Relaxed);
    }
}

impl Connection {
    /// Notes what its frames are wrong in. The first fault counts.
    fn break_off(&self, fault: FrameFault) {
        self.frame_fault.get_or_init(|| {
            self.limits.frame_faults.count(fault);
            fault
        });
    }

    /// What its frames are wrong in, if they are.
    pub(super) fn frame_fault(&self) -> Option<FrameFault> {
        self.frame_fault.get().copied()
    }

    /// Whether the head of a request was begun that is not whole yet.
    pub(super) fn is_in_block(&self) -> bool {
        self.in_block.load(Ordering::Relaxed)
    }

    /// Notes that it ends for what the crate `h2` found.
    pub(super) fn end_for_h2(&self) {
        self.limits.frame_faults.count_h2();
    }
}

/// Looks at the frames of one connection.
#[derive(Debug)]
pub(super) struct Frames {
    reader: FrameReader,
    is_broken: bool,
}

impl Frames {
    /// For a connection that just began.
    pub(super) fn new(connection: &Connection) -> Self {
        let reader = FrameReader::new(FrameLimits::default(), connection.limits.time());
        Self { reader, is_broken: false }
    }

    /// Counts what was sent to the client.
    pub(super) fn note_sent(&mut self, bytes: usize) {
        self.reader.note_sent(bytes);
    }

    /// Whether a fault was found.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Reads into `buf` what may be handed on. After a fault that is nothing, and who serves the connection finds the
    /// fault there.
    pub(super) fn poll_read(
        &mut self,
        stream: &mut Stream,
        connection: &Connection,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_broken {
            return Poll::Pending;
        }
        let start = buf.filled().len();
        ready!(Pin::new(stream).poll_read(cx, buf))?;
        let read = self.reader.read(&buf.filled()[start..], || connection.limits.time());
        let Err(broken) = read else {
            connection.in_block.store(self.reader.is_in_block(), Ordering::Relaxed);
            return Poll::Ready(Ok(()));
        };
        buf.set_filled(start + broken.good);
        self.is_broken = true;
        connection.break_off(broken.fault);
        debug!(
            client = connection.origin().client.map(tracing::field::display),
            fault = broken.fault.as_str(),
            "the frames of a connection end it",
        );
        if broken.fault == FrameFault::Preface {
            // Nobody serves the connection yet who could say it.
            Poll::Ready(Err(io::ErrorKind::InvalidData.into()))
        } else if broken.good > 0 {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_of_faults_is_handed_over_by_label() {
        let (before, after) = (FrameFaults::default(), FrameFaults::default());
        for (number, fault) in FrameFault::ALL.into_iter().enumerate() {
            assert_eq!(fault as usize, number, "{fault:?}");
            (0..=number).for_each(|_| before.count(fault));
        }
        before.count_h2();
        let told = before.counts().map(|(label, count)| (label.to_owned(), count)).collect();
        after.add(&told);
        assert!(after.counts().eq(before.counts()));
        assert_eq!(after.counts().map(|(_, count)| count).sum::<u64>(), 19 * 20 / 2 + 1);
    }
}
