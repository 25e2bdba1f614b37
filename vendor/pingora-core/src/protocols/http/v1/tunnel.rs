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

//! Both ways of a connection that was upgraded on both sides

use bytes::{Buf, Bytes, BytesMut};
use pingora_error::{Error, ErrorType::*, OrErr, Result};
use std::cell::RefCell;
use std::future::{poll_fn, Future};
use std::io;
use std::pin::Pin;
use std::task::{ready, Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{sleep, Instant, Sleep};

use super::body::{BODY_BUFFER_SIZE, TAKE_BODY_MIN};
use super::client::HttpSession as Upstream;
use super::server::HttpSession as Downstream;
use crate::protocols::Stream;

thread_local! {
    /// What is read into, by whichever connection has something to read: one that waits holds no buffer.
    static READ_BUF: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// Who says something in a [`Tunnel`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    Downstream,
    Upstream,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Side::Downstream => Side::Upstream,
            Side::Upstream => Side::Downstream,
        }
    }
}

/// Both ways of a connection that was upgraded on both sides.
///
/// Both are read and written at once: a side that does not read what is said to it is not heard meanwhile by who
/// says it, but can still speak itself.
#[derive(Debug)]
pub struct Tunnel {
    to_upstream: Way,
    to_downstream: Way,
    // what was read along with the heads
    early_downstream: Option<Bytes>,
    early_upstream: Option<Bytes>,
    // who is heard first if both speak
    first: Side,
    // and whose it is
    read_timeout: Option<(Duration, Side)>,
    // runs since nothing was said, and nothing was left to write
    quiet: Option<Pin<Box<Sleep>>>,
    is_quiet: bool,
}

impl Tunnel {
    /// Takes over from sessions that both were upgraded.
    pub fn new(downstream: &mut Downstream, upstream: &mut Upstream) -> Self {
        upstream.maybe_upgrade_body_writer();
        Tunnel {
            to_upstream: Way::new(upstream.write_timeout),
            to_downstream: Way::new(None),
            early_downstream: downstream.take_rewound_body(),
            early_upstream: upstream.take_rewound_body(),
            first: Side::Downstream,
            read_timeout: [
                (downstream.get_read_timeout(), Side::Downstream),
                (upstream.read_timeout, Side::Upstream),
            ]
            .into_iter()
            .filter_map(|(limit, side)| Some((limit?, side)))
            .min_by_key(|(limit, _)| *limit),
            quiet: None,
            is_quiet: false,
        }
    }

    /// Writes what is on its way, and waits for what is said next, and by whom. `None`: that side says no more.
    ///
    /// After an error of writing upstream what downstream says is thrown away, and what upstream still says is heard;
    /// the error is returned when reading upstream fails too. The timeout for reads is over when neither side said
    /// anything for so long, and took all that was said to it; that for writes, when one did not take what was said.
    pub async fn hear(
        &mut self,
        downstream: &mut Downstream,
        upstream: &mut Upstream,
    ) -> Result<(Side, Option<Bytes>)> {
        poll_fn(|cx| self.poll_hear(downstream, upstream, cx)).await
    }

    /// Sends what one side said to the other, with the next [`Self::hear`].
    pub fn hand_on(&mut self, said_by: Side, data: Bytes) {
        match said_by {
            Side::Downstream => self.to_upstream.send(data),
            Side::Upstream => self.to_downstream.send(data),
        }
    }

    /// Writes what is on its way to the side that did not say that it `ended`. What is on its way to the one that did
    /// is left.
    pub async fn finish(
        &mut self,
        downstream: &mut Downstream,
        upstream: &mut Upstream,
        ended: Side,
    ) -> Result<()> {
        poll_fn(|cx| match ended {
            Side::Downstream => self.poll_send_upstream(upstream, cx),
            Side::Upstream => self.poll_send_downstream(downstream, cx),
        })
        .await
    }

    /// Whether upstream took all that was said to it.
    pub fn is_upstream_clear(&self) -> bool {
        self.to_upstream.is_clear() && self.to_upstream.failed.is_none()
    }

