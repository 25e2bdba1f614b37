//! A backend with everything that lasts: slow requests, WebSockets, event streams.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Backend, Client, Received, Reply, Response, echo, eventually};

/// Holds something back until it is opened.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<AtomicBool>);

impl Gate {
    pub(crate) fn open(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn pass(&self) {
        eventually("the gate opens", || self.0.load(Ordering::SeqCst).then_some(()));
    }
}

/// The backend: `/slow` waits at the gate, `/socket` switches protocols and echoes, `/events` sends one
/// event and stays open, everything else answers with the id.
pub(crate) struct Lively {
    pub(crate) backend: Backend,
    pub(crate) gate: Gate,
}

impl Lively {
    pub(crate) fn named(id: &str) -> Self {
        let (own, gate) = (id.to_owned(), Gate::default());
        let held = gate.clone();
        let backend = Backend::new(id, move |request: &Received, stream: &mut TcpStream| {
            match request.path() {
                "/slow" => held.pass(),
                "/socket" => return switch(stream),
                "/events" => {
                    let head =
                        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n";
                    let _gone = stream.write_all(head.as_bytes());
                    let _closed = stream.read(&mut [0]);
                    return Reply::Done;
                }
                _ => {}
            }
            Reply::ok(&own)
        });
        Self { backend, gate }
    }
}

fn switch(stream: &mut TcpStream) -> Reply {
    let head =
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    echo(stream)
}

/// Opens a WebSocket at `/socket`, with more header lines.
#[track_caller]
pub(crate) fn upgrade(client: &mut Client, headers: &str) -> Response {
    let response = client.get(
        "/socket",
        &format!(
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n{headers}"
        ),
    );
    assert_eq!(response.status, 101);
    response
}

/// Sends a text and reads it back.
#[track_caller]
pub(crate) fn echoes(client: &mut Client, text: &str) {
    client.send(text);
    let mut echo = vec![0; text.len()];
    client.reader.read_exact(&mut echo).unwrap();
    assert_eq!(echo, text.as_bytes());
}
