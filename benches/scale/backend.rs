//! What apps lead to: many addresses, one thread, an answer of 1 KB.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::Outcome;

const BODY_BYTES: usize = 1024;

/// How fine the times of probes are noted, in milliseconds.
pub(crate) const SLICE_MS: u128 = 100;

/// Backends that run as long as the process.
pub(crate) struct Backends {
    pub(crate) addresses: Vec<SocketAddr>,
    /// Requests that asked for health, by tenths of a second since the start.
    probes: Arc<Mutex<Vec<u64>>>,
    pub(crate) connections: Arc<AtomicU64>,
}

impl Backends {
    pub(crate) fn start(count: usize) -> Outcome<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let sockets = runtime.block_on(async {
            let mut sockets = Vec::new();
            for _ in 0..count {
                sockets.push(TcpListener::bind(("127.0.0.1", 0)).await?);
            }
            std::io::Result::Ok(sockets)
        })?;
        let addresses = sockets.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?;
        let backends = Self { addresses, probes: Arc::default(), connections: Arc::default() };
        let (probes, connections) =
            (Arc::clone(&backends.probes), Arc::clone(&backends.connections));
        std::thread::spawn(move || runtime.block_on(serve(sockets, probes, connections)));
        Ok(backends)
    }

    /// Probes since this was last asked, by slice of time.
    pub(crate) fn take_probes(&self) -> Vec<u64> {
        let mut probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = std::mem::take(&mut *probes);
        taken.into_iter().skip_while(|count| *count == 0).collect()
    }
}

async fn serve(sockets: Vec<TcpListener>, probes: Arc<Mutex<Vec<u64>>>, count: Arc<AtomicU64>) {
    let start = Instant::now();
    let mut accepting = JoinSet::new();
    for socket in sockets {
        let (probes, count) = (Arc::clone(&probes), Arc::clone(&count));
        accepting.spawn(async move {
            let mut serving = JoinSet::new();
            loop {
                let accepted = tokio::select! {
                    accepted = socket.accept() => accepted,
                    Some(_ended) = serving.join_next() => continue,
                };
                if let Ok((stream, _)) = accepted {
                    count.fetch_add(1, Ordering::Relaxed);
                    let probes = Arc::clone(&probes);
                    serving.spawn(async move {
                        let _the_other_side_hung_up = answer(stream, &probes, start).await;
                    });
                }
            }
        });
    }
    while accepting.join_next().await.is_some() {}
}

async fn answer(
    mut stream: TcpStream,
    probes: &Mutex<Vec<u64>>,
    start: Instant,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let body = "x".repeat(BODY_BYTES);
    let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY_BYTES}\r\n\r\n{body}");
    let mut buffer = vec![0; 8192];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        if !buffer[..filled].ends_with(b"\r\n\r\n") {
            continue;
        }
        if buffer.starts_with(b"GET /healthz") {
            let slice = usize::try_from(start.elapsed().as_millis() / SLICE_MS).unwrap_or(0);
            let mut probes = probes.lock().unwrap_or_else(PoisonError::into_inner);
            if probes.len() <= slice {
                probes.resize(slice + 1, 0);
            }
            probes[slice] += 1;
        }
        filled = 0;
        stream.write_all(response.as_bytes()).await?;
    }
}
