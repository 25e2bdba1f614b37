//! Who asks: many connections, some of them busy, in one thread; and one that asks all the time and notes how long it
//! waits.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::Outcome;
use crate::fleet::Fleet;

/// Requests at once, over however many connections.
const BUSY: usize = 64;

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(60);

/// What is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    pub(crate) connections: usize,
    pub(crate) apps: usize,
    /// Whether each connection is a client that stays with one app and shows its cookie; else each request is a new
    /// client, of the next app.
    pub(crate) follows: bool,
}

/// A crowd with its connections open.
pub(crate) struct Crowd {
    runtime: tokio::runtime::Runtime,
    clients: Vec<Vec<Client>>,
    load: Load,
    next_app: Arc<AtomicUsize>,
}

struct Client {
    stream: TcpStream,
    app: usize,
    cookie: String,
}

impl Crowd {
    /// Connects everybody, and has each ask once.
    pub(crate) fn gather(load: Load) -> Outcome<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let next_app = Arc::new(AtomicUsize::new(0));
        let lanes = BUSY.min(load.connections);
        let clients = runtime.block_on(async {
            let mut clients: Vec<Vec<Client>> = (0..lanes).map(|_| Vec::new()).collect();
            for number in 0..load.connections {
                let stream = TcpStream::connect(load.address).await?;
                stream.set_nodelay(true)?;
                let mut client = Client { stream, app: number % load.apps, cookie: String::new() };
                client.ask(load.follows).await?;
                clients[number % lanes].push(client);
            }
            std::io::Result::Ok(clients)
        })?;
        Ok(Self { runtime, clients, load, next_app })
    }

    /// Asks for so long; answers how many requests there were.
    pub(crate) fn ask(&mut self, duration: Duration) -> Outcome<usize> {
        let (load, until) = (self.load, Instant::now() + duration);
        let mut lanes = JoinSet::new();
        let clients = std::mem::take(&mut self.clients);
        let (done, clients) = self.runtime.block_on(async {
            for mut lane in clients {
                let next_app = Arc::clone(&self.next_app);
                lanes.spawn(async move {
                    let mut count = 0;
                    while Instant::now() < until {
                        for client in &mut lane {
                            if !load.follows {
                                client.app = next_app.fetch_add(1, Ordering::Relaxed) % load.apps;
                            }
                            client.ask(load.follows).await?;
                            count += 1;
                            if Instant::now() >= until {
                                break;
                            }
                        }
                    }
                    std::io::Result::Ok((count, lane))
                });
            }
            let (mut done, mut clients) = (0, Vec::new());
            while let Some(lane) = lanes.join_next().await {
                let (count, lane) = lane??;
                done += count;
                clients.push(lane);
            }
            Ok::<_, Box<dyn std::error::Error>>((done, clients))
        })?;
        self.clients = clients;
        Ok(done)
    }
}

impl Client {
    async fn ask(&mut self, follows: bool) -> std::io::Result<()> {
        let (host, cookie) = (Fleet::host(self.app), &self.cookie);
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n{cookie}\r\n");
        self.stream.write_all(request.as_bytes()).await?;
        let mut buffer = [0; 4096];
        let mut filled = 0;
        let (end, length) = loop {
            let read =
                tokio::time::timeout(LIMIT, self.stream.read(&mut buffer[filled..])).await??;
            if read == 0 {
                return Err(std::io::Error::other("the connection ended before an answer"));
            }
            filled += read;
            if let Some(head) = head_of(&buffer[..filled]) {
                break head;
            }
        };
        if !buffer.starts_with(b"HTTP/1.1 200") {
            let text = String::from_utf8_lossy(&buffer[..filled.min(100)]).into_owned();
            return Err(std::io::Error::other(text));
        }
        if follows && let Some(cookie) = cookie_of(&buffer[..end]) {
            self.cookie = format!("Cookie: {cookie}\r\n");
        }
        while filled < end + length {
            filled += tokio::time::timeout(LIMIT, self.stream.read(&mut buffer)).await??;
        }
        Ok(())
    }
}

/// Where the body of an answer begins, and how long it is, once its head is there.
pub(crate) fn head_of(answer: &[u8]) -> Option<(usize, usize)> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let mut lines = head.split("\r\n").filter_map(|line| line.split_once(':'));
    let (_, length) = lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length"))?;
    Some((end, length.trim().parse().ok()?))
}

/// The cookie that an answer sets.
pub(crate) fn cookie_of(head: &[u8]) -> Option<String> {
    let head = std::str::from_utf8(head).ok()?;
    let mut lines = head.split("\r\n").filter_map(|line| line.split_once(':'));
    let (_, cookie) = lines.find(|(name, _)| name.eq_ignore_ascii_case("set-cookie"))?;
    Some(cookie.trim().split(';').next()?.to_owned())
}

/// One client that asks every two milliseconds.
pub(crate) struct Witness {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Duration, String>>,
}

impl Witness {
    pub(crate) fn begin(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread =
            std::thread::spawn(move || watch(address, &stopped).map_err(|error| error.to_string()));
        Self { stop, thread }
    }

    /// The longest time that an answer took, in milliseconds. No request may fail.
    pub(crate) fn end(self) -> Outcome<f64> {
        self.stop.store(true, Ordering::Relaxed);
        let longest = self.thread.join().map_err(|_| "the witness ended")??;
        Ok(longest.as_secs_f64() * 1e3)
    }
}

fn watch(address: SocketAddr, stop: &AtomicBool) -> Outcome<Duration> {
    let mut longest = Duration::ZERO;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut client = Client { stream, app: 0, cookie: String::new() };
        while !stop.load(Ordering::Relaxed) {
            let begun = Instant::now();
            client.ask(true).await?;
            longest = longest.max(begun.elapsed());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(longest)
    })
}
