//! What became of handshakes, counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::{Error, ProtocolVersion};

/// How a handshake went well: the version, and whether a session was resumed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Done {
    /// The version.
    pub version: Version,
    /// Whether it goes on from an earlier connection.
    pub resumed: bool,
}

impl Done {
    /// What it is handed on as.
    fn label(self) -> &'static str {
        match (self.version, self.resumed) {
            (Version::Tls12, false) => "1.2",
            (Version::Tls12, true) => "1.2 resumed",
            (Version::Tls13, false) => "1.3",
            (Version::Tls13, true) => "1.3 resumed",
        }
    }
}

/// A version of TLS that is spoken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Version {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl Version {
    /// The version that was agreed on; those that are not spoken cannot be.
    pub fn of(version: Option<ProtocolVersion>) -> Self {
        if version == Some(ProtocolVersion::TLSv1_2) { Self::Tls12 } else { Self::Tls13 }
    }

    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        }
    }

    /// As the Heroku router logs it.
    pub fn in_logs(self) -> &'static str {
        match self {
            Self::Tls12 => "tls1.2",
            Self::Tls13 => "tls1.3",
        }
    }
}

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Failed {
    /// The client said that it does not go on, such as when it does not believe the certificate.
    Alert,
    /// A certificate of the client is missing, or cannot be verified.
    ClientCertificate,
    /// The client left.
    Closed,
    /// There is no version, cipher or signature that both know.
    Incompatible,
    /// What came is no TLS.
    Malformed,
    /// There is no protocol (ALPN) that both speak.
    NoProtocol,
    /// The client began to speak HTTP.
    PlainHttp,
    /// It took too long.
    TimedOut,
    /// No certificate is for the name that the client asked for.
    UnknownName,
}

impl Failed {
    /// Every reason, in the order of the labels.
    pub const ALL: [Self; 9] = [
        Self::Alert,
        Self::ClientCertificate,
        Self::Closed,
        Self::Incompatible,
        Self::Malformed,
        Self::NoProtocol,
        Self::PlainHttp,
        Self::TimedOut,
        Self::UnknownName,
    ];

    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alert => "alert",
            Self::ClientCertificate => "client_certificate",
            Self::Closed => "closed",
            Self::Incompatible => "incompatible",
            Self::Malformed => "malformed",
            Self::NoProtocol => "no_protocol",
            Self::PlainHttp => "plain_http",
            Self::TimedOut => "timed_out",
            Self::UnknownName => "unknown_name",
        }
    }

    /// What rustls says, in a word.
    #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum that may grow")]
    pub fn of(error: &Error) -> Self {
        match error {
            Error::AlertReceived(_) => Self::Alert,
            Error::NoCertificatesPresented
            | Error::InvalidCertificate(_)
            | Error::InvalidCertRevocationList(_)
            | Error::UnsupportedNameType => Self::ClientCertificate,
            Error::NoApplicationProtocol => Self::NoProtocol,
            // Also said when no certificate is for what the client can verify.
            Error::PeerIncompatible(_) | Error::General(_) => Self::Incompatible,
            // All else is about bytes that are not as they should be.
            _ => Self::Malformed,
        }
    }
}

/// How many handshakes ended in which way.
#[derive(Debug, Default)]
pub struct Tally {
    done: [AtomicU64; 4],
    failed: [AtomicU64; Failed::ALL.len()],
}

impl Tally {
    /// Every way to go well, in the order of the labels.
    pub const DONE: [Done; 4] = [
        Done { version: Version::Tls12, resumed: false },
        Done { version: Version::Tls12, resumed: true },
        Done { version: Version::Tls13, resumed: false },
        Done { version: Version::Tls13, resumed: true },
    ];

    /// Counts one that went well.
    pub fn note_done(&self, done: Done) {
        let place = Self::DONE.iter().position(|other| *other == done);
        if let Some(counter) = place.and_then(|place| self.done.get(place)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts one that failed.
    pub fn note_failed(&self, why: Failed) {
        if let Some(counter) = self.failed.get(why as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Those that went well.
    pub fn done(&self) -> impl Iterator<Item = (Done, u64)> + '_ {
        Self::DONE.into_iter().zip(self.done.iter().map(|count| count.load(Ordering::Relaxed)))
    }

    /// Those that failed.
    pub fn failed(&self) -> impl Iterator<Item = (Failed, u64)> + '_ {
        Failed::ALL.into_iter().zip(self.failed.iter().map(|count| count.load(Ordering::Relaxed)))
    }

    /// All of it by label, as one process hands it to the next.
    pub fn counted(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.labelled().map(|(label, count)| (label, count.load(Ordering::Relaxed)))
    }

    /// Adds what another process counted. Labels that this version does not know are left out.
    pub fn add(&self, counted: &BTreeMap<String, u64>) {
        for (label, own) in self.labelled() {
            own.fetch_add(counted.get(label).copied().unwrap_or_default(), Ordering::Relaxed);
        }
    }

    fn labelled(&self) -> impl Iterator<Item = (&'static str, &AtomicU64)> {
        let done = Self::DONE.into_iter().map(Done::label).zip(&self.done);
        done.chain(Failed::ALL.into_iter().map(Failed::as_str).zip(&self.failed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_handed_on_is_counted_where_it_belongs() {
        let (one, other) = (Tally::default(), Tally::default());
        for (place, done) in Tally::DONE.into_iter().enumerate() {
            (0..=place).for_each(|_| one.note_done(done));
        }
        for (place, why) in Failed::ALL.into_iter().enumerate() {
            (0..=place).for_each(|_| one.note_failed(why));
        }
        let mut handed: BTreeMap<String, u64> =
            one.counted().map(|(label, count)| (label.to_owned(), count)).collect();
        assert_eq!(handed.len(), Tally::DONE.len() + Failed::ALL.len());
        handed.insert("known later".into(), 7);
        other.add(&handed);
        assert_eq!(other.counted().collect::<Vec<_>>(), one.counted().collect::<Vec<_>>());
        assert_eq!(other.done().map(|(_, count)| count).collect::<Vec<_>>(), [1, 2, 3, 4]);
    }
}
