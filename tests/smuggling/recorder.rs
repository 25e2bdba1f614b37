//! A raw backend that writes down every byte, and reads it by the reference.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::harness::eventually;
use crate::request::{End, Reading, Request};

/// What came over a connection.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    /// A whole request, which was answered.
    Whole(Request),
    /// A request that was begun when the connection ended.
    Unfinished(Option<Request>),
    /// What the reference takes for none, with the bytes from where it begins.
    Strange(&'static str, String),
}

#[derive(Default)]
struct Shared {
    entries: Mutex<Vec<Entry>>,
    /// Connections with a request that is not whole.
    begun: AtomicUsize,
}

/// The backend.
pub(crate) struct Recorder {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

impl Recorder {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, shared) = (listener.local_addr().unwrap(), Arc::new(Shared::default()));
        let own = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let own = Arc::clone(&own);
                thread::spawn(move || record(&own, stream));
            }
        });
        Self { address, shared }
    }

    /// What came since this was asked last, once no request is under way.
    #[track_caller]
    pub(crate) fn take(&self, case: &str) -> Vec<Entry> {
        eventually(&format!("{case}: the backend's connection ends"), || {
            (self.shared.begun.load(Ordering::SeqCst) == 0).then_some(())
        });
        std::mem::take(&mut *self.shared.entries.lock().unwrap())
    }
}

/// What the backend answers to a request: all that it understood.
pub(crate) fn answer(request: &Request) -> String {
    understood(&request.method, &request.path, &request.body)
}

pub(crate) fn understood(method: &str, path: &str, body: &[u8]) -> String {
    format!("{method} {path} {:?}", String::from_utf8_lossy(body))
}

fn record(shared: &Shared, mut stream: TcpStream) {
    let note = |entry| shared.entries.lock().unwrap().push(entry);
    let (mut bytes, mut buffer, mut begun) = (Vec::new(), [0; 4096], false);
    loop {
        let read = stream.read(&mut buffer).unwrap_or(0);
        bytes.extend_from_slice(&buffer[..read]);
        let reading = Reading::of(&bytes);
        for request in &reading.requests {
            note(Entry::Whole(request.clone()));
            let text = answer(request);
            let body = if request.method == "HEAD" { "" } else { &text };
            let length = text.len();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            if begun {
                begun = false;
                shared.begun.fetch_sub(1, Ordering::SeqCst);
            }
            let _gone = stream.write_all(format!("{head}{body}").as_bytes());
        }
        let rest = bytes.split_off(reading.used);
        bytes = rest;
        let over = match reading.end {
            End::Refused(why, _) => {
                note(Entry::Strange(why, String::from_utf8_lossy(&bytes).into_owned()));
                true
            }
            End::Clean => read == 0,
            End::Cut(request) if read == 0 => {
                note(Entry::Unfinished(request));
                true
            }
            End::Cut(_) => {
                if !begun {
                    begun = true;
                    shared.begun.fetch_add(1, Ordering::SeqCst);
                }
                false
            }
        };
        if over {
            if begun {
                shared.begun.fetch_sub(1, Ordering::SeqCst);
            }
            let _gone = stream.shutdown(Shutdown::Both);
            return;
        }
    }
}
