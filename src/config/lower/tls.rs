//! `tls` of a listener.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::fields::{Fields, Problems};
use super::super::model::Doubt;
use super::super::problem::{Place, Problem};
use super::super::regular;
use super::super::scalar::{self, Switch};
use super::super::secret::{self, SecretError};
use super::super::tree::Tree;
use super::acme::{self, Asked};
use super::lapse::lapsed;
use super::path;
use crate::tls::certificate::{Certificate, CertificateError, KeyKind, Name};
use crate::tls::clients::{Clients, Demand};
use crate::tls::table::UnknownName;
use crate::tls::terms::{MinVersion, Resumption, Terms};

/// Most certificates of a listener. All are read whenever the configuration is.
const CERTIFICATES_MAX: usize = 10_000;

/// Longest file of certificates, in bytes: many authorities, or a long list of what was revoked.
const FILE_BYTES_MAX: u64 = 16 << 20;

const EXAMPLE: &str = "such as `certificates: [{ certificate: fullchain.pem, key: privkey.pem }]`";

/// Reads `tls` of a listener. Its files are read, too: nothing of it can fail later.
pub(super) fn tls(
    tree: &Tree,
    directory: &Path,
    problems: &mut Problems,
) -> (Option<Terms>, Option<Asked>) {
    let fields = Fields::of(tree, "`tls`").map_err(|problem| problem.help(EXAMPLE));
    let Some(mut fields) = problems.noted(fields) else { return (None, None) };
    let asked = fields.optional("acme").and_then(|tree| acme::asked(tree, problems));
    let listed = match asked {
        Some(_) => fields.optional("certificates"),
        None => fields.required("certificates", problems),
    };
    let certificates = match listed {
        Some(tree) => certificates(tree, directory, problems),
        // All that is shown is issued by an ACME server, or the absence was noted.
        None => asked.as_ref().map(|_| Vec::new()),
    };
    let terms = terms(fields, certificates, tree.place, directory, problems);
    (terms, asked)
}

fn terms(
    mut fields: Fields<'_>,
    certificates: Option<Vec<Arc<Certificate>>>,
    place: Place,
    directory: &Path,
    problems: &mut Problems,
) -> Option<Terms> {
    let versions = [("1.2", MinVersion::Tls12), ("1.3", MinVersion::Tls13)];
    let min_version = problems.choice(fields.optional("min_version"), &versions);
    let strict = switch(fields.optional("strict_sni"), problems);
    let tickets = switch(fields.optional("session_tickets"), problems);
    let asked = fields.optional("client_certificates");
    let clients = asked.and_then(|tree| clients(tree, directory, problems));
    fields.finish(problems);
    let unknown = match strict {
        Some(Switch::On) => UnknownName::Refuse,
        Some(Switch::Off) | None => UnknownName::Default,
    };
    let resumption = match tickets {
        Some(Switch::Off) => Resumption::Off,
        Some(Switch::On) | None => Resumption::Tickets,
    };
    let min_version = min_version.unwrap_or(MinVersion::Tls12);
    let terms = Terms::new(&certificates?, min_version, unknown, resumption, clients);
    problems.noted(terms.map_err(|error| Problem::at(place, error.to_string())))
}

fn switch(tree: Option<&Tree>, problems: &mut Problems) -> Option<Switch> {
    problems.scalar(tree?, scalar::switch)
}

/// Where a certificate is listed, and what it is.
type Listed = (Place, Arc<Certificate>);

fn certificates(
    tree: &Tree,
    directory: &Path,
    problems: &mut Problems,
) -> Option<Vec<Arc<Certificate>>> {
    let items = problems.list(tree)?;
    if !(1..=CERTIFICATES_MAX).contains(&items.len()) {
        let text = format!("expected 1 to {CERTIFICATES_MAX} certificates, found {}", items.len());
        problems.note(Problem::at(tree.place, text).help(EXAMPLE));
        return None;
    }
    let read = items.iter().filter_map(|item| certificate(item, directory, problems));
    let all: Vec<Listed> = read.collect();
    if all.len() < items.len() {
        return None;
    }
    doubles(&all, problems);
    Some(all.into_iter().map(|(_, certificate)| certificate).collect())
}

