//! Certificates and keys that apps name by file: what we trust of backends, and what we show them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_peers::certificate::X509Certificate;
use x509_peers::prelude::FromDer;

use super::super::fields::Problems;
use super::super::problem::Problem;
use super::super::tree::Tree;
use super::super::{regular, secret};
use super::path;
use crate::balancer::app::tls::{Authorities, Identity, PrivateKey};

/// Longest file of certificates, in bytes. All authorities of a system need a quarter of it.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What is wrong with a file, and the way out.
type Wrong = (String, String);

/// The files that were read so far. What many apps name is read once, and is there once.
pub(super) struct Certificates<'a> {
    directory: &'a Path,
    /// Now, in Unix seconds: what certificates are held against.
    now: i64,
    authorities: HashMap<PathBuf, Result<Arc<Authorities>, Wrong>>,
    chains: HashMap<PathBuf, Result<Vec<Vec<u8>>, Wrong>>,
    keys: HashMap<PathBuf, Result<PrivateKey, Wrong>>,
}

impl<'a> Certificates<'a> {
    /// No files yet; relative paths start at `directory`.
    pub(super) fn of(directory: &'a Path) -> Self {
        Self {
            directory,
            now: jiff::Timestamp::now().as_second(),
            authorities: HashMap::new(),
            chains: HashMap::new(),
            keys: HashMap::new(),
        }
    }

    /// The authorities in a file of PEM.
    pub(super) fn authorities(
        &mut self,
        tree: &Tree,
        problems: &mut Problems,
    ) -> Option<Arc<Authorities>> {
        let file = self.file(tree, problems)?;
        let (now, name) = (self.now, tree.value.text());
        let found = self.authorities.entry(file).or_insert_with_key(|file| {
            let read = || {
                let certificates = certificates(file)?;
                check_authorities(&certificates, now)?;
                Ok(Arc::new(Authorities::new(name.into(), certificates)))
            };
            read().map_err(|text: String| {
                let text = format!("cannot use authorities {}: {text}", file.display());
                (text, "name a file of certificates (PEM), such as that of your own CA".into())
            })
        });
        noted(tree, found, problems)
    }

    /// A certificate of ours with those between it and an authority, in one file of PEM, and its key in another.
    pub(super) fn identity(
        &mut self,
        certificate: &Tree,
        key: &Tree,
        problems: &mut Problems,
    ) -> Option<Arc<Identity>> {
        let files = (self.file(certificate, problems), self.file(key, problems));
        let (Some(chain_file), Some(key_file)) = files else { return None };
        let now = self.now;
        let chain = self.chains.entry(chain_file).or_insert_with_key(|file| {
            let read = || {
                let chain = certificates(file)?;
                check_own(&chain, now)?;
                Ok(chain)
            };
            read().map_err(|text: String| {
                let text = format!("cannot use certificate {}: {text}", file.display());
                (
                    text,
                    "name a file with the certificate, and those between it and a CA (PEM)".into(),
                )
            })
        });
        let chain = noted(certificate, chain, problems);
        let own_key =
            self.keys.entry(key_file.clone()).or_insert_with_key(|file| private_key(file));
        let own_key = noted(key, own_key, problems);
        let (chain, own_key) = (chain?, own_key?);
        if let Err(text) = check_pair(&chain, &own_key) {
            let text = format!("cannot use key {}: {text}", key_file.display());
            let help = "name the key that this certificate was made for";
            problems.note(Problem::at(key.place, text).help(help));
            return None;
        }
        Some(Arc::new(Identity::new(certificate.value.text().into(), chain, own_key)))
    }

    /// The path of a file, which is looked at from now on.
    fn file(&self, tree: &Tree, problems: &mut Problems) -> Option<PathBuf> {
        let file = problems.scalar(tree, |text| path(text, self.directory))?;
        if !problems.files.contains(&file) {
            problems.files.push(file.clone());
        }
        Some(file)
    }
}

fn noted<T: Clone>(tree: &Tree, found: &Result<T, Wrong>, problems: &mut Problems) -> Option<T> {
    let wrong = |(text, help): &Wrong| Problem::at(tree.place, text.clone()).help(help.clone());
    problems.noted(found.as_ref().map_err(wrong)).cloned()
}

