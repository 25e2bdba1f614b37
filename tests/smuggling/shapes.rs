//! Requests that are right, to be spoiled.

/// A request in parts. `{pat}` stands for a path of its own.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    /// The request line.
    pub(crate) line: Vec<u8>,
    /// The field lines.
    pub(crate) fields: Vec<Vec<u8>>,
    pub(crate) body: Vec<u8>,
}

/// What hides in a body: it must never be a request.
const HIDDEN: &str = "GET /{pat}/hidden HTTP/1.1\r\nHost: shop.example.com\r\n\r\n";

impl Parts {
    fn new(line: &str, fields: &[&str], body: &str) -> Self {
        Self {
            line: line.into(),
            fields: fields.iter().map(|field| field.as_bytes().to_vec()).collect(),
            body: body.into(),
        }
    }

    /// Bytes that are not in parts.
    pub(crate) fn raw(bytes: &[u8]) -> Self {
        Self { line: Vec::new(), fields: Vec::new(), body: bytes.to_vec() }
    }

    /// The bytes, for the case with this number.
    pub(crate) fn render(&self, number: usize) -> Vec<u8> {
        if self.line.is_empty() {
            return placed(&self.body, number);
        }
        let mut bytes = self.line.clone();
        for field in &self.fields {
            bytes.extend_from_slice(b"\r\n");
            bytes.extend_from_slice(field);
        }
        bytes.extend_from_slice(b"\r\n\r\n");
        bytes.extend_from_slice(&self.body);
        placed(&bytes, number)
    }
}

/// Puts the number of the case in the place of `{pat}`. Both are of one length, so that lengths stay right.
pub(crate) fn placed(bytes: &[u8], number: usize) -> Vec<u8> {
    let path = format!("{number:05}");
    let (mut placed, mut rest) = (Vec::new(), bytes);
    while let Some(at) = rest.windows(5).position(|window| window == b"{pat}") {
        placed.extend_from_slice(&rest[..at]);
        placed.extend_from_slice(path.as_bytes());
        rest = &rest[at + 5..];
    }
    placed.extend_from_slice(rest);
    placed
}

/// The shapes, by name.
pub(crate) fn shapes() -> Vec<(&'static str, Parts)> {
    let host = "Host: shop.example.com";
    let hidden = HIDDEN.to_owned();
    let length = |body: &str| format!("Content-Length: {}", body.len());
    let chunk = |data: &str| format!("{:x}\r\n{data}\r\n0\r\n\r\n", data.len());
    let json = "Content-Type: application/json";
    let early_end = format!("0\r\n\r\n{hidden}");
    let upgrade = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"];
    let (chunked, socket) =
        ("Transfer-Encoding: chunked", [host, upgrade[0], upgrade[1], upgrade[2]]);
    let post = "POST /{pat}/form?a=b HTTP/1.1";
    vec![
        ("get", Parts::new("GET /{pat}/page?q=1 HTTP/1.1", &[host, "Accept: */*"], "")),
        ("head", Parts::new("HEAD /{pat}/page HTTP/1.1", &[host], "")),
        ("options", Parts::new("OPTIONS * HTTP/1.1", &[host], "")),
        ("absolute", Parts::new("GET http://shop.example.com/{pat}/page HTTP/1.1", &[host], "")),
        ("old", Parts::new("GET /{pat}/old HTTP/1.0", &[host], "")),
        ("old kept", Parts::new("GET /{pat}/old HTTP/1.0", &[host, "Connection: keep-alive"], "")),
        ("upgrade", Parts::new("GET /{pat}/socket HTTP/1.1", &socket, "")),
        ("length", Parts::new(post, &[host, json, &length("hello")], "hello")),
        ("length that hides", Parts::new(post, &[host, &length(&early_end)], &early_end)),
        (
            "get with a body",
            Parts::new("GET /{pat}/b HTTP/1.1", &[host, &length(&hidden)], &hidden),
        ),
        ("expect", Parts::new(post, &[host, "Expect: 100-continue", &length("hello")], "hello")),
        (
            "chunked",
            Parts::new(post, &[host, json, chunked], "5\r\nhello\r\n3;x=\"y\"\r\nyou\r\n0\r\n\r\n"),
        ),
        ("chunked that hides", Parts::new(post, &[host, chunked], &chunk(&hidden))),
        ("trailers", Parts::new(post, &[host, chunked], "5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n")),
    ]
}

/// A good request that follows.
pub(crate) fn after(number: usize) -> Vec<u8> {
    placed(b"GET /{pat}/after HTTP/1.1\r\nHost: shop.example.com\r\n\r\n", number)
}

/// A good request that goes before.
pub(crate) fn before(number: usize) -> Vec<u8> {
    placed(
        b"POST /{pat}/before HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 4\r\n\r\nbody",
        number,
    )
}