    fn poll_hear(
        &mut self,
        downstream: &mut Downstream,
        upstream: &mut Upstream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(Side, Option<Bytes>)>> {
        let sent_upstream = match self.poll_send_upstream(upstream, cx) {
            Poll::Ready(sent) => sent.map(|()| true)?,
            Poll::Pending => false,
        };
        let sent_downstream = match self.poll_send_downstream(downstream, cx) {
            Poll::Ready(sent) => sent.map(|()| true)?,
            Poll::Pending => false,
        };
        for side in [self.first, self.first.other()] {
            // One who does not take what is said is why the other is not heard.
            let heard = match side {
                Side::Downstream if sent_upstream => self.poll_hear_downstream(downstream, cx),
                Side::Upstream if sent_downstream => self.poll_hear_upstream(upstream, cx),
                Side::Downstream | Side::Upstream => Poll::Pending,
            };
            if let Poll::Ready(data) = heard {
                self.first = side.other();
                self.is_quiet = false;
                let data = data?;
                return Poll::Ready(Ok((side, (!data.is_empty()).then_some(data))));
            }
        }
        self.poll_quiet(sent_upstream && sent_downstream, cx)
            .map(Err)
    }

    /// Waits until nothing was said for too long.
    fn poll_quiet(&mut self, is_quiet: bool, cx: &mut Context<'_>) -> Poll<Box<Error>> {
        let begins = is_quiet && !self.is_quiet;
        self.is_quiet = is_quiet;
        let Some((limit, side)) = self.read_timeout.filter(|_| is_quiet) else {
            return Poll::Pending;
        };
        let quiet = self.quiet.get_or_insert_with(|| Box::pin(sleep(limit)));
        if begins {
            quiet.as_mut().reset(Instant::now() + limit);
        }
        ready!(quiet.as_mut().poll(cx));
        let e = Error::explain(
            ReadTimedout,
            format!("reading upgraded, timeout: {limit:?}"),
        );
        Poll::Ready(match side {
            Side::Downstream => e.into_down(),
            Side::Upstream => e.into_up(),
        })
    }

    fn poll_hear_downstream(
        &mut self,
        downstream: &mut Downstream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Bytes>> {
        if let Some(early) = self.early_downstream.take() {
            return Poll::Ready(Ok(early));
        }
        loop {
            let read = ready!(poll_read(&mut downstream.underlying_stream, cx));
            if let Ok(data) = &read {
                downstream.note_upgraded_read(data.len());
                if self.to_upstream.failed.is_some() && !data.is_empty() {
                    continue;
                }
            }
            let read = read.or_err(ReadError, "reading upgraded downstream");
            return Poll::Ready(read.map_err(|e| e.into_down()));
        }
    }

    fn poll_hear_upstream(
        &mut self,
        upstream: &mut Upstream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Bytes>> {
        if let Some(early) = self.early_upstream.take() {
            return Poll::Ready(Ok(early));
        }
        let read = ready!(poll_read(&mut upstream.underlying_stream, cx));
        if let Ok(data) = &read {
            upstream.note_upgraded_read(data.len());
        }
        let read = read.or_err(ReadError, "reading upgraded upstream");
        Poll::Ready(read.map_err(|e| self.to_upstream.failed.take().unwrap_or(e).into_up()))
    }

    /// An error other than a timeout shows when upstream is read.
    fn poll_send_upstream(
        &mut self,
        upstream: &mut Upstream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<()>> {
        let way = &mut self.to_upstream;
        if way.is_clear() {
            return Poll::Ready(Ok(()));
        }
        let before = way.left.len();
        let sent = way.poll_send(&mut upstream.underlying_stream, cx);
        upstream.note_upgraded_sent(before - way.left.len());
        match ready!(sent) {
            Err(e) if *e.etype() != WriteTimedout => {
                *way = Way::new(None);
                way.failed = Some(e);
                Poll::Ready(Ok(()))
            }
            sent => Poll::Ready(sent.map_err(|e| e.into_up())),
        }
    }

    fn poll_send_downstream(
        &mut self,
        downstream: &mut Downstream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<()>> {
        let way = &mut self.to_downstream;
        if way.is_clear() {
            return Poll::Ready(Ok(()));
        }
        let before = way.left.len();
        if way.blocked.is_none() {
            way.timeout = downstream.write_timeout(before);
        }
        let sent = way.poll_send(&mut downstream.underlying_stream, cx);
        downstream.note_upgraded_sent(before - way.left.len());
        sent.map_err(|e| e.into_down())
    }
}

/// What is on its way to one side.
#[derive(Debug)]
struct Way {
    left: Bytes,
    unflushed: bool,
    timeout: Option<Duration>,
    // since not all was taken
    blocked: Option<Pin<Box<Sleep>>>,
    failed: Option<Box<Error>>,
}

impl Way {
    fn new(timeout: Option<Duration>) -> Self {
        Way {
            left: Bytes::new(),
            unflushed: false,
            timeout,
            blocked: None,
            failed: None,
        }
    }

    fn is_clear(&self) -> bool {
        self.left.is_empty() && !self.unflushed
    }

    fn send(&mut self, data: Bytes) {
        if self.failed.is_none() {
            self.left = data;
        }
    }

    fn poll_send(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let sent = self.poll_write(stream, cx);
        if sent.is_ready() {
            self.blocked = None;
        } else if let Some(limit) = self.timeout {
            let blocked = self.blocked.get_or_insert_with(|| Box::pin(sleep(limit)));
            ready!(blocked.as_mut().poll(cx));
            return Poll::Ready(Error::e_explain(
                WriteTimedout,
                format!("writing upgraded, timeout: {limit:?}"),
            ));
        }
        sent.map(|sent| sent.or_err(WriteError, "writing upgraded"))
    }

    fn poll_write(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.left.is_empty() {
            let n = ready!(Pin::new(&mut *stream).poll_write(cx, &self.left))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            if n == self.left.len() {
                self.left = Bytes::new();
            } else {
                self.left.advance(n);
            }
        }
        ready!(Pin::new(stream).poll_flush(cx))?;
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }
}

/// Reads what there is. Nothing: the end.
fn poll_read(stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
    READ_BUF.with_borrow_mut(|held| {
        held.clear();
        held.reserve(BODY_BUFFER_SIZE);
        let mut buf = ReadBuf::uninit(held.spare_capacity_mut());
        ready!(Pin::new(stream).poll_read(cx, &mut buf))?;
        let filled = buf.filled();
        let size = filled.len();
        if size < TAKE_BODY_MIN {
            return Poll::Ready(Ok(Bytes::copy_from_slice(filled)));
        }
        // Safety: so many bytes of the spare capacity were filled
        unsafe { held.set_len(size) };
        Poll::Ready(Ok(held.split().freeze()))
    })
}
