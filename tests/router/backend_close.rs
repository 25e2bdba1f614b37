//! Group `backend_close` of vegur_roundtrip_SUITE. The router it tests may be told to use no connection twice; Homing
//! always says that it may, and here the backend does not want to. Names: the option, the client, the backend.

use crate::wire::Wire;

/// Whether a connection is there for the next request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ends {
    Closed,
    Kept,
}

/// What each side says in `Connection`, and what becomes of its connection. The backend is asked without any.
#[track_caller]
pub(crate) fn check(client_says: &str, backend_says: &str, client_is: Ends, backend_is: Ends) {
    let field = |says: &str| match says {
        "" => String::new(),
        says => format!("Connection: {says}\r\n"),
    };
    let wire = Wire::new();
    let (mut client, mut backend, asked) =
        wire.asked(&format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", field(client_says)));
    assert_eq!(asked.get("connection"), None);
    let says = field(backend_says);
    backend.send(format!("HTTP/1.1 200 OK\r\n{says}Content-Length: 2\r\n\r\nhi"));
    let said = client.head().get("connection").map(str::to_owned);
    client.expect("hi");
    let expected = match client_is {
        Ends::Closed => "close",
        Ends::Kept => "keep-alive",
    };
    assert_eq!(said.as_deref(), Some(expected));
    for (side, ends) in [(&mut client, client_is), (&mut backend, backend_is)] {
        match ends {
            Ends::Closed => side.closed(),
            Ends::Kept => side.silent(),
        }
    }
}

#[test]
fn close_close_close() {
    check("close", "close", Ends::Closed, Ends::Closed);
}

#[test]
fn close_keepalive_keepalive() {
    check("keep-alive", "keep-alive", Ends::Kept, Ends::Kept);
}

#[test]
fn close_default_default() {
    check("", "", Ends::Kept, Ends::Kept);
}

#[test]
fn close_close_keepalive() {
    check("close", "keep-alive", Ends::Closed, Ends::Kept);
}

#[test]
fn close_keepalive_close() {
    check("keep-alive", "close", Ends::Kept, Ends::Closed);
}
