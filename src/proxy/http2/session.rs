//! One stream of HTTP/2, as Pingora's proxy gets it: a session of its own kind, so that the deadlines of a request
//! hold here as they do for HTTP/1.
//!
//! A WebSocket that comes over HTTP/2 (RFC 8441) is an upgrade for the proxy: the request was made one in
//! `request.rs`, and its `101` becomes a `200` here.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::Stream;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{self, HeaderName};
use http::{HeaderMap, Response, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Digest;
use pingora::protocols::http::HttpTask;
use pingora::protocols::http::body_buffer::FixedBuffer;
use pingora::protocols::http::custom::CustomMessageWrite;
use pingora::protocols::http::custom::server::Session;
use pingora::protocols::http::date::get_cached_date;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::{Error, ErrorSource, ErrorType, OrErr, Result};

use super::super::connection::Connection;
use super::request::Kind;

/// How much of a body is kept to send it again, in bytes: as much as Pingora keeps for HTTP/1.
const RETRY_BYTES: usize = 64 * 1024;

/// Fields that concern a connection of HTTP/1 (RFC 9113 §8.2.2).
const CONNECTION_FIELDS: [HeaderName; 5] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// One request and its response.
pub(super) struct Http2Session {
    kind: Kind,
    request: RequestHeader,
    body: RecvStream,
    response: SendResponse<Bytes>,
    /// Where the body of the response goes, once its head is sent.
    sink: Option<SendStream<Bytes>>,
    written: Option<Box<ResponseHeader>>,
    /// What is to be sent, in order.
    tasks: VecDeque<HttpTask>,
    /// A part of a body that is being sent, and whether it is the last.
    part: Option<(Bytes, bool)>,
    /// Whether the end of the response was sent.
    ended: bool,
    read: usize,
    sent: usize,
    kept: Option<FixedBuffer>,
    digest: Arc<Digest>,
    /// The deadlines of this request.
    connection: Arc<Connection>,
    timeouts: Timeouts,
}

/// What Pingora sets and asks for. Waits end by the deadline of the request.
#[derive(Default)]
struct Timeouts {
    read: Option<Duration>,
    write: Option<Duration>,
    drain: Option<Duration>,
}

impl Http2Session {
    pub(super) fn new(
        (kind, request): (Kind, RequestHeader),
        body: RecvStream,
        response: SendResponse<Bytes>,
        digest: Arc<Digest>,
        connection: Arc<Connection>,
    ) -> Self {
        Self {
            kind,
            request,
            body,
            response,
            sink: None,
            written: None,
            tasks: VecDeque::new(),
            part: None,
            ended: false,
            read: 0,
            sent: 0,
            kept: None,
            digest,
            connection,
            timeouts: Timeouts::default(),
        }
    }

    /// Whether what is sent is a body: on a WebSocket nothing is before the answer.
    fn has_body(&self) -> bool {
        self.kind == Kind::Plain || self.was_upgraded()
    }

    /// The result of a wait for the client, which ends with the deadline.
    fn unless_late<T>(&self, cx: &Context<'_>, polled: Poll<T>) -> Poll<Result<T>> {
        match polled {
            Poll::Ready(done) => {
                self.connection.end_wait();
                Poll::Ready(Ok(done))
            }
            Poll::Pending => {
                self.connection.wake_when_over(cx.waker());
                if self.connection.missed_deadline() || self.connection.is_evicted() {
                    let late = Error::explain(ErrorType::ReadTimedout, "the deadline is over");
                    return Poll::Ready(Err(late));
                }
                Poll::Pending
            }
        }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        let polled = self.body.poll_data(cx);
        let data = ready!(self.unless_late(cx, polled))?.transpose();
        let data = data.or_err(ErrorType::ReadError, "while reading the body of a request")?;
        // The frame that ends a body may be empty.
        let Some(data) = data.filter(|data| !data.is_empty() || !self.body.is_end_stream()) else {
            return Poll::Ready(Ok(None));
        };
        self.read += data.len();
        if let Some(kept) = &mut self.kept {
            kept.write_to_buffer(&data);
        }
        // An error says that the stream is gone, which the next read tells.
        let _released = self.body.flow_control().release_capacity(data.len());
        Poll::Ready(Ok(Some(data)))
    }

    /// Waits for the end of the stream: the client takes the request back, or the deadline is over.
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        let polled = match &mut self.sink {
            Some(sink) => sink.poll_reset(cx),
            None => self.response.poll_reset(cx),
        };
        let why = match ready!(self.unless_late(cx, polled))? {
            Ok(reason) => format!("the client ended the stream: {reason}"),
            Err(error) => format!("the connection of the client ended: {error}"),
        };
        Poll::Ready(Error::e_explain(ErrorType::ConnectionClosed, why))
    }

    /// Waits until bytes may be sent, and tells how many. The deadline ends that, too.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize>> {
        let Some(sink) = &mut self.sink else {
            return Poll::Ready(Error::e_explain(ErrorType::H2Error, "a body before its head"));
        };
        let room = match sink.poll_capacity(cx) {
            Poll::Ready(Some(Ok(room))) => Poll::Ready(Ok(room)),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Err(std::io::Error::other(error))),
            Poll::Ready(None) => Poll::Ready(Err(std::io::ErrorKind::BrokenPipe.into())),
            Poll::Pending => Poll::Pending,
        };
        let room = ready!(self.connection.written(room, cx));
        Poll::Ready(room.or_err(ErrorType::WriteError, "while sending the body of a response"))
    }

    fn send(&mut self, data: Bytes, end: bool) -> Result<()> {
        let Some(sink) = &mut self.sink else {
            return Error::e_explain(ErrorType::H2Error, "a body before its head");
        };
        self.sent += data.len();
        self.connection.note_taken(data.len());
        let sent = sink.send_data(data, end);
        sent.or_err(ErrorType::WriteError, "while sending the body of a response")?;
        self.ended |= end;
        Ok(())
    }

    /// Sends what is left of a part, as far as there is room; answers whether it was the last.
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool>> {
        while let Some((mut data, end)) = self.part.take() {
            if self.ended || data.is_empty() {
                // The end has a frame of its own, if nothing else ended the stream.
                return Poll::Ready(Ok(end));
            }
            if let Some(sink) = &mut self.sink {
                sink.reserve_capacity(data.len());
            }
            let Poll::Ready(room) = self.poll_room(cx) else {
                self.part = Some((data, end));
                return Poll::Pending;
            };
            let part = data.split_to(room?.min(data.len()));
            let is_last = data.is_empty();
            self.send(part, end && is_last)?;
            if is_last {
                return Poll::Ready(Ok(end));
            }
            self.part = Some((data, end));
        }
        Poll::Ready(Ok(false))
    }

    /// Sends what there is to send, as far as there is room; answers whether the response ended with it.
    fn poll_tasks(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool>> {
        let mut end = ready!(self.poll_part(cx))?;
        while let Some(task) = self.tasks.pop_front() {
            end |= match task {
                HttpTask::Header(head, end) => self.send_head(head, end).map(|()| end)?,
                HttpTask::Body(data, end) | HttpTask::UpgradedBody(data, end) => {
                    self.part = Some((data.unwrap_or_default(), end));
                    ready!(self.poll_part(cx))?
                }
                HttpTask::Trailer(trailers) => {
                    trailers.map_or(Ok(()), |trailers| self.send_trailers(*trailers))?;
                    true
                }
                HttpTask::Done => true,
                HttpTask::Failed(error) => return Poll::Ready(Err(error)),
            };
        }
        if end {
            self.end()?;
        }
        Poll::Ready(Ok(end))
    }

    /// Sends what there is to send. It can be cancelled, and goes on where it was.
    async fn send_tasks(&mut self) -> Result<bool> {
        let sent = poll_fn(|cx| self.poll_tasks(cx)).await;
        sent.map_err(|error| match error.esource() {
            ErrorSource::Unset => error.into_down(),
            ErrorSource::Downstream | ErrorSource::Internal | ErrorSource::Upstream => error,
        })
    }

    fn send_head(&mut self, mut head: Box<ResponseHeader>, end: bool) -> Result<()> {
        if self.ended || self.written.is_some() {
            return Ok(());
        }
        let status = match (head.status, self.kind) {
            (StatusCode::SWITCHING_PROTOCOLS, Kind::WebSocket) => StatusCode::OK,
            (status, _) => status,
        };
        if !status.is_informational() && !head.headers.contains_key(header::DATE) {
            head.insert_header(header::DATE, get_cached_date())?;
        }
        let mut response = Response::from_parts(head.as_owned_parts(), ());
        *response.status_mut() = status;
        for name in &CONNECTION_FIELDS {
            response.headers_mut().remove(name);
        }
        if status.is_informational() {
            let sent = self.response.send_informational(response);
            return sent.or_err(ErrorType::WriteError, "while sending an interim response");
        }
        if self.kind == Kind::WebSocket {
            response.headers_mut().remove(header::SEC_WEBSOCKET_ACCEPT);
        }
        let sink = self.response.send_response(response, end);
        self.sink = Some(sink.or_err(ErrorType::WriteError, "while sending a response")?);
        self.written = Some(head);
        self.ended |= end;
        Ok(())
    }

    fn send_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        let Some(sink) = &mut self.sink else {
            return Error::e_explain(ErrorType::H2Error, "trailers before their head");
        };
        sink.send_trailers(trailers).or_err(ErrorType::WriteError, "while sending trailers")?;
        self.ended = true;
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        if self.ended || self.sink.is_none() {
            return Ok(());
        }
        self.send(Bytes::new(), true)
    }
}