/// All certificates of a file (DER), each of which can be read.
fn certificates(file: &Path) -> Result<Vec<Vec<u8>>, String> {
    let text = regular::read(file, FILE_BYTES_MAX).map_err(|error| error.to_string())?;
    let mut all = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| format!("it is not PEM: {error:?}"))?;
        all.push(certificate.to_vec());
    }
    if all.is_empty() {
        return Err("there is no certificate in it (PEM)".into());
    }
    for (index, der) in all.iter().enumerate() {
        parsed(der).map_err(|text| format!("certificate {} {text}", index + 1))?;
    }
    Ok(all)
}

fn parsed(der: &[u8]) -> Result<X509Certificate<'_>, &'static str> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) | Err(_) => Err("is malformed"),
    }
}

/// An old one among them does no harm: whoever replaces an authority lists both for a while.
fn check_authorities(certificates: &[Vec<u8>], now: i64) -> Result<(), String> {
    let mut store = RootCertStore::empty();
    for (index, der) in certificates.iter().enumerate() {
        let added = store.add(CertificateDer::from(der.as_slice()));
        added.map_err(|error| format!("certificate {}: {error}", index + 1))?;
    }
    let mut outdated = certificates.iter().map(|der| validity(der, now));
    let first = outdated.next().unwrap_or(Ok(()));
    if first.is_ok() || outdated.any(|one| one.is_ok()) { Ok(()) } else { first }
}

fn check_own(chain: &[Vec<u8>], now: i64) -> Result<(), String> {
    chain.first().map_or(Ok(()), |own| validity(own, now))
}

fn validity(der: &[u8], now: i64) -> Result<(), String> {
    let certificate = parsed(der)?;
    let validity = certificate.validity();
    let (begins, ends) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    if now > ends {
        return Err(format!("it expired on {}", day(ends)));
    }
    if now < begins {
        return Err(format!("it is valid only from {} on", day(begins)));
    }
    Ok(())
}

fn day(seconds: i64) -> String {
    let time = jiff::Timestamp::from_second(seconds);
    time.map_or_else(|_| "another day".into(), |time| time.strftime("%Y-%m-%d").to_string())
}

fn private_key(file: &Path) -> Result<PrivateKey, Wrong> {
    let wrong = |text: String, help: &str| {
        (format!("cannot use key {}: {text}", file.display()), help.to_owned())
    };
    let help = "name a file with the key of the certificate (PEM, without a password)";
    let text = match secret::bytes_of_file(file) {
        Err(error @ secret::SecretError::Exposed(..)) => {
            return Err((error.to_string(), error.help()));
        }
        Err(secret::SecretError::Unreadable(_, error)) => {
            return Err(wrong(error.to_string(), help));
        }
        Err(error) => return Err((error.to_string(), help.into())),
        Ok(text) => text,
    };
    let key = PrivateKeyDer::from_pem_slice(&text)
        .map_err(|_| wrong("there is no private key in it (PEM)".into(), help))?;
    Ok(PrivateKey::new(key.secret_der()))
}

