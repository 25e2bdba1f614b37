//! A stream that runs: a WebSocket, another upgrade, server-sent events, a call of gRPC.

use std::sync::Arc;

use super::connection::Connection;
use crate::balancer::app::live::{BackendLive, BackendStream, Held};

/// Counted for its backend, and known to its connection, which can end it.
pub(super) struct Streaming {
    _counted: Held<BackendStream>,
    connection: Option<Arc<Connection>>,
}

impl Streaming {
    /// A stream that begins now.
    pub(super) fn new(backend: &Arc<BackendLive>, connection: Option<Arc<Connection>>) -> Self {
        if let Some(connection) = &connection {
            connection.begin_stream(backend);
        }
        Self { _counted: backend.begin_stream(), connection }
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            connection.end_stream();
        }
    }
}