impl Drop for Http2Session {
    // Who has a part of a response must not take it for the whole (RFC 9113 §8.1).
    fn drop(&mut self) {
        if !self.ended && self.written.is_some() {
            self.response.send_reset(Reason::INTERNAL_ERROR);
        }
    }
}

#[async_trait]
impl Session for Http2Session {
    fn req_header(&self) -> &RequestHeader {
        &self.request
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        &mut self.request
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        poll_fn(|cx| self.poll_body(cx)).await
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        while !self.is_body_done() && self.read_body_bytes().await?.is_some() {}
        Ok(())
    }

    async fn write_response_header(&mut self, head: Box<ResponseHeader>, end: bool) -> Result<()> {
        self.send_head(head, end)
    }

    async fn write_response_header_ref(&mut self, head: &ResponseHeader, end: bool) -> Result<()> {
        self.send_head(Box::new(head.clone()), end)
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.tasks.push_back(HttpTask::Body(Some(data), end));
        self.send_tasks().await.map(drop)
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        self.send_trailers(trailers)
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        if self.tasks.is_empty() {
            self.tasks = tasks.into();
        } else {
            self.tasks.extend(tasks);
        }
        self.send_tasks().await
    }

    fn proxy_tasks_enabled(&self) -> bool {
        true
    }

