//! The `acme` section, and the names of a listener that it is for.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::super::acme::{Acme, Authority, Challenge, ExternalAccount, MacKey, certifiable};
use super::super::fields::{Fields, Problems, unexpected};
use super::super::problem::{Place, Problem};
use super::super::regular;
use super::super::scalar::{self, Switch};
use super::super::tree::{Tree, Value};
use super::firsts::Firsts;
use super::secrets::secret_bytes;
use super::{DAY, SECOND, path};
use crate::balancer::name::DomainPattern;
use crate::balancer::shared::Shared;
use crate::balancer::state::AppSpec;

/// Names with certificates at most: each is an order, and the server is asked for no more than 90 in an hour.
const NAMES_MAX: usize = 1000;

/// Addresses of who is responsible.
const CONTACTS_MAX: usize = 10;

/// Longest file with certificates of authorities, in bytes. The system's own list has a quarter of this.
const CA_BYTES_MAX: u64 = 1 << 20;

/// Pause after the first order that failed: a server that allows five failures of a name in an hour sees four.
const RETRY_AFTER: Duration = Duration::from_secs(300);

const ACCOUNT_EXAMPLE: &str = "such as `external_account: { id: abc, key: { file: eab.key } }`";

/// What `acme` of a listener says, and where.
pub(super) struct Asked {
    names: Names,
    place: Place,
}

/// The names that a listener wants certificates for.
enum Names {
    /// The exact domains of all apps, as far as they can have a certificate.
    Domains,
    /// These, in lower case.
    Listed(Vec<Box<str>>),
}

impl Asked {
    /// The names, where these are the apps; in order.
    fn among(&self, apps: &[Shared<AppSpec>]) -> BTreeSet<Box<str>> {
        match &self.names {
            Names::Domains => {
                let domains = apps.iter().flat_map(|app| &app.policy.domains);
                domains.filter_map(certifiable).map(Into::into).collect()
            }
            Names::Listed(names) => names.iter().cloned().collect(),
        }
    }
}

/// Reads the section; `None`: no certificates are ordered.
pub(super) fn acme(tree: Option<&Tree>, directory: &Path, problems: &mut Problems) -> Option<Acme> {
    let mut fields = problems.fields(tree?, "`acme`")?;
    let url = fields.required("directory", problems);
    let url = url.and_then(|tree| problems.scalar(tree, directory_url));
    agreed(&mut fields, problems);
    let contact = fields.optional("contact").and_then(|tree| contacts(tree, problems));
    let challenges = fields.optional("challenges").map(|tree| challenges(tree, problems));
    let ca = fields.optional("ca").and_then(|tree| authority(tree, directory, problems));
    let account = fields.optional("external_account");
    let external_account = account.and_then(|tree| external_account(tree, directory, problems));
    let retry_after = fields.optional("retry_after");
    let retry_after = problems.duration_or(retry_after, &(SECOND..=DAY), RETRY_AFTER);
    fields.finish(problems);
    Some(Acme {
        directory: url?,
        contact: contact.unwrap_or_default(),
        challenges: challenges.unwrap_or_else(|| Challenge::ALL.to_vec()),
        ca,
        external_account,
        retry_after,
    })
}

/// The URL of a directory: the server speaks HTTPS and nothing else (RFC 8555 §6.1).
fn directory_url(text: &str) -> Result<Box<str>, &'static str> {
    const EXPECTED: &str =
        "expected the URL of a directory such as `https://acme-v02.api.letsencrypt.org/directory`";
    let url = scalar::url(text).map_err(|_| EXPECTED)?;
    if url.starts_with("https://") { Ok(url) } else { Err(EXPECTED) }
}

/// Nobody agrees for the operator.
fn agreed(fields: &mut Fields<'_>, problems: &mut Problems) {
    let help = "read the terms of service of the server (its directory names them), and write `terms_of_service_agreed: true`";
    let Some(tree) = fields.optional("terms_of_service_agreed") else {
        let text = "`acme` has no `terms_of_service_agreed`: the server gives an account to who agrees only";
        problems.note(Problem::at(fields.place, text).help(help));
        return;
    };
    if problems.scalar(tree, scalar::switch) == Some(Switch::Off) {
        let text = "the server gives an account to who agrees to its terms of service only";
        problems.note(Problem::at(tree.place, text).help(help));
    }
}

