use bytes::Bytes;
use homing::wire::frame::*;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

struct Guarded {
    io: tokio::net::TcpStream,
    reader: FrameReader,
    fault: Arc<Mutex<Option<FrameFault>>>,
    start: Instant,
}
impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let me = &mut *self;
        if me.fault.lock().unwrap().is_some() {
            return Poll::Pending;
        }
        let begin = buf.filled().len();
        std::task::ready!(Pin::new(&mut me.io).poll_read(cx, buf))?;
        let start = me.start;
        if let Err(b) = me.reader.read(&buf.filled()[begin..], || start.elapsed()) {
            if b.fault == FrameFault::Preface {
                return Poll::Ready(Err(std::io::ErrorKind::InvalidData.into()));
            }
            *me.fault.lock().unwrap() = Some(b.fault);
            buf.set_filled(begin + b.good);
            if b.good == 0 {
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }
}
impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        b: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let r = Pin::new(&mut self.io).poll_write(cx, b);
        if let Poll::Ready(Ok(n)) = &r {
            self.reader.note_sent(*n);
        }
        r
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

pub(crate) fn start(backend: SocketAddr) -> SocketAddr {
    let l = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let a = l.local_addr().unwrap();
    l.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let ls = tokio::task::LocalSet::new();
        ls.block_on(&rt, async move {
            let l = tokio::net::TcpListener::from_std(l).unwrap();
            loop {
                let (io, _) = l.accept().await.unwrap();
                tokio::task::spawn_local(async move { serve(io, backend).await });
            }
        });
    });
    a
}

async fn serve(io: tokio::net::TcpStream, backend: SocketAddr) {
    let fault = Arc::new(Mutex::new(None));
    let guarded = std::env::var("UNGUARDED").is_err();
    let lim = if guarded { FrameLimits::default() } else { FrameLimits::default() };
    let io = Guarded {
        io,
        reader: FrameReader::new(lim, Duration::ZERO),
        fault: fault.clone(),
        start: Instant::now(),
    };
    let Ok(mut c) = h2::server::Builder::new()
        .max_concurrent_streams(100)
        .max_header_list_size(65536)
        .enable_connect_protocol()
        .handshake::<_, Bytes>(io)
        .await
    else {
        return;
    };
    let mut ended = false;
    loop {
        let f = fault.clone();
        let r = std::future::poll_fn(|cx| {
            let p = c.poll_accept(cx);
            if p.is_pending()
                && !ended
                && let Some(f) = *f.lock().unwrap()
            {
                ended = true;
                c.abrupt_shutdown(h2::Reason::from(f.code() as u32));
                return c.poll_accept(cx);
            }
            p
        })
        .await;
        let Some(Ok((req, mut send))) = r else { return };
        tokio::task::spawn_local(async move {
            let (parts, mut body) = req.into_parts();
            if parts.method == "CONNECT" {
                let _ = send
                    .send_response(http::Response::builder().status(405).body(()).unwrap(), true);
                return;
            }
            if parts.uri.path().contains("/hold") {
                let _ = std::future::poll_fn(|cx| send.poll_reset(cx)).await;
                return;
            }
            let mut b = Vec::new();
            while let Some(x) = body.data().await {
                let Ok(x) = x else { return };
                let _ = body.flow_control().release_capacity(x.len());
                b.extend_from_slice(&x);
            }
            if body.trailers().await.is_err() {
                return;
            }
            let path = parts.uri.path_and_query().map(|p| p.to_string()).unwrap_or_default();
            let answer = tokio::task::spawn_blocking(move || {
                let mut s = std::net::TcpStream::connect(backend).unwrap();
                let _ = s.write_all(
                    format!(
                        "{} {path} HTTP/1.1\r\nContent-Length: {}\r\n\r\n",
                        parts.method,
                        b.len()
                    )
                    .as_bytes(),
                );
                let _ = s.write_all(&b);
                let _ = s.shutdown(std::net::Shutdown::Write);
                let mut v = Vec::new();
                let _ = s.read_to_end(&mut v);
                let i = v.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
                v[i..].to_vec()
            })
            .await
            .unwrap();
            let Ok(mut st) = send.send_response(http::Response::new(()), answer.is_empty()) else {
                return;
            };
            if !answer.is_empty() {
                let _ = st.send_data(answer.into(), true);
            }
        });
    }
}
