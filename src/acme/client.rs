//! How the library reaches the server: over Pingora's connector, one connection a question.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, header};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};

use crate::outbound::{Limits, Outbound};

/// What one answer of the server may take. A directory and a chain have some kilobytes.
const LIMITS: Limits = Limits { time: Duration::from_secs(30), bytes: 1 << 20 };

/// Asks the server.
#[derive(Clone, Debug)]
pub(super) struct Client(pub(super) Arc<Outbound>);

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let outbound = Arc::clone(&self.0);
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            // We say who we are ourselves.
            parts.headers.remove(header::USER_AGENT);
            // The library's own way to read a body reads one of a response.
            let mut body = BytesResponse::from(Response::new(body)).body;
            let body = body.into_bytes().await.map_err(Error::Other)?;
            let answer = outbound.ask(Request::from_parts(parts, body), LIMITS).await;
            let (parts, body) = answer.map_err(|error| Error::Other(Box::new(error)))?.into_parts();
            Ok(BytesResponse { parts, body: Box::new(body) })
        })
    }
}
