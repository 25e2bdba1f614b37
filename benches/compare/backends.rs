//! The three backends: one process of ours with one thread, which answers from memory and says who it is.
//!
//! | request | answer |
//! | --- | --- |
//! | `POST`, any path | 1 KB, once the whole body was read |
//! | `GET /bytes/N` | N bytes |
//! | `GET` with `Upgrade: websocket` | 101, and then every message comes back |
//! | `GET /awake`, `GET /asleep` | 1 KB; from then on the process never sleeps, or does again |
//! | other `GET` | 1 KB |

use std::{
    env, io,
    net::SocketAddr,
    path::Path,
    process::Command,
    rc::Rc,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use memchr::memmem;
use sha1::{Digest, Sha1};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Builder,
    sync::watch,
    task::{self, JoinSet},
};

use crate::{
    failure::{Context, Failure},
    guard::Guard,
    plan::Placement,
    process::Process,
    topology,
    visit::{ask, visit},
    workload::HOST,
};

/// How many backends every proxy has.
pub(crate) const COUNT: usize = 3;

/// How long they may take from their start to their first answer.
const START_MAX: Duration = Duration::from_secs(5);

const START_POLL: Duration = Duration::from_millis(2);

/// The argument that makes this program the backends.
pub(crate) const ARGUMENT: &str = "--serve";

/// Length of an answer's body, in bytes.
const BODY_BYTES: usize = 1024;

/// How much of a long answer is written at once, and how much of a request is read at once.
const PIECE_BYTES: usize = 256 * 1024;

/// What a server adds to a key of a WebSocket before it hashes it (RFC 6455 section 1.3).
const HANDSHAKE_ID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A client's frame of at most 125 bytes: two bytes, four of the mask, the payload.
const FRAME_HEAD_BYTES: usize = 6;

/// Starts a process called `name` that serves all of `addresses`, and waits until they answer; each says in the header
/// `X-Backend` who it is, by its port.
pub(crate) fn start(
    name: &str,
    addresses: &[SocketAddr],
    placement: Placement,
    directory: &Path,
    guard: &Rc<Guard>,
) -> Result<Process, Failure> {
    let program = env::current_exe().context(|| "cannot find ourselves".to_owned())?;
    let mut command = Command::new(program);
    command.arg(ARGUMENT).args(addresses.iter().map(ToString::to_string));
    let command = topology::beside_proxy(command, placement);
    let mut process = Process::start(name, command, directory, guard)?;
    let deadline = Instant::now() + START_MAX;
    for address in addresses {
        while visit(*address, HOST, None).is_err() {
            process.check_alive()?;
            if Instant::now() > deadline {
                return Err(Failure::new(format!("{address} does not answer after {START_MAX:?}")));
            }
            thread::sleep(START_POLL);
        }
    }
    Ok(process)
}

/// Whether the backends sleep when there is nothing to do.
///
/// A proxy that sends to a process which sleeps pays for waking it: on a virtual machine a tenth and more of all that
/// a request costs, and the more, the slower the proxy is, since its peers wait for it. Peers on machines of their own
/// are woken by their own kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    Sleep,
    Never,
}

impl Rest {
    fn path(self) -> &'static str {
        match self {
            Self::Sleep => "/asleep",
            Self::Never => "/awake",
        }
    }

    /// Tells it the process that serves `address`.
    pub(crate) fn ask_for(self, address: SocketAddr) -> Result<(), Failure> {
        let told = ask(address, HOST, self.path(), None);
        told.map(|_| ()).context(|| "cannot reach the backends".to_owned())
    }
}

/// The child: serves `addresses` until it is killed.
pub(crate) fn run(addresses: Vec<String>) -> Result<(), Failure> {
    let failed = || "cannot serve".to_owned();
    // Looks at the sockets in every turn, also where there is always something to do.
    let runtime =
        Builder::new_current_thread().enable_io().event_interval(1).build().context(failed)?;
    runtime
        .block_on(async {
            let (wanted, rest) = watch::channel(Rest::Sleep);
            let wanted = Arc::new(wanted);
            tokio::spawn(stay_awake(rest));
            let mut listeners = JoinSet::new();
            for address in addresses {
                let listener = TcpListener::bind(&address).await?;
                listeners.spawn(accept(listener, Arc::clone(&wanted)));
            }
            listeners.join_next().await.transpose()?.unwrap_or(Ok(()))
        })
        .context(failed)
}

/// Looks for work again and again while sleep is not wanted, and leaves the core to the generator in between.
async fn stay_awake(mut rest: watch::Receiver<Rest>) {
    while rest.wait_for(|rest| *rest == Rest::Never).await.is_ok() {
        while *rest.borrow() == Rest::Never {
            task::yield_now().await;
            thread::yield_now();
        }
    }
}