fn contacts(tree: &Tree, problems: &mut Problems) -> Option<Vec<Box<str>>> {
    let items = problems.list(tree)?;
    if items.len() > CONTACTS_MAX {
        let text = format!("expected at most {CONTACTS_MAX} contacts, found {}", items.len());
        problems.note(Problem::at(tree.place, text));
    }
    let contact = |text: &str| {
        let address = text.strip_prefix("mailto:").filter(|address| {
            let plain = |byte: u8| byte.is_ascii_graphic() && !b",?<>".contains(&byte);
            address.bytes().all(plain)
                && address.split_once('@').is_some_and(|(who, host)| {
                    !who.is_empty() && !host.is_empty() && !host.contains('@')
                })
        });
        match address {
            Some(_) => Ok(text.into()),
            None => Err("expected a contact such as `mailto:admin@example.com`"),
        }
    };
    Some(items.iter().filter_map(|item| problems.scalar(item, contact)).collect())
}

fn challenges(tree: &Tree, problems: &mut Problems) -> Vec<Challenge> {
    let Some(items) = problems.list(tree) else { return Vec::new() };
    if items.is_empty() {
        let text = "expected at least one challenge, found none";
        problems.note(Problem::at(tree.place, text).help("leave `challenges` out for both"));
    }
    let words = Challenge::ALL.map(|challenge| (challenge.as_str(), challenge));
    let mut first = Firsts::<&str, Place>::default();
    let mut found = Vec::new();
    for item in items {
        if matches!(&item.value, Value::Scalar(text) if text == "dns-01") {
            let text = "Homing does not answer `dns-01`: it changes no zones";
            let help = "expected `http-01` or `tls-alpn-01`; have certificates that need it made by another client, and name their files";
            problems.note(Problem::at(item.place, text).help(help));
            continue;
        }
        let Some(challenge) = problems.choice(Some(item), &words) else { continue };
        match first.earlier(challenge.as_str(), item.place) {
            Some(at) => {
                let (word, line) = (challenge.as_str(), at.line);
                let text = format!("`{word}` is there twice; first on line {line}");
                problems.note(Problem::at(item.place, text));
            }
            None => found.push(challenge),
        }
    }
    found
}

fn authority(tree: &Tree, directory: &Path, problems: &mut Problems) -> Option<Authority> {
    let file = problems.scalar(tree, |text| path(text, directory))?;
    problems.files.push(file.clone());
    let shown = file.display();
    let pem = match regular::read(&file, CA_BYTES_MAX) {
        Ok(pem) => pem,
        Err(error) => {
            let text = format!("cannot read {shown}: {error}");
            problems.note(Problem::at(tree.place, text));
            return None;
        }
    };
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    if certificates.is_ok_and(|certificates| !certificates.is_empty()) {
        return Some(Authority { file, pem });
    }
    let text = format!("expected certificates in PEM in {shown}, found none");
    let help = "name the certificate of the authority that signed the one of the ACME server";
    problems.note(Problem::at(tree.place, text).help(help));
    None
}

fn external_account(
    tree: &Tree,
    directory: &Path,
    problems: &mut Problems,
) -> Option<ExternalAccount> {
    let mut fields = problems.fields(tree, "`external_account`")?;
    let id = fields.required("id", problems);
    let id = id.and_then(|tree| {
        problems.scalar(tree, |text| {
            let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
            if fits { Ok(text.into()) } else { Err("expected the key identifier of the account") }
        })
    });
    let key = fields.required("key", problems).and_then(|tree| mac_key(tree, directory, problems));
    fields.finish(problems);
    Some(ExternalAccount { id: id?, key: key? })
}

/// The key as operators of servers give it: base64url.
fn mac_key(tree: &Tree, directory: &Path, problems: &mut Problems) -> Option<MacKey> {
    let text = secret_bytes(tree, "a key", ACCOUNT_EXAMPLE, directory, problems)?;
    let bare = text.trim_ascii();
    let bare = bare.strip_suffix(b"==").or(bare.strip_suffix(b"=")).unwrap_or(bare);
    match URL_SAFE_NO_PAD.decode(bare) {
        Ok(key) if !key.is_empty() => Some(MacKey::new(key)),
        Ok(_) | Err(_) => {
            let text = "expected a key in base64url, as the operator of the ACME server gave it";
            problems.note(Problem::at(tree.place, text));
            None
        }
    }
}