fn certificate(item: &Tree, directory: &Path, problems: &mut Problems) -> Option<Listed> {
    let fields = Fields::of(item, "a certificate").map_err(|problem| problem.help(EXAMPLE));
    let mut fields = problems.noted(fields)?;
    let chain_tree = fields.required("certificate", problems);
    let key_tree = fields.optional("key");
    fields.finish(problems);
    let chain_path = file(chain_tree?, directory, problems);
    // Some keep both in one file, as HAProxy wants it.
    let (key_path, key_place) = match key_tree {
        Some(tree) => (file(tree, directory, problems)?, tree.place),
        None => (chain_path.clone()?, chain_tree?.place),
    };
    let (chain_path, chain_place) = (chain_path?, chain_tree?.place);
    let chain = problems.noted(public(&chain_path, chain_place, "certificate"));
    if chain.is_none() && key_tree.is_none() {
        return None;
    }
    let key = problems.noted(private(&key_path, key_place));
    let found = Certificate::read(&chain?, &key?).map_err(|error| {
        let (place, path) = match error.is_of_key() {
            true => (key_place, &key_path),
            false => (chain_place, &chain_path),
        };
        let no_key = error == CertificateError::NoKey && key_tree.is_none();
        let help =
            if no_key { "name the file of the key: `key: privkey.pem`" } else { error.help() };
        Problem::at(place, format!("cannot use {}: {error}", path.display())).help(help)
    });
    let certificate = problems.noted(found)?;
    let whose = format!("{}: the certificate of `{}`", chain_path.display(), certificate.name());
    let (validity, fingerprint) = (certificate.validity(), certificate.fingerprint());
    let lapsed = lapsed(&whose, validity, fingerprint);
    problems.doubts.extend(lapsed.map(|lapsed| lapsed.at(chain_place)));
    Some((item.place, Arc::new(certificate)))
}

/// Refuses a certificate that nobody could ever be shown, and doubts one that is not shown for all its names.
fn doubles(all: &[Listed], problems: &mut Problems) {
    let mut first: HashMap<(&Name, KeyKind), Place> = HashMap::new();
    for (place, certificate) in all {
        let kind = certificate.kind();
        let taken: Vec<(&Name, Place)> = certificate
            .names()
            .iter()
            .filter_map(|name| {
                let earlier = *first.entry((name, kind)).or_insert(*place);
                (earlier != *place).then_some((name, earlier))
            })
            .collect();
        let Some((name, earlier)) = taken.first() else { continue };
        let kind = kind.as_str();
        if taken.len() == certificate.names().len() {
            let text = format!(
                "this certificate would never be shown: there is one of the same kind ({kind}) for `{name}` on line {}",
                earlier.line
            );
            problems.note(Problem::at(*place, text).help("take one of them out"));
        } else {
            let text = format!(
                "this certificate is not shown for `{name}`: the one on line {} is, of the same kind ({kind})",
                earlier.line
            );
            let problem =
                Problem::at(*place, text).help("the first counts; put it first if it should");
            problems.doubts.push(Doubt { problem, lapsed: None });
        }
    }
}

fn clients(tree: &Tree, directory: &Path, problems: &mut Problems) -> Option<Clients> {
    const EXAMPLE: &str = "such as `client_certificates: { ca: clients-ca.pem, required: on }`";
    let fields = Fields::of(tree, "`client_certificates`").map_err(|problem| problem.help(EXAMPLE));
    let mut fields = problems.noted(fields)?;
    let ca_tree = fields.required("ca", problems);
    let crl_tree = fields.optional("crl");
    let required = switch(fields.optional("required"), problems);
    fields.finish(problems);
    let mut read = |tree: &Tree, what| {
        let path = file(tree, directory, problems)?;
        let bytes = problems.noted(public(&path, tree.place, what))?;
        Some((path, bytes, tree.place))
    };
    let ca = ca_tree.and_then(|tree| read(tree, "authorities"));
    let crl = crl_tree.map(|tree| read(tree, "revocations"));
    let (ca_path, ca, ca_place) = ca?;
    let crl = match crl {
        Some(crl) => Some(crl?),
        None => None,
    };
    let demand = match required {
        Some(Switch::Off) => Demand::Optional,
        Some(Switch::On) | None => Demand::Required,
    };
    let lists = crl.as_ref().map(|(_, bytes, _)| bytes.as_slice());
    let clients = Clients::new(&ca, lists, demand).map_err(|error| {
        let (path, place) = match &crl {
            Some((path, _, place)) if error.is_of_list() => (path, *place),
            Some(_) | None => (&ca_path, ca_place),
        };
        Problem::at(place, format!("cannot use {}: {error}", path.display())).help(error.help())
    });
    problems.noted(clients)
}

/// A path, and the file there is watched from now on.
fn file(tree: &Tree, directory: &Path, problems: &mut Problems) -> Option<PathBuf> {
    let path = problems.scalar(tree, |text| path(text, directory))?;
    if !problems.files.contains(&path) {
        problems.files.push(path.clone());
    }
    Some(path)
}

fn public(path: &Path, place: Place, what: &str) -> Result<Vec<u8>, Problem> {
    regular::read(path, FILE_BYTES_MAX).map_err(|error| unreadable(path, place, what, &error))
}

fn unreadable(path: &Path, place: Place, what: &str, error: &io::Error) -> Problem {
    let text = format!("cannot read {what} file {}: {error}", path.display());
    Problem::at(place, text).help("relative paths start at the directory of this file")
}

fn private(path: &Path, place: Place) -> Result<Vec<u8>, Problem> {
    secret::bytes_of_file(path).map_err(|error| match &error {
        SecretError::Unreadable(path, error) => unreadable(path, place, "key", error),
        SecretError::Directory(_)
        | SecretError::Exposed(..)
        | SecretError::Missing(_)
        | SecretError::Unusable(..) => Problem::at(place, error.to_string()).help(error.help()),
    })
}
