//! What is kept in the state directory: the account, the certificates, and what is under way. Each file is written
//! whole, for its owner alone.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::certificate::{Certificate, CertificateError, KeyPem};
use crate::config::regular;

/// Longest file that is believed to be ours, in bytes.
const BYTES_MAX: u64 = 16 << 20;

/// The directory below the state directory.
const DIRECTORY: &str = "acme";

const LOCK: &str = "lock";
const ACCOUNT: &str = "account.json";
const JOURNAL: &str = "orders.json";
const CERTIFICATES: &str = "certificates";

/// The files of one server.
#[derive(Clone, Debug)]
pub(super) struct Files {
    all: PathBuf,
    server: PathBuf,
}

/// What has to be known after a restart or a crash.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Journal {
    /// When orders were made, in Unix seconds, ascending.
    #[serde(default)]
    pub(super) orders: Vec<u64>,
    /// Names whose last order failed.
    #[serde(default)]
    pub(super) failed: BTreeMap<Box<str>, Failed>,
    /// Names whose server was asked when to renew their certificate.
    #[serde(default)]
    pub(super) asked: BTreeMap<Box<str>, Asked>,
    /// The order that is under way.
    #[serde(default)]
    pub(super) pending: Option<Pending>,
}

impl Journal {
    /// Whether nothing is known of any name.
    pub(super) fn is_empty(&self) -> bool {
        self.failed.is_empty() && self.asked.is_empty()
    }

    /// Forgets what is known of names other than these; says whether anything was.
    pub(super) fn forget_others(&mut self, names: impl Fn(&str) -> bool) -> bool {
        let known = |journal: &Self| journal.failed.len() + journal.asked.len();
        let before = known(self);
        self.failed.retain(|name, _| names(name));
        self.asked.retain(|name, _| names(name));
        known(self) < before
    }
}

/// What the server said when it was asked when to renew a certificate (RFC 9773).
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Asked {
    /// When the certificate expires that was asked for, in Unix seconds: for another one it says nothing.
    pub(super) expires: u64,
    /// When the server is asked again, in Unix seconds.
    pub(super) again: u64,
    /// When the certificate is renewed, in Unix seconds; `None`: the server suggested nothing.
    pub(super) renewal: Option<u64>,
}

/// What is known of a name whose last order failed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Failed {
    /// Orders that failed, one after another.
    pub(super) times: u32,
    /// How many of them since the server found no answer to its challenge.
    pub(super) unanswered: u32,
    /// When the next one may be made, in Unix seconds.
    pub(super) next: u64,
    /// Why the last one failed.
    pub(super) error: Box<str>,
}

/// An order that is under way.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Pending {
    /// The name it is for.
    pub(super) name: Box<str>,
    /// Where the server has it.
    pub(super) url: String,
    #[serde(with = "kept")]
    pub(super) key: KeyPem,
}

/// The account as it is kept.
#[derive(Deserialize, Serialize)]
pub(super) struct Account<C> {
    /// The contact that the server was told.
    pub(super) contact: Vec<Box<str>>,
    /// What the library needs, the key included.
    pub(super) credentials: C,
}

mod kept {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::KeyPem;

    pub(super) fn serialize<S: Serializer>(key: &KeyPem, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(key.secret())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<KeyPem, D::Error> {
        String::deserialize(from).map(KeyPem::kept)
    }
}

impl Files {
    /// Those of the server with this directory.
    pub(super) fn new(state_dir: &Path, directory: &str) -> Self {
        let all = state_dir.join(DIRECTORY);
        let server = all.join(server_name(directory));
        Self { all, server }
    }

    /// Takes the right to order; `None`: another process has it. It ends when the file is closed.
    ///
    /// # Errors
    /// When the directory cannot be made, or the system refuses.
    pub(super) fn lock(&self) -> io::Result<Option<File>> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(self.server.join(CERTIFICATES))?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(self.all.join(LOCK))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// The account, if there is one. What cannot be read is none: another one is made.
    pub(super) fn account<C: for<'de> Deserialize<'de>>(&self) -> Option<Account<C>> {
        document(&self.server.join(ACCOUNT))
    }

