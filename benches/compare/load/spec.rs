//! What to send, to whom, how fast.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

/// One load. A child process reads it as JSON, and then sends until it is stopped.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) address: SocketAddr,
    /// Connections, each with one request at a time.
    pub(crate) connections: usize,
    pub(crate) life: Life,
    pub(crate) pace: Pace,
    pub(crate) exchange: Exchange,
    /// Who asks, in turn. No client has two requests at once, so that many connections are of no use without as many
    /// clients.
    pub(crate) clients: Vec<Client>,
    /// Whether clients keep the cookies they are given, as browsers do.
    pub(crate) keeps_cookies: bool,
    pub(crate) tls: Option<Tls>,
    /// A request that takes longer, from when it was sent, failed; its connection is closed.
    pub(crate) timeout: Duration,
    /// Whether each request is told of, and not only what they add up to.
    pub(crate) logs: bool,
}

/// What becomes of a connection after its first answer.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Life {
    /// It takes the next request.
    Kept,
    /// It is kept and takes none: for the memory that idle connections cost.
    Idle,
    /// The request says `Connection: close`, and the next one opens another.
    Single,
}

/// When requests are sent.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) enum Pace {
    /// The next one as soon as a connection is free (a closed loop): as much as the other side can take.
    Greedy,
    /// So many a second, at even distances, whether answers come or not (an open loop). Latency counts from when a
    /// request was due, so that a stall is seen by all that were due in it.
    PerSecond(f64),
}

/// One request and its answer.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum Exchange {
    Get {
        path: String,
    },
    Post {
        path: String,
        bytes: usize,
    },
    /// Messages on a WebSocket that is opened once, each of which the backend sends back; at most 125 bytes.
    Echo {
        path: String,
        bytes: usize,
    },
}

/// Somebody with a cookie, or without one yet.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Client {
    pub(crate) host: String,
    /// `name=value`, as it is sent.
    pub(crate) cookie: Option<String>,
    /// Who answered last, as the header `X-Backend` says. Another answer counts as moved.
    pub(crate) backend: Option<String>,
}

/// TLS 1.3 towards the other side.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Tls {
    /// The name asked for, which the certificate must have.
    pub(crate) name: String,
    /// The authority, or the certificate itself, in DER.
    pub(crate) trusted: PathBuf,
    /// Whether later connections resume the session of an earlier one.
    pub(crate) resumes: bool,
}