fn check_pair(chain: &[Vec<u8>], key: &PrivateKey) -> Result<(), String> {
    let chain = chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
    let key = PrivateKeyDer::try_from(key.der().to_vec())
        .map_err(|_| "it is of no kind that is known".to_owned())?;
    match CertifiedKey::from_der(chain, key, &ring::default_provider()) {
        Ok(_) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => Err("it is not that of the certificate".into()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use rcgen::{CertificateParams, Issuer, KeyPair};
    use tempfile::TempDir;

    use super::super::super::{ConfigError, parse};

    fn write(directory: &TempDir, name: &str, text: &str) {
        let file = directory.path().join(name);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn params(years: std::ops::Range<i32>) -> CertificateParams {
        let mut params = CertificateParams::new(vec!["shop.internal".into()]).unwrap();
        params.not_before = rcgen::date_time_ymd(years.start, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.end, 1, 1);
        params
    }

    /// What is said of `backend_tls` with these keys.
    fn said(directory: &TempDir, keys: &str) -> Vec<String> {
        let source = format!(
            "state_dir: state\nlisteners: [{{ address: 127.0.0.1:0 }}]\napps:\n  - name: a\n    domains: [a.test]\n    \
             backend_tls: {{ server_name: a.internal, {keys} }}\n    backends: []\n"
        );
        let file = directory.path().join("edge.yaml");
        let home = directory.path().display().to_string();
        match parse(&file, source) {
            Ok(config) => config.files.iter().map(|file| file.display().to_string()).collect(),
            Err(ConfigError::Wrong(report)) => {
                let text = report.to_string().replace(&format!("{home}/"), "");
                text.lines()
                    .filter_map(|line| Some(line.split_once("error: ")?.1.to_owned()))
                    .collect()
            }
            Err(error) => vec![error.to_string()],
        }
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_where_the_file_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let good = params(2020..2090).self_signed(&key).unwrap().pem();
        let old = params(2001..2002).self_signed(&key).unwrap().pem();
        let early = params(2080..2090).self_signed(&key).unwrap().pem();
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (name, text) in [
            ("good.pem", good.as_str()),
            ("old.pem", &old),
            ("both.pem", &format!("{old}{good}")),
            ("early.pem", &early),
            ("key.pem", &key.serialize_pem()),
            ("other.pem", &other.serialize_pem()),
            ("empty.pem", ""),
            ("broken.pem", broken),
        ] {
            write(&directory, name, text);
        }
        let one = |keys: &str| said(&directory, keys).join("; ");
        assert_eq!(one("ca: good.pem").rsplit('/').next(), Some("good.pem"));
        assert_eq!(one("ca: both.pem").rsplit('/').next(), Some("both.pem"));
        for (keys, text) in [
            (
                "ca: none.pem",
                "cannot use authorities none.pem: No such file or directory (os error 2)",
            ),
            (
                "ca: empty.pem",
                "cannot use authorities empty.pem: there is no certificate in it (PEM)",
            ),
            ("ca: key.pem", "cannot use authorities key.pem: there is no certificate in it (PEM)"),
            ("ca: broken.pem", "cannot use authorities broken.pem: certificate 1 is malformed"),
            ("ca: old.pem", "cannot use authorities old.pem: it expired on 2002-01-01"),
            (
                "ca: early.pem",
                "cannot use authorities early.pem: it is valid only from 2080-01-01 on",
            ),
            (
                "certificate: old.pem, key: key.pem",
                "cannot use certificate old.pem: it expired on 2002-01-01",
            ),
            (
                "certificate: good.pem, key: other.pem",
                "cannot use key other.pem: it is not that of the certificate",
            ),
            (
                "certificate: good.pem, key: good.pem",
                "cannot use key good.pem: there is no private key in it (PEM)",
            ),
            (
                "certificate: good.pem, key: none.pem",
                "cannot use key none.pem: No such file or directory (os error 2)",
            ),
        ] {
            assert_eq!(one(keys), text);
        }
        assert_eq!(said(&directory, "certificate: good.pem, key: key.pem").len(), 2);
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        write(&directory, "good.pem", &params(2020..2090).self_signed(&key).unwrap().pem());
        write(&directory, "key.pem", &key.serialize_pem());
        let file = directory.path().join("key.pem");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(
            said(&directory, "certificate: good.pem, key: key.pem"),
            ["secret file key.pem may be read by others (mode 0644)"]
        );
    }

    #[test]
    fn a_certificate_may_come_with_those_between_it_and_an_authority() {
        let directory = tempfile::tempdir().unwrap();
        let (root, own) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let authority = params(2020..2090);
        let issuer = Issuer::from_params(&authority, &root);
        let leaf = params(2020..2090).signed_by(&own, &issuer).unwrap().pem();
        let above = authority.self_signed(&root).unwrap().pem();
        write(&directory, "chain.pem", &format!("{leaf}{above}"));
        write(&directory, "key.pem", &own.serialize_pem());
        assert_eq!(said(&directory, "certificate: chain.pem, key: key.pem").len(), 2);
        // In the wrong order the key is that of another.
        write(&directory, "chain.pem", &format!("{above}{leaf}"));
        assert_eq!(
            said(&directory, "certificate: chain.pem, key: key.pem"),
            ["cannot use key key.pem: it is not that of the certificate"]
        );
    }
}
