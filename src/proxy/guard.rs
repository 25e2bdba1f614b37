//! What a client sends, on its way to Pingora: one request at a time, each read strictly (`crate::wire`) before
//! Pingora sees a byte of it.
//!
//! A head is handed on when it is complete and good, a body as far as it goes; what comes after it is kept until
//! Pingora asks for the next request. A head that is refused is replaced by what is known of it
//! ([`Known`]), so that its page, its line in the log and its counters are made where all others are.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use pingora::protocols::Stream;
use tokio::io::{AsyncRead, ReadBuf};

use super::connection::Connection;
use super::frames::Frames;
use crate::shared::Published;
use crate::wire::chunk::ChunkReader;
use crate::wire::fault::{Fault, Lenient};
use crate::wire::head::{Body, HeadReader};
use crate::wire::known::Known;

/// How much of the next requests is read while one is served: enough for those who send several at once, and to
/// notice that a client left. The rest waits in the kernel.
const AHEAD_MAX: usize = 16 * 1024;

/// How much is read at once into the guard's own hands.
const READ_SIZE: usize = 1024;

/// How much is read and thrown away of a client that still sends when it was told to stop, in bytes. Without it,
/// the kernel resets the connection, and the client may never read why.
const LINGER_BYTES: usize = 1024 * 1024;

/// What comes next from a client.
#[derive(Debug)]
enum State {
    /// Nothing of the present request; another may follow when its turn comes.
    Between,
    /// The rest of a body in chunks.
    Chunks(ChunkReader),
    /// The head of a request.
    Head(HeadReader),
    /// Frames, which are looked at and handed on.
    Http2(Box<Frames>),
    /// So many bytes of a body.
    Length(u64),
    /// Nothing that is read: the request was refused.
    Refused,
    /// Whatever both sides agreed on.
    Tunnel,
}

/// Reads for Pingora.
#[derive(Debug)]
pub(super) struct Guard {
    published: Arc<Published>,
    state: State,
    /// What was read and not handed on.
    held: BytesMut,
    /// How much of that may be handed on as it is.
    checked: usize,
    /// The request that is read at present, by its number on the connection.
    turn: u64,
    /// Whether the request that is read or served was sent before the one before it had its answer.
    came_ahead: bool,
    /// Whether the client said that it sends no more.
    is_over: bool,
    /// What is still read and thrown away at the end.
    linger: usize,
}

impl Guard {
    /// A guard for a connection that just began.
    pub(super) fn new(published: Arc<Published>) -> Self {
        Self {
            published,
            state: State::Between,
            held: BytesMut::new(),
            checked: 0,
            turn: 0,
            came_ahead: false,
            is_over: false,
            linger: LINGER_BYTES,
        }
    }

    /// The same where HTTP/2 is spoken.
    pub(super) fn of_frames(published: Arc<Published>, connection: &Connection) -> Self {
        Self { state: State::Http2(Box::new(Frames::new(connection))), ..Self::new(published) }
    }

