//! The `backend_tls`, `backend_protocol` and `backend_h2` keys of an app: how its backends are spoken to.

use std::time::Duration;

use super::super::fields::{Problems, Toggle};
use super::super::problem::Problem;
use super::super::scalar::{self, Switch};
use super::super::tree::Tree;
use super::SECOND;
use super::app::Scope;
use super::certificates::Certificates;
use crate::balancer::app::protocol::{BackendProtocol, H2Limits};
use crate::balancer::app::tls::{BackendTls, Made, Verify};
use crate::balancer::name::DomainPattern;

/// Reads `backend_tls`; `None`: backends speak in the clear.
pub(super) fn backend_tls(
    tree: &Tree,
    files: &mut Certificates<'_>,
    problems: &mut Problems,
) -> Option<BackendTls> {
    let tree = match problems.noted(Toggle::of(tree, "backend_tls", &[Switch::Off]))? {
        Toggle::Off | Toggle::On => return None,
        Toggle::Section(tree) => tree,
    };
    let mut fields = problems.fields(tree, "`backend_tls`")?;
    let server_name = fields.required("server_name", problems);
    let server_name = server_name.and_then(|tree| {
        problems.scalar(tree, |text| match DomainPattern::parse(text) {
            Ok(DomainPattern::Exact(name)) => Ok(name),
            Ok(DomainPattern::Below(_)) | Err(_) => Err("expected the name on the certificate"),
        })
    });
    let verify = fields.optional("verify").and_then(|tree| problems.scalar(tree, scalar::switch));
    let ca = fields.optional("ca");
    let (certificate, key) = (fields.optional("certificate"), fields.optional("key"));
    fields.finish(problems);
    let verify = match verify {
        Some(Switch::Off) => Verify::Off,
        Some(Switch::On) | None => Verify::Full,
    };
    if let (Some(ca), Verify::Off) = (ca, verify) {
        let problem =
            Problem::at(ca.place, "`ca` has no meaning with `verify: off`: nothing is checked");
        problems.note(problem.help("leave one of the two out"));
    }
    let authorities = ca.and_then(|tree| files.authorities(tree, problems));
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => files.identity(certificate, key, problems),
        (None, None) => None,
        (Some(tree), None) => {
            problems.note(Problem::at(tree.place, "`certificate` needs its `key`"));
            None
        }
        (None, Some(tree)) => {
            problems.note(Problem::at(tree.place, "`key` needs its `certificate`"));
            None
        }
    };
    let made = Made::default();
    Some(BackendTls { server_name: server_name?, verify, authorities, identity, made })
}

/// Reads `backend_protocol` with the limits in `backend_h2`.
pub(super) fn backend_protocol(
    tree: Option<&Tree>,
    limits: Option<&Tree>,
    tls: Option<&BackendTls>,
    scope: Scope<'_>,
    problems: &mut Problems,
) -> BackendProtocol {
    let limits = limits.map_or(H2Limits::DEFAULT, |tree| h2_limits(tree, problems));
    let words = [
        BackendProtocol::Http1,
        BackendProtocol::H2(limits),
        BackendProtocol::H2c(limits),
        BackendProtocol::Auto(limits),
    ];
    let words = words.map(|protocol| (protocol.as_str(), protocol));
    let (Some(tree), Some(protocol)) = (tree, problems.choice(tree, &words)) else {
        return BackendProtocol::Http1;
    };
    // In `defaults` it may be the apps that say the other.
    let Scope::App { .. } = scope else { return protocol };
    let word = protocol.as_str();
    match (protocol, tls) {
        (BackendProtocol::H2(_) | BackendProtocol::Auto(_), None) => {
            let text = format!("`{word}` needs `backend_tls`: it is agreed on there (ALPN)");
            let help = "say `h2c` for HTTP/2 in the clear, or `backend_tls: { server_name: … }`";
            problems.note(Problem::at(tree.place, text).help(help));
        }
        (BackendProtocol::H2c(_), Some(_)) => {
            let problem =
                Problem::at(tree.place, "`h2c` is HTTP/2 in the clear, and there is `backend_tls`");
            problems.note(problem.help("say `h2`, or `backend_tls: off`"));
        }
        _ => {}
    }
    protocol
}

fn h2_limits(tree: &Tree, problems: &mut Problems) -> H2Limits {
    let default = H2Limits::DEFAULT;
    let Some(mut fields) = problems.fields(tree, "`backend_h2`") else { return default };
    let streams = problems.number_or(fields.optional("streams"), &(1..=1000), default.streams);
    let window = (64 << 10)..=(16 << 20);
    let window_bytes = problems.size_or(fields.optional("window"), &window, default.window_bytes);
    let ping = fields.optional("ping_interval");
    let ping = problems.or_off(ping, default.ping, |text| {
        scalar::duration_within(text, &(SECOND..=Duration::from_secs(3600)))
    });
    fields.finish(problems);
    H2Limits { streams, window_bytes, ping }
}
