//! What can be known of a head that is refused: for its page, its line in the log, and the app it was meant for.

use super::head::is_in_target;
use super::{field, host};

/// Longest target that is told of, in bytes.
const TARGET_MAX: usize = 2048;

/// Fields that page and log ask for.
const TOLD: [&[u8]; 5] =
    [b"accept", b"user-agent", b"x-forwarded-for", b"x-forwarded-proto", b"x-request-id"];

/// What can be known of a head.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Known<'h> {
    /// The method, if it is one.
    pub method: Option<&'h [u8]>,
    /// The target, with what may not be in one as percent escapes; `/` if there is none.
    pub target: Vec<u8>,
    /// Whether the client speaks HTTP/1.0.
    pub is_old: bool,
    /// The host, if there is exactly one.
    pub host: Option<&'h [u8]>,
    /// Other fields, as they were sent.
    fields: Vec<(&'h [u8], &'h [u8])>,
}

impl<'h> Known<'h> {
    /// Reads what can be read of `head`, line by line, whatever they end with.
    pub fn of(head: &'h [u8]) -> Self {
        let mut lines = head
            .split(|byte| *byte == b'\n')
            .map(<[u8]>::trim_ascii)
            .skip_while(|line| line.is_empty());
        let mut known = Self { target: b"/".to_vec(), ..Self::default() };
        known.request_line(lines.next().unwrap_or_default());
        let mut hosts = 0;
        for line in lines.take_while(|line| !line.is_empty()) {
            let Ok((name, value)) = field::split(line) else { continue };
            if name.eq_ignore_ascii_case(b"host") {
                hosts += 1;
                known.host = host::is_valid(value).then_some(value).filter(|_| hosts == 1);
            } else if TOLD.iter().any(|told| told.eq_ignore_ascii_case(name)) {
                known.fields.push((name, value));
            }
        }
        known
    }

    fn request_line(&mut self, line: &'h [u8]) {
        let mut words = line.splitn(2, |byte| *byte == b' ');
        self.method = words.next().filter(|method| field::is_token(method) && method.len() < 128);
        let rest = words.next().unwrap_or_default();
        let end = rest.iter().rposition(|byte| *byte == b' ').unwrap_or(rest.len());
        let (target, version) = rest.split_at(end);
        self.is_old = version == b" HTTP/1.0";
        let target = &target[..target.len().min(TARGET_MAX)];
        if target.first() == Some(&b'/') {
            self.target = escaped(target);
        }
    }

    /// A head that says no more than this, and that every parser reads alike.
    pub fn head(&self) -> Vec<u8> {
        let mut head = self.method.unwrap_or(b"-").to_vec();
        head.push(b' ');
        head.extend_from_slice(&self.target);
        head.extend_from_slice(if self.is_old { b" HTTP/1.0\r\n" } else { b" HTTP/1.1\r\n" });
        let host = self.host.map(|host| (&b"Host"[..], host));
        for (name, value) in host.into_iter().chain(self.fields.iter().copied()) {
            head.extend_from_slice(name);
            head.extend_from_slice(b": ");
            head.extend_from_slice(value);
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"Connection: close\r\n\r\n");
        head
    }
}

/// The target with everything as an escape that may not be in one.
fn escaped(target: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut escaped = Vec::with_capacity(target.len());
    let mut query = false;
    for byte in target {
        query |= *byte == b'?';
        if is_in_target(*byte, query) {
            escaped.push(*byte);
        } else {
            escaped.extend([b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::head::{HeadLimits, HeadReader};
    use super::*;

    #[track_caller]
    fn check(head: &str, expected: &str) {
        assert_eq!(String::from_utf8(Known::of(head.as_bytes()).head()).unwrap(), expected);
    }

    #[test]
    fn what_is_known_of_a_bad_head_is_a_good_one() {
        check(
            "GET /a b HTTP/1.1\nHost: a\nX: y\nAccept: text/html\n\nrest",
            "GET /a%20b HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\nConnection: close\r\n\r\n",
        );
        check(
            "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n",
            "GET / HTTP/1.0\r\nConnection: close\r\n\r\n",
        );
        check("\r\n\0\r\n\r\n", "- / HTTP/1.1\r\nConnection: close\r\n\r\n");
        check("", "- / HTTP/1.1\r\nConnection: close\r\n\r\n");
        check("CONNECT a:80 HTTP/1.1\r\n", "CONNECT / HTTP/1.1\r\nConnection: close\r\n\r\n");
    }

    proptest! {
        #[test]
        fn it_is_good_whatever_the_bad_one_was(head in prop::collection::vec(any::<u8>(), 0..200)) {
            let known = [Known::of(&head).head(), b"Z".to_vec()].concat();
            let told = String::from_utf8_lossy(&known).replace("CONNECT", "GET");
            let hosted = told.replacen("\r\n", "\r\nHost: z\r\n", 1);
            let fields = if told.contains("\r\nHost:") { told } else { hosted };
            let read = HeadReader::default().read(fields.as_bytes(), &HeadLimits::default());
            prop_assert!(matches!(read, Ok(Some(_))), "{:?} {}", read, fields);
        }
    }
}