async fn accept(listener: TcpListener, rest: Arc<watch::Sender<Rest>>) -> io::Result<()> {
    let port = listener.local_addr()?.port();
    let usual = [head(port, BODY_BYTES, false), vec![b'x'; BODY_BYTES]].concat();
    loop {
        let (stream, _) = listener.accept().await?;
        let (usual, rest) = (usual.clone(), Arc::clone(&rest));
        // A client that breaks off is none of our business.
        tokio::spawn(async move { serve(stream, port, &usual, &rest).await });
    }
}

async fn serve(
    mut stream: TcpStream,
    port: u16,
    usual: &[u8],
    rest: &watch::Sender<Rest>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = Vec::with_capacity(4096);
    loop {
        let end = loop {
            if let Some(end) = memmem::find(&input, b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut input).await? == 0 {
                return Ok(());
            }
        };
        let request =
            Request::parse(&input[..end]).ok_or_else(|| io::Error::other("unreadable"))?;
        if let Some(accept) = &request.accept {
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Accept: {accept}\r\nX-Backend: {port}\r\n\r\n"
            );
            stream.write_all(answer.as_bytes()).await?;
            input.drain(..end);
            return echo(stream, input).await;
        }
        if let Some(wanted) = request.rest {
            rest.send_replace(wanted);
        }
        discard(&mut stream, &mut input, end + request.body_bytes).await?;
        match request.wanted_bytes {
            None if !request.closes => stream.write_all(usual).await?,
            wanted => send(&mut stream, port, wanted.unwrap_or(BODY_BYTES), request.closes).await?,
        }
        if request.closes {
            return stream.shutdown().await;
        }
    }
}

/// Reads on until `length` bytes were there, and forgets them.
async fn discard(stream: &mut TcpStream, input: &mut Vec<u8>, mut length: usize) -> io::Result<()> {
    while length > input.len() {
        length -= input.len();
        input.clear();
        input.reserve(length.min(PIECE_BYTES));
        if stream.read_buf(input).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    input.drain(..length);
    Ok(())
}

async fn send(stream: &mut TcpStream, port: u16, mut left: usize, closes: bool) -> io::Result<()> {
    static PIECE: [u8; PIECE_BYTES] = [b'x'; PIECE_BYTES];
    stream.write_all(&head(port, left, closes)).await?;
    while left > 0 {
        let length = left.min(PIECE_BYTES);
        stream.write_all(&PIECE[..length]).await?;
        left -= length;
    }
    Ok(())
}

/// Sends every message back: frames of at most 125 bytes, which is what the generator sends.
async fn echo(mut stream: TcpStream, mut input: Vec<u8>) -> io::Result<()> {
    let mut output = Vec::new();
    loop {
        let mut start = 0;
        while let Some(frame) = input.get(start..).filter(|it| it.len() >= FRAME_HEAD_BYTES) {
            let length = usize::from(frame[1] & 0x7f);
            let Some(payload) = frame.get(FRAME_HEAD_BYTES..FRAME_HEAD_BYTES + length) else {
                break;
            };
            output.extend_from_slice(&[frame[0], frame[1] & 0x7f]);
            output.extend(
                payload
                    .iter()
                    .zip(frame[2..FRAME_HEAD_BYTES].iter().cycle())
                    .map(|(byte, mask)| byte ^ mask),
            );
            start += FRAME_HEAD_BYTES + length;
        }
        input.drain(..start);
        if !output.is_empty() {
            stream.write_all(&output).await?;
            output.clear();
        }
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
    }
}

fn head(port: u16, length: usize, closes: bool) -> Vec<u8> {
    let connection = if closes { "Connection: close\r\n" } else { "" };
    format!(
        "HTTP/1.1 200 OK\r\nServer: backend\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
         Content-Type: text/plain\r\nContent-Length: {length}\r\n{connection}X-Backend: {port}\r\n\r\n"
    )
    .into_bytes()
}

/// What of a request matters here.
struct Request {
    wanted_bytes: Option<usize>,
    body_bytes: usize,
    closes: bool,
    rest: Option<Rest>,
    /// What proves to the client of a WebSocket that its key was read.
    accept: Option<String>,
}

impl Request {
    fn parse(head: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(head).ok()?;
        let mut lines = text.split("\r\n");
        let path = lines.next()?.split(' ').nth(1)?;
        let mut request = Self {
            wanted_bytes: path.strip_prefix("/bytes/").and_then(|it| it.parse().ok()),
            body_bytes: 0,
            closes: false,
            rest: [Rest::Sleep, Rest::Never].into_iter().find(|rest| rest.path() == path),
            accept: None,
        };
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                request.body_bytes = value.parse().ok()?;
            } else if name.eq_ignore_ascii_case("connection") {
                request.closes = value.eq_ignore_ascii_case("close");
            } else if name.eq_ignore_ascii_case("sec-websocket-key") {
                let digest = Sha1::digest(format!("{value}{HANDSHAKE_ID}"));
                request.accept = Some(BASE64_STANDARD.encode(digest));
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                // Nobody here has a reason to send without a length.
                return None;
            }
        }
        Some(request)
    }
}
