//! What a listener of TLS was told: its certificates, versions, client certificates and tickets, ready for rustls.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};

use super::certificate::Certificate;
use super::clients::Clients;
use super::provider;
use super::table::{Table, UnknownName};
use super::tickets::Context;

/// The oldest version that is spoken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MinVersion {
    /// TLS 1.2 (RFC 5246).
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

impl MinVersion {
    /// As the file has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        }
    }
}

/// Whether clients may resume a session instead of a full handshake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Resumption {
    /// They may not.
    Off,
    /// They get tickets.
    Tickets,
}

/// What a listener of TLS was told.
#[derive(Clone, Debug)]
pub struct Terms {
    min_version: MinVersion,
    unknown_name: UnknownName,
    resumption: Resumption,
    clients: Option<Clients>,
    table: Arc<Table>,
    server: Arc<ServerConfig>,
}

impl Terms {
    /// Makes all that can be made before the keys are known.
    ///
    /// # Errors
    /// When rustls cannot speak these versions, which it can.
    pub fn new(
        certificates: &[Arc<Certificate>],
        min_version: MinVersion,
        unknown_name: UnknownName,
        resumption: Resumption,
        clients: Option<Clients>,
    ) -> Result<Self, rustls::Error> {
        // Who resumes shows no certificate, and nobody would look whether the old one is still valid.
        let resumption = if clients.is_some() { Resumption::Off } else { resumption };
        let versions: &[_] = match min_version {
            MinVersion::Tls12 => &[&TLS13, &TLS12],
            MinVersion::Tls13 => &[&TLS13],
        };
        let table = Arc::new(Table::new(certificates, unknown_name));
        let verifier = match &clients {
            Some(clients) => clients.verifier(),
            None => WebPkiClientVerifier::no_client_auth(),
        };
        let mut server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::clone(&table) as _);
        // Ours is an order of strength; a client cannot be talked into a weaker one.
        server.ignore_client_order = true;
        // Tickets do what a memory of sessions would do, in no memory of ours.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        if resumption == Resumption::Off {
            server.send_tls13_tickets = 0;
        }
        let server = Arc::new(server);
        Ok(Self { min_version, unknown_name, resumption, clients, table, server })
    }

    /// The certificates; the first is the default.
    pub fn certificates(&self) -> &[Arc<Certificate>] {
        self.table.certificates()
    }

    /// The oldest version that is spoken.
    pub fn min_version(&self) -> MinVersion {
        self.min_version
    }

    /// What becomes of who asks for an unknown name.
    pub fn unknown_name(&self) -> UnknownName {
        self.unknown_name
    }

    /// Whether sessions are resumed.
    pub fn resumption(&self) -> Resumption {
        self.resumption
    }

    /// What is asked of client certificates; `None`: they are not asked for.
    pub fn clients(&self) -> Option<&Clients> {
        self.clients.as_ref()
    }

    /// Which certificate is shown to whom.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// What a ticket of this listener is good for.
    pub fn context(&self) -> Context {
        self.clients.as_ref().map_or([0; 32], Clients::digest)
    }

    /// What rustls speaks by, without protocols (ALPN) and tickets.
    pub fn server(&self) -> &Arc<ServerConfig> {
        &self.server
    }
}

// All else is made of these.
impl PartialEq for Terms {
    fn eq(&self, other: &Self) -> bool {
        let Self { min_version, unknown_name, resumption, clients, table: _, server: _ } = self;
        self.certificates() == other.certificates()
            && *min_version == other.min_version
            && *unknown_name == other.unknown_name
            && *resumption == other.resumption
            && *clients == other.clients
    }
}

impl Eq for Terms {}
