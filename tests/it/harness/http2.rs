//! A client of HTTP/2: one connection, any number of requests at once.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Version};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{PATIENCE, Response};

/// One connection of a client.
pub(crate) struct Http2 {
    runtime: Runtime,
    requests: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

/// A request whose response is not read.
pub(crate) struct Asked {
    response: ResponseFuture,
    /// Where its body goes.
    pub(crate) body: SendStream<Bytes>,
}

/// A response whose body is not read.
pub(crate) struct Answer {
    pub(crate) head: Response,
    pub(crate) body: RecvStream,
}

impl Http2 {
    /// Connects without TLS, with prior knowledge.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let runtime = runtime();
        let stream = runtime.block_on(TcpStream::connect(address)).unwrap();
        Self::over(runtime, stream)
    }

    /// Speaks over a stream that is there.
    pub(crate) fn over(
        runtime: Runtime,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Self {
        // As browsers do: one response that nobody reads holds no other up.
        let mut builder = h2::client::Builder::new();
        builder.initial_connection_window_size(16 * 1024 * 1024);
        let (requests, connection) = runtime.block_on(async {
            let (requests, connection) = builder.handshake(stream).await.unwrap();
            (requests, tokio::spawn(connection))
        });
        Self { runtime, requests, connection }
    }

    /// Gets a path, with more headers.
    #[track_caller]
    pub(crate) fn get(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        let asked = self.ask(Method::GET, path, headers, true);
        self.read(asked).expect("a whole response")
    }

    /// Sends a body, and reads the response.
    #[track_caller]
    pub(crate) fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        let mut asked = self.ask(Method::POST, path, headers, false);
        self.send(&mut asked.body, body, true).unwrap();
        self.read(asked).expect("a whole response")
    }

    /// Sends the head of a request.
    #[track_caller]
    pub(crate) fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        is_whole: bool,
    ) -> Asked {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://shop.example.com{path}"))
            .body(())
            .unwrap();
        append(&mut request, headers);
        self.request(request, is_whole).expect("a connection that takes requests")
    }

    /// Asks for a WebSocket (RFC 8441).
    #[track_caller]
    pub(crate) fn websocket(&self, path: &str, headers: &[(&str, &str)]) -> Asked {
        let mut request = Request::builder()
            .method(Method::CONNECT)
            .uri(format!("http://shop.example.com{path}"))
            .version(Version::HTTP_2)
            .extension(Protocol::from_static("websocket"))
            .header("sec-websocket-version", "13")
            .body(())
            .unwrap();
        append(&mut request, headers);
        self.request(request, false).expect("a connection that takes requests")
    }

    /// Sends a head as it is.
    pub(crate) fn request(&self, request: Request<()>, is_whole: bool) -> Result<Asked, h2::Error> {
        let mut requests = self.wait(self.requests.clone().ready())?;
        let (response, body) = requests.send_request(request, is_whole)?;
        Ok(Asked { response, body })
    }

    /// Sends a part of a body, as fast as it is taken.
    pub(crate) fn send(
        &self,
        body: &mut SendStream<Bytes>,
        bytes: &[u8],
        is_last: bool,
    ) -> Result<(), h2::Error> {
        self.wait(send(body, Bytes::copy_from_slice(bytes), is_last))
    }

    /// Sends a whole body, and reads the whole response meanwhile.
    pub(crate) fn exchange(&self, asked: Asked, bytes: &[u8]) -> Result<Response, h2::Error> {
        let Asked { mut response, mut body } = asked;
        let bytes = Bytes::copy_from_slice(bytes);
        let sending = self.runtime.spawn(async move { send(&mut body, bytes, true).await });
        let begun = self.begun(&mut response)?;
        let (response, _) = self.rest(begun)?;
        self.wait(sending).expect("a sender that does not panic")?;
        Ok(response)
    }

    /// Reads a whole response.
    pub(crate) fn read(&self, mut asked: Asked) -> Result<Response, h2::Error> {
        let answer = self.answer(&mut asked)?;
        self.rest(answer).map(|(response, _)| response)
    }

    /// Reads the head of a response.
    pub(crate) fn answer(&self, asked: &mut Asked) -> Result<Answer, h2::Error> {
        self.begun(&mut asked.response)
    }

    fn begun(&self, response: &mut ResponseFuture) -> Result<Answer, h2::Error> {
        let response = self.wait(response)?;
        let (parts, body) = response.into_parts();
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into();
        let headers = parts.headers.iter().map(|(name, value)| (name.to_string(), text(value)));
        let status = parts.status.as_u16();
        Ok(Answer { head: Response { status, headers: headers.collect(), body: Vec::new() }, body })
    }

    /// Reads the rest of a response, and its trailers.
    pub(crate) fn rest(&self, answer: Answer) -> Result<(Response, Option<HeaderMap>), h2::Error> {
        let Answer { head: mut response, mut body } = answer;
        while let Some(data) = self.part(&mut body)? {
            response.body.extend_from_slice(&data);
        }
        let trailers = self.wait(body.trailers())?;
        Ok((response, trailers))
    }

    /// Reads a part of a body; `None`: there is no more.
    pub(crate) fn part(&self, body: &mut RecvStream) -> Result<Option<Bytes>, h2::Error> {
        while let Some(data) = self.wait(body.data()).transpose()? {
            body.flow_control().release_capacity(data.len())?;
            if !data.is_empty() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// Waits for the end of the connection.
    pub(crate) fn ended(self) -> Result<(), h2::Error> {
        drop(self.requests);
        let connection = self.connection;
        let ended = self.runtime.block_on(async { timeout(PATIENCE, connection).await });
        ended.expect("the connection ends").unwrap()
    }

    /// How many requests the server takes at once.
    pub(crate) fn streams(&self) -> usize {
        self.requests.current_max_send_streams()
    }

    /// Waits, within the patience of the tests.
    #[track_caller]
    pub(crate) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(async { timeout(PATIENCE, work).await }).expect("in time")
    }
}

fn append(request: &mut Request<()>, headers: &[(&str, &str)]) {
    for (name, value) in headers {
        let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
        request.headers_mut().append(name, value.parse().unwrap());
    }
}

/// Sends bytes as fast as they are taken.
async fn send(
    body: &mut SendStream<Bytes>,
    mut bytes: Bytes,
    is_last: bool,
) -> Result<(), h2::Error> {
    while !bytes.is_empty() {
        body.reserve_capacity(bytes.len());
        let room = poll_fn(|cx| body.poll_capacity(cx)).await.transpose()?;
        let part = bytes.split_to(room.unwrap_or(0).min(bytes.len()));
        body.send_data(part, false)?;
    }
    if is_last { body.send_data(Bytes::new(), true) } else { Ok(()) }
}

/// A thread that drives the connection while the test waits for other things.
pub(crate) fn runtime() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder
        .worker_threads(1)
        .enable_all()
        .thread_keep_alive(Duration::from_secs(1))
        .build()
        .unwrap()
}