    fn send_proxy_task(&mut self, task: HttpTask) {
        self.tasks.push_back(task);
    }

    fn has_pending_proxy_tasks(&self) -> bool {
        self.part.is_some() || !self.tasks.is_empty()
    }

    async fn write_proxy_tasks(&mut self) -> Result<bool> {
        self.send_tasks().await
    }

    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.timeouts.read = timeout;
    }

    fn get_read_timeout(&self) -> Option<Duration> {
        self.timeouts.read
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.timeouts.write = timeout;
    }

    fn get_write_timeout(&self) -> Option<Duration> {
        self.timeouts.write
    }

    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.timeouts.drain = timeout;
    }

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.timeouts.drain
    }

    fn request_summary(&self) -> String {
        format!("{} {}", self.request.method, self.request.uri)
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.written.as_deref()
    }

    async fn shutdown(&mut self, code: u32, _context: &str) {
        if !self.ended {
            self.response.send_reset(Reason::from(code));
            self.ended = true;
        }
    }

    async fn abandon(&mut self, context: &str) {
        self.shutdown(Reason::INTERNAL_ERROR.into(), context).await;
    }

    fn is_body_done(&mut self) -> bool {
        !self.has_body() || self.is_body_empty() || self.body.is_end_stream()
    }

    async fn finish(&mut self) -> Result<()> {
        self.end()
    }

    fn is_body_empty(&mut self) -> bool {
        !self.has_body() || (self.read == 0 && self.body.is_end_stream())
    }

    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        if no_body_expected || self.is_body_done() {
            poll_fn(|cx| self.poll_left(cx)).await
        } else {
            poll_fn(|cx| self.poll_body(cx)).await
        }
    }

    fn body_bytes_sent(&self) -> usize {
        self.sent
    }

    fn body_bytes_read(&self) -> usize {
        self.read
    }

    fn digest(&self) -> Option<&Digest> {
        Some(&self.digest)
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        Arc::get_mut(&mut self.digest)
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.digest.socket_digest.as_ref()?.peer_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.digest.socket_digest.as_ref()?.local_addr()
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        let mut wire = BytesMut::new();
        wire.extend_from_slice(self.request.method.as_str().as_bytes());
        wire.extend_from_slice(b" ");
        wire.extend_from_slice(self.request.raw_path());
        wire.extend_from_slice(b" HTTP/1.1\r\n");
        self.request.header_to_h1_wire(&mut wire);
        wire.extend_from_slice(b"\r\n");
        wire.freeze()
    }

    fn enable_retry_buffering(&mut self) {
        self.kept.get_or_insert_with(|| FixedBuffer::new(RETRY_BYTES));
    }

    fn retry_buffer_truncated(&self) -> bool {
        self.kept.as_ref().is_some_and(FixedBuffer::is_truncated)
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        self.kept.as_ref().filter(|kept| !kept.is_truncated())?.get_buffer()
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(&mut self) -> Option<MessageReader> {
        None
    }

    fn restore_custom_message_reader(&mut self, _reader: MessageReader) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(&mut self, _: Box<dyn CustomMessageWrite>) -> Result<()> {
        Ok(())
    }

    fn is_upgrade_req(&self) -> bool {
        self.kind == Kind::WebSocket
    }

    fn was_upgraded(&self) -> bool {
        let switched = |head: &ResponseHeader| head.status == StatusCode::SWITCHING_PROTOCOLS;
        self.kind == Kind::WebSocket && self.written.as_deref().is_some_and(switched)
    }
}

/// Messages beside the body, which HTTP/2 does not have.
type MessageReader = Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>;
