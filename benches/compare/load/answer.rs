//! Reads one answer of HTTP/1.1 that has a length, in whatever pieces it comes.

use memchr::{memchr, memmem};

/// Longest head that is read, in bytes; proxies that send more are broken.
const HEAD_MAX: usize = 65536;

/// An answer on its way. Its buffers are used again for the next one.
#[derive(Default)]
pub(crate) struct Answer {
    head: Vec<u8>,
    /// Bytes of the body that are still to come; none before the head is complete.
    left: Option<u64>,
    pub(crate) status: u16,
    /// Whether the connection ends with this answer.
    pub(crate) closes: bool,
    pub(crate) body_bytes: u64,
    /// The header `X-Backend`; empty without one.
    pub(crate) backend: String,
    /// `name=value` of the first cookie set; empty without one.
    pub(crate) cookie: String,
}

/// The other side speaks something else.
#[derive(Debug)]
pub(crate) struct Unreadable;

impl Answer {
    pub(crate) fn clear(&mut self) {
        self.head.clear();
        self.left = None;
        self.closes = false;
        self.body_bytes = 0;
        self.backend.clear();
        self.cookie.clear();
    }

    /// Whether nothing of it was received yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_empty() && self.left.is_none()
    }

    /// Takes the next bytes, and says whether the answer is complete.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<bool, Unreadable> {
        let Some(left) = self.left else { return self.feed_head(bytes) };
        let length = bytes.len() as u64;
        let left = left.checked_sub(length).ok_or(Unreadable)?;
        self.body_bytes += length;
        self.left = Some(left);
        Ok(left == 0)
    }

    fn feed_head(&mut self, bytes: &[u8]) -> Result<bool, Unreadable> {
        if self.head.is_empty()
            && let Some(end) = memmem::find(bytes, b"\r\n\r\n")
        {
            self.read_head(&bytes[..end + 2])?;
            return self.feed(&bytes[end + 4..]);
        }
        self.head.extend_from_slice(bytes);
        let Some(end) = memmem::find(&self.head, b"\r\n\r\n") else {
            return if self.head.len() < HEAD_MAX { Ok(false) } else { Err(Unreadable) };
        };
        let head = std::mem::take(&mut self.head);
        self.read_head(&head[..end + 2])?;
        self.feed(&head[end + 4..])
    }

    /// Reads what matters of a head, whose every line ends.
    fn read_head(&mut self, head: &[u8]) -> Result<(), Unreadable> {
        let (first, mut rest) = split_line(head).ok_or(Unreadable)?;
        let status = first.strip_prefix(b"HTTP/1.1 ").and_then(|it| it.get(..3));
        self.status = number(status.ok_or(Unreadable)?)
            .and_then(|it| it.try_into().ok())
            .ok_or(Unreadable)?;
        let bodiless = matches!(self.status, 101 | 204 | 304);
        let mut length = bodiless.then_some(0);
        while let Some((line, next)) = split_line(rest) {
            rest = next;
            let colon = memchr(b':', line).ok_or(Unreadable)?;
            let value = line[colon + 1..].trim_ascii();
            let name = &line[..colon];
            if name.eq_ignore_ascii_case(b"content-length") {
                length = number(value);
            } else if name.eq_ignore_ascii_case(b"connection") {
                self.closes = value.eq_ignore_ascii_case(b"close");
            } else if name.eq_ignore_ascii_case(b"x-backend") {
                self.backend.push_str(&String::from_utf8_lossy(value));
            } else if name.eq_ignore_ascii_case(b"set-cookie") && self.cookie.is_empty() {
                let pair = value.split(|it| *it == b';').next().unwrap_or_default();
                self.cookie.push_str(&String::from_utf8_lossy(pair));
            }
        }
        self.left = Some(length.ok_or(Unreadable)?);
        Ok(())
    }
}

/// The first line, without its end, and what follows.
fn split_line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr(b'\n', text)?;
    Some((text[..end].strip_suffix(b"\r").unwrap_or(&text[..end]), &text[end + 1..]))
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}
