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
use super::lapse::{Lapsed, lapsed};
use super::path;
use crate::balancer::app::tls::{Authorities, Identity, PrivateKey};
use crate::tls::Fingerprint;
use crate::tls::certificate::Validity;
use crate::tls::key;

/// Longest file of certificates, in bytes. All authorities of a system need a quarter of it.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What is wrong with a file, and the way out.
type Wrong = (String, String);

/// What was found in a file, and whether it is valid now.
type Found<T> = Result<(T, Option<Lapsed>), Wrong>;

/// The files that were read so far. What many apps name is read once, and is there once.
pub(super) struct Certificates<'a> {
    directory: &'a Path,
    authorities: HashMap<PathBuf, Found<Arc<Authorities>>>,
    chains: HashMap<PathBuf, Found<Vec<Vec<u8>>>>,
    keys: HashMap<PathBuf, Found<PrivateKey>>,
}

impl<'a> Certificates<'a> {
    /// No files yet; relative paths start at `directory`.
    pub(super) fn of(directory: &'a Path) -> Self {
        Self {
            directory,
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
        let name = tree.value.text();
        let found = self.authorities.entry(file).or_insert_with_key(|file| {
            let read = || {
                let certificates = certificates(file)?;
                check_authorities(&certificates)?;
                let lapsed = lapsed_all(&certificates, file);
                Ok((Arc::new(Authorities::new(name.into(), certificates)), lapsed))
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
        let chain = self.chains.entry(chain_file).or_insert_with_key(|file| {
            let chain = certificates(file).map(|chain| {
                let whose = format!("{}: the certificate for backends", file.display());
                let lapsed = chain.first().and_then(|own| lapsed_one(own, &whose));
                (chain, lapsed)
            });
            chain.map_err(|text: String| {
                let text = format!("cannot use certificate {}: {text}", file.display());
                (
                    text,
                    "name a file with the certificate, and those between it and a CA (PEM)".into(),
                )
            })
        });
        let chain = noted(certificate, chain, problems);
        let own_key = self
            .keys
            .entry(key_file.clone())
            .or_insert_with_key(|file| Ok((private_key(file)?, None)));
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

fn noted<T: Clone>(tree: &Tree, found: &Found<T>, problems: &mut Problems) -> Option<T> {
    let wrong = |(text, help): &Wrong| Problem::at(tree.place, text.clone()).help(help.clone());
    let (found, lapsed) = problems.noted(found.as_ref().map_err(wrong))?;
    problems.doubts.extend(lapsed.as_ref().map(|lapsed| lapsed.at(tree.place)));
    Some(found.clone())
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

fn check_authorities(certificates: &[Vec<u8>]) -> Result<(), String> {
    let mut store = RootCertStore::empty();
    for (index, der) in certificates.iter().enumerate() {
        let added = store.add(CertificateDer::from(der.as_slice()));
        added.map_err(|error| format!("certificate {}: {error}", index + 1))?;
    }
    Ok(())
}

/// Whether no authority is valid now. An old one among others does no harm: whoever replaces one lists both for a
/// while.
fn lapsed_all(certificates: &[Vec<u8>], file: &Path) -> Option<Lapsed> {
    let whose = format!("{}: the authority", file.display());
    let mut all = certificates.iter().map(|der| lapsed_one(der, &whose));
    let first = all.next().flatten()?;
    all.all(|one| one.is_some()).then_some(first)
}

fn lapsed_one(der: &[u8], whose: &str) -> Option<Lapsed> {
    let certificate = parsed(der).ok()?;
    let validity = certificate.validity();
    let (not_before, not_after) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    lapsed(whose, Validity { not_before, not_after }, Fingerprint::of(der))
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
    let key = key::read(&text).map_err(|error| wrong(error.to_string(), error.help()))?;
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

    use super::super::super::{ConfigError, doubts, parse};

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
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let encrypted =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMII=\n-----END ENCRYPTED PRIVATE KEY-----\n";
        for (name, text) in [
            ("good.pem", good.as_str()),
            ("key.pem", &key.serialize_pem()),
            ("other.pem", &other.serialize_pem()),
            ("encrypted.pem", encrypted),
            ("empty.pem", ""),
            ("broken.pem", broken),
        ] {
            write(&directory, name, text);
        }
        let one = |keys: &str| said(&directory, keys).join("; ");
        assert_eq!(one("ca: good.pem").rsplit('/').next(), Some("good.pem"));
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
            (
                "certificate: good.pem, key: other.pem",
                "cannot use key other.pem: it is not that of the certificate",
            ),
            (
                "certificate: good.pem, key: good.pem",
                "cannot use key good.pem: there is no private key in it",
            ),
            (
                "certificate: good.pem, key: encrypted.pem",
                "cannot use key encrypted.pem: the key is encrypted",
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
    fn what_is_not_valid_now_is_a_doubt_wherever_an_app_has_it() {
        let directory = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let of = |years| params(years).self_signed(&key).unwrap().pem();
        let (good, old, early) = (of(2020..2090), of(2001..2002), of(2080..2090));
        write(&directory, "good.pem", &good);
        write(&directory, "old.pem", &old);
        write(&directory, "early.pem", &early);
        write(&directory, "both.pem", &format!("{old}{good}"));
        write(&directory, "none.pem", &format!("{early}{old}"));
        write(&directory, "key.pem", &key.serialize_pem());
        let expired = "expired ";
        let early = "is valid ";
        for (keys, expected) in [
            ("ca: good.pem", None),
            ("ca: both.pem", None),
            ("ca: old.pem", Some(("old.pem: the authority", expired))),
            ("ca: early.pem", Some(("early.pem: the authority", early))),
            ("ca: none.pem", Some(("none.pem: the authority", early))),
            ("certificate: good.pem, key: key.pem", None),
            (
                "certificate: old.pem, key: key.pem",
                Some(("old.pem: the certificate for backends", expired)),
            ),
        ] {
            let app = |name| {
                format!(
                    "  - name: {name}\n    domains: [{name}.test]\n    backend_tls: {{ server_name: a.internal, {keys} }}\n    backends: []\n"
                )
            };
            let source = format!(
                "state_dir: state\nlisteners: [{{ address: 127.0.0.1:0 }}]\napps:\n{}{}",
                app("a"),
                app("b")
            );
            let file = directory.path().join("edge.yaml");
            let config = parse(&file, source.clone()).unwrap();
            let told = doubts(&file, &source, &config).map(|told| told.to_string());
            let count = 2 * usize::from(expected.is_some());
            assert_eq!(config.doubts.len(), count, "{keys}: {told:?}");
            if let (Some((whose, how)), Some(told)) = (expected, &told) {
                assert!(told.contains(&format!("{whose} {how}")), "{keys}: {told}");
            }
        }
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
