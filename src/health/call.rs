//! The health check of gRPC (`grpc.health.v1.Health/Check`): one unary call over HTTP/2, and what its answer means.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode};
use pingora::connectors::http::Connector;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use prost::Message;

use crate::balancer::failure::grpc::GrpcStatus;

/// The method that is called.
const PATH: &str = "/grpc.health.v1.Health/Check";

/// Longest answer that is read, in bytes. A right one has seven.
const ANSWER_BYTES_MAX: usize = 4 << 10;

/// What stands in front of a message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// `grpc.health.v1.HealthCheckRequest`
#[derive(Clone, PartialEq, Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`
#[derive(Clone, PartialEq, Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// `SERVING` of `grpc.health.v1.HealthCheckResponse.ServingStatus`.
const SERVING: i32 = 1;

/// A call that is made again and again.
pub(super) struct Call {
    head: Box<RequestHeader>,
    message: Bytes,
}

impl Call {
    /// Asks for `service`; empty: for the whole server.
    ///
    /// # Errors
    /// When the URI cannot be made of `host`.
    pub(super) fn new(service: &str, host: &str, is_tls: bool) -> Result<Self> {
        let mut head = RequestHeader::build("POST", PATH.as_bytes(), None)?;
        let uri = http::Uri::builder().scheme(if is_tls { "https" } else { "http" });
        let uri = uri.authority(host).path_and_query(PATH).build();
        head.set_uri(uri.map_err(|error| {
            Error::because(ErrorType::InvalidHTTPHeader, "no authority for the call", error)
        })?);
        head.insert_header("Content-Type", "application/grpc")?;
        head.insert_header("TE", "trailers")?;
        head.insert_header("User-Agent", "homing-probe")?;
        let request = HealthCheckRequest { service: service.to_owned() };
        let mut message = BytesMut::new();
        message.put_u8(0);
        message.put_u32(u32::try_from(request.encoded_len()).unwrap_or(0));
        message.put_slice(&request.encode_to_vec());
        Ok(Self { head: Box::new(head), message: message.freeze() })
    }

    /// Makes the call. `Err`: the backend does not serve, or cannot be asked.
    pub(super) async fn make(&self, connector: &Connector, peer: &HttpPeer) -> Result<(), String> {
        let explained = |error: Box<Error>| super::probe::reason(&error);
        let (session, _) = connector.get_http_session(peer).await.map_err(explained)?;
        let mut session = match session {
            HttpSession::H2(session) => session,
            HttpSession::H1(_) | HttpSession::Custom(()) => {
                return Err(super::probe::NO_HTTP2.into());
            }
        };
        session.write_request_header(self.head.clone(), false).map_err(explained)?;
        session.write_request_body(self.message.clone(), true).await.map_err(explained)?;
        session.read_response_header().await.map_err(explained)?;
        let mut answer = BytesMut::new();
        while let Some(part) = session.read_response_body().await.map_err(explained)? {
            if answer.len() + part.len() > ANSWER_BYTES_MAX {
                return Err("answered with something that is no health".into());
            }
            answer.extend_from_slice(&part);
        }
        let trailers = session.read_trailers().await.map_err(explained)?.unwrap_or_default();
        let Some(head) = session.response_header() else {
            return Err("answered with nothing".into());
        };
        read(head, &trailers, &answer)
    }
}

/// What an answer means.
fn read(head: &ResponseHeader, trailers: &HeaderMap, answer: &[u8]) -> Result<(), String> {
    if head.status != StatusCode::OK {
        return Err(format!("status {}", head.status.as_u16()));
    }
    // In the trailers, or in the head of an answer that is nothing but trailers.
    let said = trailers.get("grpc-status").or_else(|| head.headers.get("grpc-status"));
    let said = said.and_then(|value: &HeaderValue| value.to_str().ok()?.parse::<u8>().ok());
    match said.map(GrpcStatus::of) {
        Some(Some(GrpcStatus::Ok)) => {}
        Some(Some(GrpcStatus::NotFound)) => return Err("knows no such service (NOT_FOUND)".into()),
        Some(Some(GrpcStatus::Unimplemented)) => {
            return Err("has no health service (UNIMPLEMENTED)".into());
        }
        Some(Some(status)) => return Err(format!("grpc-status {}", status.name())),
        Some(None) | None => return Err("answered without a `grpc-status`".into()),
    }
    let Some((prefix, message)) = answer.split_at_checked(PREFIX_BYTES) else {
        return Err("answered without a message".into());
    };
    if prefix[0] != 0 {
        return Err("compressed its answer, which nobody asked for".into());
    }
    match HealthCheckResponse::decode(message) {
        Ok(HealthCheckResponse { status: SERVING }) => Ok(()),
        Ok(HealthCheckResponse { status }) => Err(match status {
            0 => "is UNKNOWN".into(),
            2 => "is NOT_SERVING".into(),
            3 => "knows no such service (SERVICE_UNKNOWN)".into(),
            other => format!("is in state {other}"),
        }),
        Err(_) => Err("answered with something that is no health".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(
        status: u16,
        head: Option<&'static str>,
        trailer: Option<&'static str>,
        answer: &[u8],
    ) -> String {
        let mut response = ResponseHeader::build(status, None).unwrap();
        if let Some(code) = head {
            response.insert_header("grpc-status", code).unwrap();
        }
        let mut trailers = HeaderMap::new();
        if let Some(code) = trailer {
            trailers.insert("grpc-status", HeaderValue::from_static(code));
        }
        read(&response, &trailers, answer).err().unwrap_or_default()
    }

    #[test]
    fn only_who_says_that_it_serves_is_healthy() {
        let serving = [0, 0, 0, 0, 2, 8, 1];
        assert_eq!(answered(200, None, Some("0"), &serving), "");
        assert_eq!(answered(200, None, Some("0"), &[0, 0, 0, 0, 2, 8, 2]), "is NOT_SERVING");
        assert_eq!(answered(200, None, Some("0"), &[0, 0, 0, 0, 0]), "is UNKNOWN");
        assert_eq!(answered(200, None, Some("0"), &[]), "answered without a message");
        let no_health = "answered with something that is no health";
        assert_eq!(answered(200, None, Some("0"), &[0, 0, 0, 0, 1, 0xff]), no_health);
        assert_eq!(answered(200, None, Some("5"), &[]), "knows no such service (NOT_FOUND)");
        assert_eq!(answered(200, Some("12"), None, &[]), "has no health service (UNIMPLEMENTED)");
        assert_eq!(answered(200, Some("14"), None, &[]), "grpc-status UNAVAILABLE");
        assert_eq!(answered(503, None, Some("0"), &serving), "status 503");
        assert_eq!(answered(200, None, None, &serving), "answered without a `grpc-status`");
        assert_eq!(answered(200, None, Some("x"), &serving), "answered without a `grpc-status`");
    }

    #[test]
    fn the_call_is_what_the_protocol_says() {
        let call = Call::new("a.B", "shop.internal", true).unwrap();
        assert_eq!(&call.message[..], b"\0\0\0\0\x05\x0a\x03a.B");
        assert_eq!(call.head.uri, "https://shop.internal/grpc.health.v1.Health/Check");
        let whole = Call::new("", "shop.internal", false).unwrap();
        assert_eq!(&whole.message[..], b"\0\0\0\0\0");
        assert_eq!(whole.head.uri, "http://shop.internal/grpc.health.v1.Health/Check");
    }
}