    pub(super) fn keep_account<C: Serialize>(&self, account: &Account<C>) -> io::Result<()> {
        regular::write(&self.server.join(ACCOUNT), &serde_json::to_vec(account)?)
    }

    pub(super) fn forget_account(&self) {
        let _not_there = fs::remove_file(self.server.join(ACCOUNT));
    }

    pub(super) fn journal(&self) -> Journal {
        document(&self.server.join(JOURNAL)).unwrap_or_default()
    }

    pub(super) fn keep_journal(&self, journal: &Journal) -> io::Result<()> {
        regular::write(&self.server.join(JOURNAL), &serde_json::to_vec(journal)?)
    }

    /// The certificate of a name, if there is one that can be served.
    pub(super) fn certificate(&self, name: &str) -> Option<Certificate> {
        let path = self.path(name);
        let pem = match regular::read(&path, BYTES_MAX) {
            Ok(pem) => pem,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot read a certificate: another one is ordered");
                return None;
            }
        };
        let read = String::from_utf8(pem).map_err(|_| CertificateError("it is not UTF-8".into()));
        match read.and_then(|pem| Certificate::read(&pem, name)) {
            Ok(certificate) => Some(certificate),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot use a certificate: another one is ordered");
                None
            }
        }
    }

    /// Keeps a key and a chain that were looked at.
    pub(super) fn keep_certificate(&self, name: &str, pem: &str) -> io::Result<()> {
        regular::write(&self.path(name), pem.as_bytes())
    }

    fn path(&self, name: &str) -> PathBuf {
        // A name has letters, digits, `-` and `.` only, and no empty label: no path leads elsewhere.
        self.server.join(CERTIFICATES).join(format!("{name}.pem"))
    }
}

fn document<T: for<'de> Deserialize<'de>>(path: &Path) -> Option<T> {
    let bytes = match regular::read(path, BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot read a file of ACME: it is made anew");
            return None;
        }
    };
    serde_json::from_slice(&bytes)
        .inspect_err(|error| {
            tracing::warn!(path = %path.display(), %error, "a file of ACME is damaged: it is made anew");
        })
        .ok()
}

/// A name of the directory of a server: what a person reads, and what tells two of one host apart.
fn server_name(directory: &str) -> String {
    let host = directory.trim_start_matches("https://").split('/').next().unwrap_or("");
    let plain = |c: char| if c.is_ascii_alphanumeric() || ".-".contains(c) { c } else { '_' };
    let mut name: String = host.chars().take(64).map(plain).collect();
    name.push('-');
    for byte in &Sha256::digest(directory.as_bytes())[..4] {
        let _infallible = write!(name, "{byte:02x}");
    }
    name
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn servers_are_kept_apart() {
        let names = [
            "https://a.example/directory",
            "https://a.example/staging",
            "https://a.example:14000/dir",
        ]
        .map(server_name);
        assert!(names[0].starts_with("a.example-") && names[0] != names[1]);
        assert!(names[2].starts_with("a.example_14000-"));
    }

    #[test]
    fn one_process_orders_and_another_one_after_it() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::new(directory.path(), "https://a.example/");
        let lock = files.lock().unwrap().unwrap();
        assert!(files.lock().unwrap().is_none());
        drop(lock);
        assert!(files.lock().unwrap().is_some());
    }

    #[test]
    fn what_is_under_way_is_kept_for_the_owner_alone_and_damage_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::new(directory.path(), "https://a.example/");
        let _lock = files.lock().unwrap();
        let pending = Pending {
            name: "a.example".into(),
            url: "https://a.example/order/1".into(),
            key: KeyPem::kept("secret".into()),
        };
        files.keep_journal(&Journal { pending: Some(pending), ..Journal::default() }).unwrap();
        let kept = files.journal().pending.unwrap();
        assert_eq!((kept.key.secret(), &*kept.name), ("secret", "a.example"));
        assert!(!format!("{kept:?}").contains("secret"));
        let path = files.server.join(JOURNAL);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&files.server)), (0o600, 0o700));
        fs::write(&path, "{\"orders\":").unwrap();
        assert!(files.journal().pending.is_none());
    }
}
