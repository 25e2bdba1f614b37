//! Requests of HTTP/2, whose bodies are cut into frames by chance, to a backend of HTTP/1.1 that records them.

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, HeaderValue, Method};

use crate::harness::{Asked, Edge, Http2};
use crate::recorder::{Entry, Recorder, answer, understood};
use crate::request::Request;
use crate::requests::app;
use crate::{Dice, seed, tell};

const STREAMS: usize = 600;

/// How many streams are sent before their answers are read.
const AT_ONCE: usize = 8;

/// How a stream ends.
#[derive(Clone, Copy, Debug)]
enum Ending {
    /// With its last part.
    Last,
    /// With a frame that holds nothing.
    Empty,
    Trailers,
    /// The client takes the request back.
    Reset,
}

const ENDINGS: [Ending; 4] = [Ending::Last, Ending::Empty, Ending::Trailers, Ending::Reset];

/// What a client sends.
#[derive(Debug)]
struct Upload {
    path: String,
    method: Method,
    has_length: bool,
    /// Some of them empty.
    parts: Vec<Vec<u8>>,
    ending: Ending,
}

impl Upload {
    fn by(dice: &mut Dice, number: usize) -> Self {
        const METHODS: [Method; 4] = [Method::POST, Method::PUT, Method::GET, Method::DELETE];
        // Bytes that would be an end, or a begin, where they are taken for one.
        const WORDS: [&[u8]; 4] = [b"0\r\n\r\n", b"\r\n", b"GET /hidden HTTP/1.1\r\n", b"x"];
        let parts = (0..dice.roll(6)).map(|_| {
            let times = [0, 1, 40, 3_000][dice.roll(4)];
            WORDS[dice.roll(WORDS.len())].repeat(times)
        });
        Self {
            path: format!("/upload/{number}"),
            parts: parts.collect(),
            method: METHODS[dice.roll(METHODS.len())].clone(),
            has_length: dice.roll(2) == 0,
            ending: ENDINGS[dice.roll(ENDINGS.len())],
        }
    }

    fn is_whole(&self) -> bool {
        !matches!(self.ending, Ending::Reset)
    }

    fn body(&self) -> Vec<u8> {
        self.parts.concat()
    }

    fn send(&self, client: &Http2) -> Asked {
        // What is taken back lacks a byte: with all of them HTTP/1.1 has the whole.
        let length = (self.body().len() + usize::from(!self.is_whole())).to_string();
        let headers = [("content-length", length.as_str())];
        let headers = if self.has_length { &headers[..] } else { &[] };
        let mut asked = client.ask(self.method.clone(), &self.path, headers, false);
        let (first, last) = match (self.ending, self.parts.split_last()) {
            (Ending::Last, Some((last, first))) => (first, last.as_slice()),
            (_, _) => (self.parts.as_slice(), [].as_slice()),
        };
        for part in first {
            client.send(&mut asked.body, part, false).unwrap();
            // A part that holds nothing is a frame, too.
            if part.is_empty() {
                asked.body.send_data(Bytes::new(), false).unwrap();
            }
        }
        match self.ending {
            Ending::Last | Ending::Empty => {
                asked.body.send_data(Bytes::copy_from_slice(last), true).unwrap();
            }
            Ending::Trailers => {
                let mut trailers = HeaderMap::new();
                trailers.insert("x-trailer", HeaderValue::from_static("yes"));
                asked.body.send_trailers(trailers).unwrap();
            }
            Ending::Reset => asked.body.send_reset(Reason::CANCEL),
        }
        asked
    }

    fn is_said_by(&self, request: &Request) -> bool {
        request.method == self.method.as_str()
            && request.path == self.path
            && request.body == self.body()
    }
}

/// Sends them and compares what comes back with what a backend answers that understood them.
fn run(client: &Http2, uploads: &[Upload], wrong: &mut Vec<String>) {
    let asked: Vec<_> = uploads.iter().map(|upload| upload.send(client)).collect();
    for (upload, asked) in uploads.iter().zip(asked) {
        match client.read(asked) {
            Ok(response) if upload.is_whole() => {
                let expected = understood(upload.method.as_str(), &upload.path, &upload.body());
                if response.text() != expected {
                    wrong.push(format!("{upload:?} got {response:?}"));
                }
            }
            Ok(response) => wrong.push(format!("{upload:?} was taken back and got {response:?}")),
            Err(error) if upload.is_whole() => wrong.push(format!("{upload:?} failed: {error}")),
            Err(_) => {}
        }
    }
}

#[test]
fn no_request_of_http2_is_read_otherwise_by_the_backend_than_it_was_sent() {
    let recorder = Recorder::start();
    let listener = "listeners: [{ address: \"127.0.0.1:0\", protocols: [h2c] }]\n";
    let edge = Edge::start_with(listener, &app(recorder.address));
    let mut dice = Dice(seed());
    let uploads: Vec<_> = (0..STREAMS).map(|number| Upload::by(&mut dice, number)).collect();
    let mut wrong = Vec::new();
    for some in uploads.chunks(AT_ONCE) {
        // A connection that says nothing too often, or takes back too much, is closed as a flood.
        run(&Http2::connect(edge.address()), some, &mut wrong);
    }
    let mut heard = 0;
    for entry in recorder.take("uploads") {
        match entry {
            Entry::Whole(request) if uploads.iter().any(|own| own.is_said_by(&request)) => {
                heard += 1;
                if !uploads.iter().any(|own| own.is_whole() && own.is_said_by(&request)) {
                    wrong.push(format!("was taken back and came whole: {}", answer(&request)));
                }
            }
            Entry::Whole(request) => wrong.push(format!("nobody sent {}", answer(&request))),
            Entry::Strange(why, bytes) => wrong.push(format!("{why}: {bytes:?}")),
            Entry::Unfinished(_) => {}
        }
    }
    let whole = uploads.iter().filter(|upload| upload.is_whole()).count();
    tell(&format!("{STREAMS} streams of HTTP/2: {whole} whole, {} wrong", wrong.len()));
    assert!(wrong.is_empty(), "{}", wrong[..wrong.len().min(10)].join("\n"));
    assert_eq!(heard, whole, "each came once");
}