/// Reads `acme` of a listener: `on`, or a list of names.
pub(super) fn asked(tree: &Tree, problems: &mut Problems) -> Option<Asked> {
    let place = tree.place;
    if let Value::Scalar(text) = &tree.value {
        match scalar::switch(text) {
            Ok(Switch::On) => return Some(Asked { names: Names::Domains, place }),
            Ok(Switch::Off) => return None,
            Err(_) => {}
        }
    }
    let Value::List(items) = &tree.value else {
        let expected = "expected a list of names, or `on` for the exact domains of all apps";
        problems.note(unexpected(tree, expected));
        return Some(Asked { names: Names::Listed(Vec::new()), place });
    };
    let mut first = Firsts::<Box<str>, Place>::default();
    let mut names = Vec::new();
    for item in items {
        let Some(name) = name(item, problems) else { continue };
        match first.earlier(name.clone(), item.place) {
            Some(at) => {
                let text = format!("`{name}` is there twice; first on line {}", at.line);
                problems.note(Problem::at(item.place, text));
            }
            None => names.push(name),
        }
    }
    if items.is_empty() {
        let text = "expected at least one name, found none";
        problems.note(Problem::at(tree.place, text).help("leave `acme` out"));
    }
    Some(Asked { names: Names::Listed(names), place })
}

fn name(tree: &Tree, problems: &mut Problems) -> Option<Box<str>> {
    let domain = problems.scalar(tree, DomainPattern::parse)?;
    if let Some(name) = certifiable(&domain) {
        return Some(name.into());
    }
    let problem = match &domain {
        DomainPattern::Below(_) => {
            let text = format!(
                "no certificate for `{domain}`: a wildcard needs `dns-01`, and Homing changes no zones"
            );
            let help = "list the names one by one, or have the certificate made by another client and name its files";
            Problem::at(tree.place, text).help(help)
        }
        DomainPattern::Exact(_) => {
            let text = format!("no certificate for `{domain}`: expected the full name of a host");
            Problem::at(tree.place, text).help("such as `shop.example.com`")
        }
    };
    problems.note(problem);
    None
}

/// The names of each listener, which only the whole file tells, and what is wrong with them.
pub(super) fn names(
    section: Option<&Tree>,
    listeners: &[Option<Asked>],
    apps: &[Shared<AppSpec>],
    problems: &mut Problems,
) -> Vec<BTreeSet<Box<str>>> {
    let mut all = BTreeSet::new();
    let mut names = |asked: &Asked| {
        if section.is_none() {
            let help = "such as `acme: { directory: \"https://acme-v02.api.letsencrypt.org/directory\", terms_of_service_agreed: true }` at the top of the file";
            let text = "a listener has `acme`, and the file has no section `acme`";
            problems.note(Problem::at(asked.place, text).help(help));
        }
        let found = asked.among(apps);
        if found.is_empty() && matches!(asked.names, Names::Domains) {
            let text = "no app has a domain that a certificate can be had for";
            let help = "wildcards and addresses have none: list the names, such as `acme: [shop.example.com]`";
            problems.note(Problem::at(asked.place, text).help(help));
        }
        let before = all.len();
        all.extend(found.iter().cloned());
        if before <= NAMES_MAX && all.len() > NAMES_MAX {
            let count = all.len();
            let text = format!(
                "expected at most {NAMES_MAX} names with certificates of `acme`, found {count}"
            );
            problems.note(Problem::at(asked.place, text));
        }
        found
    };
    listeners.iter().map(|asked| asked.as_ref().map(&mut names).unwrap_or_default()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::lower;
    use super::*;

    fn problems(count: usize) -> Vec<Problem> {
        let names: Vec<String> = (0..count).map(|n| format!("a{n}.example.com")).collect();
        let file = format!(
            "acme: {{ directory: \"https://a.example\", terms_of_service_agreed: on }}
listeners: [{{ address: \"127.0.0.1:1\", tls: {{ acme: [{}] }} }}]
apps: [{{ name: a, domains: [a.example.com], backends: [] }}]
",
            names.join(", ")
        );
        lower(&file, Path::new(""), &[]).err().unwrap_or_default()
    }

    #[test]
    fn only_so_many_names_have_certificates() {
        assert_eq!(problems(NAMES_MAX), []);
        assert_eq!(problems(NAMES_MAX + 1).len(), 1);
    }
}
