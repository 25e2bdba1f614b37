//! Everything that can go wrong with a request: one table, which `docs/failures.md` is made of.

pub mod grpc;
pub mod page;
mod table;

use self::grpc::GrpcStatus;

/// How a request failed. The codes are those of the Heroku router where they fit; `N` begins our own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Failure {
    /// The backend fell silent in the middle of a response.
    BackendIdle,
    /// The backend closed the connection in the middle of a response.
    BackendInterrupted,
    /// The backend closed the connection without a response.
    BackendSilent,
    /// No TLS with the backend.
    BackendTls,
    /// The app or the backend of the pin had too much in hand, and a place in the queue did not help in time.
    BacklogTimeout,
    /// The app or the backend of the pin has too much in hand, and its queue is full.
    BacklogTooDeep,
    /// The chunks of the request are none.
    BadChunk,
    /// What the client sent is not HTTP, or could be read in two ways.
    BadRequest,
    /// What the backend sent is not HTTP.
    BadResponse,
    /// The body of the request is larger than the app takes.
    BodyTooLarge,
    /// The body of the request comes more slowly than the app puts up with.
    BodyTooSlow,
    /// The client fell silent in the middle of a request, or did not read the response.
    ClientIdle,
    /// The client left.
    ClientInterrupted,
    /// Every backend that was tried refused the connection.
    ConnectRefused,
    /// Every backend that was tried left the connection unanswered.
    ConnectTimeout,
    /// The app has as many requests and streams as it may.
    ConnectionLimit,
    /// We ended a stream whose backend is to be left: the operator's wish, and nobody's fault. A kind of its
    /// own, since the response breaks off, and who looks at it is to see why.
    Evicted,
    /// The client expects what is not `100-continue`.
    ExpectationFailed,
    /// The backend did not begin to answer in time.
    FirstByteTimeout,
    /// The head of the request did not come in time.
    HeadTimeout,
    /// The head of the request has too many fields, or too long ones.
    HeadTooLarge,
    /// A fault of Homing.
    Internal,
    /// The operator closed the app.
    Maintenance,
    /// The method is `CONNECT`, which asks for a tunnel.
    MethodRefused,
    /// The connection was opened over TLS for another host.
    Misdirected,
    /// The app has no backend.
    NoBackend,
    /// The client asks for another protocol, and backends speak HTTP/2 alone, where there is no change.
    NoUpgrade,
    /// No backend takes new clients.
    NoneOpen,
    /// Every backend refused a connection and rests.
    NoneRested,
    /// The home of the pin takes nobody, and the app prefers an error over a move.
    PinLost,
    /// The client asks more often than it may.
    RateLimited,
    /// The head of the response is larger than the app may send, or its length is none.
    Restricted,
    /// We run out of descriptors or memory, and let in nobody new.
    Shed,
    /// The target of the request is longer than the listener takes.
    TargetTooLong,
    /// The whole request took longer than the app gives it.
    TotalTimeout,
    /// The transfer coding of the request is not `chunked`.
    UnknownCoding,
    /// No app serves this host.
    UnknownHost,
    /// The version of the request is neither HTTP/1.0 nor HTTP/1.1.
    UnknownVersion,
    /// No backend was found to be healthy in time.
    Unprobed,
}

impl Failure {
    /// All of them.
    pub const ALL: [Self; 39] = [
        Self::BackendIdle,
        Self::BackendInterrupted,
        Self::BackendSilent,
        Self::BackendTls,
        Self::BacklogTimeout,
        Self::BacklogTooDeep,
        Self::BadChunk,
        Self::BadRequest,
        Self::BadResponse,
        Self::BodyTooLarge,
        Self::BodyTooSlow,
        Self::ClientIdle,
        Self::ClientInterrupted,
        Self::ConnectRefused,
        Self::ConnectTimeout,
        Self::ConnectionLimit,
        Self::Evicted,
        Self::ExpectationFailed,
        Self::FirstByteTimeout,
        Self::HeadTimeout,
        Self::HeadTooLarge,
        Self::Internal,
        Self::Maintenance,
        Self::MethodRefused,
        Self::Misdirected,
        Self::NoBackend,
        Self::NoUpgrade,
        Self::NoneOpen,
        Self::NoneRested,
        Self::PinLost,
        Self::RateLimited,
        Self::Restricted,
        Self::Shed,
        Self::TargetTooLong,
        Self::TotalTimeout,
        Self::UnknownCoding,
        Self::UnknownHost,
        Self::UnknownVersion,
        Self::Unprobed,
    ];
}

/// What is said about a failure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Facts {
    /// Whose fault it is.
    pub party: Party,
    /// The code for logs and pages.
    pub code: &'static str,
    /// The HTTP status, where a response can still be sent; else the one that is logged.
    pub status: u16,
    /// The same, for who prefers the meaning that RFC 9110 gives it.
    pub rfc9110: u16,
    /// The label of metrics.
    pub label: &'static str,
    /// The text for logs and pages.
    pub text: &'static str,
    /// When it happens, for people.
    pub when: &'static str,
    /// What it is in gRPC.
    pub grpc: GrpcStatus,
    /// How loud the log is about it.
    pub level: Level,
    /// Whether we try again ourselves.
    pub retried: Retried,
    /// Whether the client may send the same request again.
    pub repeat: Repeat,
    /// After how many seconds that is worth it, where the client is told so (`Retry-After`).
    pub retry_after: Option<u32>,
}

impl Facts {
    /// The same, with the status that an app prefers.
    #[must_use]
    pub fn with(self, statuses: Statuses) -> Self {
        match statuses {
            Statuses::Heroku => self,
            Statuses::Rfc9110 => Self { status: self.rfc9110, ..self },
        }
    }
}

/// Whose fault a failure is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Party {
    /// The app's backends.
    Backend,
    /// The client.
    Client,
    /// Homing itself.
    Edge,
    /// Who configured it.
    Operator,
}

/// How loud the log is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Level {
    /// Somebody has to act.
    Error,
    /// As it is meant to be.
    Info,
    /// The client did something wrong.
    Warning,
}

impl Level {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Info => "info",
            Self::Warning => "warning",
        }
    }
}

/// Whether we send a request again ourselves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Retried {
    /// To the same backend, when a kept connection broke under an idempotent request (RFC 9110 §9.2.2)
    /// before anything was answered.
    Again,
    /// To another backend: nothing was sent.
    Elsewhere,
    /// Not at all.
    Never,
}

/// Whether a client may send the same request again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Repeat {
    /// Any request: no backend has seen it.
    Any,
    /// An idempotent one (RFC 9110 §9.2.2): a backend may have seen it.
    Idempotent,
    /// It would fail again.
    Never,
}

/// Which status a failure is answered with.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Statuses {
    /// That of the Heroku router: mostly 503.
    #[default]
    Heroku,
    /// That which RFC 9110 means.
    Rfc9110,
}