    /// Reads into `buf` what Pingora may see.
    pub(super) fn poll_read(
        &mut self,
        stream: &mut Stream,
        connection: &Connection,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.checked > 0 {
                let count = self.checked.min(buf.remaining());
                buf.put_slice(&self.held.split_to(count));
                self.checked -= count;
                return Poll::Ready(Ok(()));
            }
            let step = match &mut self.state {
                State::Between => self.poll_between(stream, connection, cx),
                State::Head(_) => self.poll_head(stream, connection, cx, buf),
                State::Length(_) | State::Chunks(_) => self.poll_body(stream, connection, cx, buf),
                State::Tunnel => self.poll_tunnel(stream, connection, cx, buf),
                State::Http2(frames) => return frames.poll_read(stream, connection, cx, buf),
                State::Refused => return Poll::Ready(Ok(())),
            };
            match ready!(step)? {
                Step::Again => {}
                Step::Done => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Whether the client may still be sending what nobody is going to read.
    pub(super) fn is_unread(&self) -> bool {
        match &self.state {
            State::Chunks(_) | State::Length(_) | State::Refused | State::Tunnel => true,
            State::Http2(frames) => frames.is_broken(),
            State::Between | State::Head(_) => !self.held.is_empty(),
        }
    }

    /// Counts what was sent to the client.
    pub(super) fn note_sent(&mut self, bytes: usize) {
        if let State::Http2(frames) = &mut self.state {
            frames.note_sent(bytes);
        }
    }

    /// Reads and throws away what the client still sends, up to a limit.
    pub(super) fn poll_linger(
        &mut self,
        stream: &mut Stream,
        connection: &Connection,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        self.state = State::Refused;
        self.held.clear();
        self.checked = 0;
        while self.linger > 0 {
            let before = self.held.len();
            match ready!(self.poll_more(stream, connection, cx)) {
                Ok(true) => {}
                Ok(false) | Err(_) => break,
            }
            self.linger = self.linger.saturating_sub(self.held.len() - before);
            self.held.clear();
        }
        Poll::Ready(())
    }

    /// Waits for the turn of the next request, and sees meanwhile whether the client leaves.
    fn poll_between(
        &mut self,
        stream: &mut Stream,
        connection: &Connection,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Step>> {
        if connection.is_tunnel() {
            self.state = State::Tunnel;
            return Poll::Ready(Ok(Step::Again));
        }
        if connection.turn() != self.turn {
            self.turn = connection.turn();
            self.state = State::Head(HeadReader::default());
            self.came_ahead = !self.held.is_empty();
            if self.came_ahead {
                connection.note_read();
            }
            return Poll::Ready(Ok(Step::Again));
        }
        if self.is_over || self.held.len() >= AHEAD_MAX {
            // Woken by the deadline, or asked again with the next request.
            return wait(connection, cx);
        }
        if ready!(self.poll_more(stream, connection, cx))? {
            return Poll::Ready(Ok(Step::Again));
        }
        // Who sent further requests before is still waiting for the answers.
        if self.held.is_empty() && !self.came_ahead {
            return Poll::Ready(Ok(Step::Done));
        }
        wait(connection, cx)
    }

    /// Reads a head: mostly in one piece, straight into the hands of Pingora.
    fn poll_head(
        &mut self,
        stream: &mut Stream,
        connection: &Connection,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<Step>> {
        let State::Head(reader) = &mut self.state else { return Poll::Ready(Ok(Step::Again)) };
        if self.held.is_empty() {
            let start = buf.filled().len();
            ready!(poll_stream(stream, connection, cx, buf))?;
            let piece = &buf.filled()[start..];
            if piece.is_empty() {
                return Poll::Ready(Ok(Step::Done));
            }
            connection.note_read();
            let read = reader.read(piece, &connection.head_limits());
            if let Ok(Some(head)) = read {
                self.held.extend_from_slice(&piece[head.bytes..]);
                buf.set_filled(start + head.bytes);
                self.begin(head.body);
                return Poll::Ready(Ok(Step::Done));
            }
            self.held.extend_from_slice(piece);
            buf.set_filled(start);
            if let Err(fault) = read {
                self.refuse_strictly(fault, connection);
            }
            return Poll::Ready(Ok(Step::Again));
        }
        match reader.read(&self.held, &connection.head_limits()) {
            Ok(Some(head)) => {
                self.checked = head.bytes;
                self.begin(head.body);
            }
            Ok(None) if self.is_over => return self.end_head(connection),
            Ok(None) => match ready!(self.poll_more(stream, connection, cx)) {
                Ok(true) => {}
                Ok(false) => return self.end_head(connection),
                Err(_) if connection.missed_deadline() && !self.is_blank() => {
                    self.refuse(Fault::HeadTooSlow, connection)
                }
                Err(error) => return Poll::Ready(Err(error)),
            },
            Err(fault) => self.refuse_strictly(fault, connection),
        }
        Poll::Ready(Ok(Step::Again))
    }

    /// Whether nothing came of a head but the empty line that some clients send after a body.
    fn is_blank(&self) -> bool {
        self.held.trim_ascii().is_empty()
    }

    /// The client left before its head was whole.
    fn end_head(&mut self, connection: &Connection) -> Poll<io::Result<Step>> {
        if self.is_blank() {
            return Poll::Ready(Ok(Step::Done));
        }
        self.refuse(Fault::HeadCut, connection);
        Poll::Ready(Ok(Step::Again))
    }

    /// Reads a body, and leaves what comes behind it.
    fn poll_body(
        &mut self,
        stream: &mut Stream,
        connection: &Connection,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<Step>> {
        let start = buf.filled().len();
        let is_held = !self.held.is_empty();
        if is_held {
            let count = self.held.len().min(buf.remaining());
            buf.put_slice(&self.held[..count]);
            if count == self.held.len() && buf.remaining() > 0 {
                self.held.clear();
                // What else has come goes along. Nobody waits for it here, and what fails does so again.
                let _later = Pin::new(stream).poll_read(cx, buf);
            }
        } else {
            ready!(poll_stream(stream, connection, cx, buf))?;
        }
        let piece = &mut buf.filled_mut()[start..];
        if piece.is_empty() {
            return Poll::Ready(Ok(Step::Done));
        }
        let (kept, used, is_done) = match &mut self.state {
            State::Length(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(piece.len());
                *left -= count as u64;
                (count, count, *left == 0)
            }
            State::Chunks(reader) => match reader.read(piece) {
                Ok(read) => (read.kept, read.used, read.done),
                Err(fault) => {
                    connection.refuse(fault);
                    self.state = State::Refused;
                    buf.set_filled(start);
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        fault.as_str(),
                    )));
                }
            },
            State::Between | State::Head(_) | State::Http2(_) | State::Refused | State::Tunnel => {
                (0, 0, false)
            }
        };
        if is_held && !self.held.is_empty() {
            self.held.advance(used);
        } else {
            self.held.extend_from_slice(&piece[used..]);
        }
        buf.set_filled(start + kept);
        if is_done {
            self.state = State::Between;
        }
        Poll::Ready(Ok(if kept > 0 { Step::Done } else { Step::Again }))
    }

    fn poll_tunnel(
        &mut self,
        stream: &mut Stream,
        connection: &Connection,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<Step>> {
        if !self.held.is_empty() {
            // What a client sent before it knew of the 101.
            self.checked = self.held.len();
            return Poll::Ready(Ok(Step::Again));
        }
        poll_stream(stream, connection, cx, buf).map_ok(|()| Step::Done)
    }

    /// Reads more into the guard's own hands. `false`: there is no more.
    fn poll_more(
        &mut self,
        stream: &mut Stream,
        connection: &Connection,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<bool>> {
        let mut bytes = [const { MaybeUninit::uninit() }; READ_SIZE];
        let mut buf = ReadBuf::uninit(&mut bytes);
        ready!(poll_stream(stream, connection, cx, &mut buf))?;
        self.held.extend_from_slice(buf.filled());
        self.is_over = buf.filled().is_empty();
        Poll::Ready(Ok(!self.is_over))
    }

    fn begin(&mut self, body: Body) {
        self.state = match body {
            Body::Length(0) => State::Between,
            Body::Length(length) => State::Length(length),
            Body::Chunked => State::Chunks(ChunkReader::default()),
        };
    }

    /// Refuses the head, unless the app that it is for puts up with what is wrong.
    fn refuse_strictly(&mut self, fault: Fault, connection: &Connection) {
        let State::Head(reader) = &self.state else { return };
        let lenient = self.leniency();
        if reader.leniency() == Lenient::default() && lenient.forgives(fault) {
            self.state = State::Head(HeadReader::lenient(lenient));
        } else {
            self.refuse(fault, connection);
        }
    }

    /// What the app puts up with that the head seems to be for.
    fn leniency(&self) -> Lenient {
        let known = Known::of(&self.held);
        let path = known.target.split(|byte| *byte == b'?').next().unwrap_or_default();
        let snapshot = self.published.load();
        let view = snapshot.find(known.host.unwrap_or_default(), path);
        view.map(|view| view.app.policy.lenient).unwrap_or_default()
    }

    /// Hands on what is known of the head instead of the head.
    fn refuse(&mut self, fault: Fault, connection: &Connection) {
        connection.refuse(fault);
        let head = Known::of(&self.held).head();
        self.held.clear();
        self.held.extend_from_slice(&head);
        self.checked = head.len();
        self.state = State::Refused;
    }
}

/// How reading goes on.
enum Step {
    /// From the state that was reached.
    Again,
    /// With what Pingora was given, if only the end.
    Done,
}

/// Reads, unless the deadline of the connection is over.
fn poll_stream(
    stream: &mut Stream,
    connection: &Connection,
    cx: &mut Context<'_>,
    buf: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    let read = Pin::new(stream).poll_read(cx, buf);
    if read.is_pending() {
        return wait(connection, cx).map_ok(|_| ());
    }
    // Nobody waits for the client until it is asked for more: its backend may take its time before that.
    connection.end_wait();
    read
}

/// Waits for the stream, or for the end of the deadline.
fn wait(connection: &Connection, cx: &Context<'_>) -> Poll<io::Result<Step>> {
    connection.wake_when_over(cx.waker());
    if connection.missed_deadline() || connection.is_evicted() {
        return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
    }
    Poll::Pending
}
