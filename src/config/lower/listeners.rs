//! The `listeners` section.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use super::super::fields::Problems;
use super::super::model::{Admin, Listener};
use super::super::problem::{Place, Problem};
use super::super::scalar;
use super::super::tree::Tree;
use super::acme::Asked;
use super::protocols::{Layer, protocols};
use super::proxy_protocol::networks;
use super::redirect::redirect;
use super::tls::tls;

/// Most listeners. Each is a socket and an accept loop.
const LISTENERS_MAX: usize = 256;

/// Reads where clients are accepted; no two may want the same port.
pub(super) fn listeners(
    tree: &Tree,
    admin: Option<&Admin>,
    directory: &Path,
    problems: &mut Problems,
) -> Vec<(Listener, Option<Asked>)> {
    let Some(items) = problems.list(tree) else { return Vec::new() };
    if !(1..=LISTENERS_MAX).contains(&items.len()) {
        let text = format!("expected 1 to {LISTENERS_MAX} listeners, found {}", items.len());
        problems.note(Problem::at(tree.place, text));
        return Vec::new();
    }
    let mut listeners: Vec<(Listener, Place, Option<Asked>)> = Vec::new();
    for item in items {
        let Some(mut fields) = problems.fields(item, "a listener") else { continue };
        let tree = fields.required("address", problems);
        let address = tree.and_then(|tree| problems.scalar(tree, scalar::listen_address));
        let proxy_protocol = networks(fields.optional("proxy_protocol"), problems);
        let secured = fields.optional("tls");
        let layer = secured.map_or(Layer::Plain, |_| Layer::Tls);
        let protocols = protocols(fields.optional("protocols"), layer, problems);
        let (tls, asked) = secured.map(|tree| tls(tree, directory, problems)).unwrap_or_default();
        let tls = tls.map(Arc::new);
        let redirect = redirect(&mut fields, layer, problems);
        fields.finish(problems);
        let (Some(tree), Some(address)) = (tree, address) else { continue };
        let taken =
            listeners.iter().find_map(|(first, at, _)| taken(address, first.address, at.line));
        let by_admin = admin.and_then(|admin| taken_by_admin(address, admin.address));
        if let Some(text) = taken {
            problems.note(Problem::at(tree.place, text));
        }
        if let Some(text) = by_admin {
            let help = "give `admin` another address, or switch it off: `admin: off`";
            problems.note(Problem::at(tree.place, text).help(help));
        }
        let acme = Default::default();
        let listener = Listener { address, protocols, proxy_protocol, tls, acme, redirect };
        listeners.push((listener, tree.place, asked));
    }
    listeners.into_iter().map(|(listener, _, asked)| (listener, asked)).collect()
}

/// Whether two sockets cannot listen side by side, and which of them leaves no room for the other.
fn clash(address: SocketAddr, other: SocketAddr) -> Option<Clash> {
    // Port 0 takes any free port: two of them are two listeners.
    if address.port() != other.port() || address.port() == 0 {
        return None;
    }
    // Linux takes IPv4 on `[::]` as well.
    let covers =
        |wide: IpAddr, ip: IpAddr| wide.is_unspecified() && (wide.is_ipv6() || ip.is_ipv4());
    if address == other {
        Some(Clash::Same)
    } else if covers(other.ip(), address.ip()) {
        Some(Clash::Covered)
    } else if covers(address.ip(), other.ip()) {
        Some(Clash::Covers)
    } else {
        None
    }
}

enum Clash {
    Covered,
    Covers,
    Same,
}

fn taken(address: SocketAddr, first: SocketAddr, line: usize) -> Option<String> {
    let how = match clash(address, first)? {
        Clash::Covered => format!("`{first}` on line {line} covers it"),
        Clash::Covers => format!("it covers `{first}` on line {line}"),
        Clash::Same => format!("first on line {line}"),
    };
    Some(format!("`{address}` is listened on twice; {how}"))
}

fn taken_by_admin(address: SocketAddr, admin: SocketAddr) -> Option<String> {
    Some(match clash(address, admin)? {
        Clash::Covered => format!("`{address}` is covered by the admin listener's `{admin}`"),
        Clash::Covers => format!("`{address}` covers the admin listener's `{admin}`"),
        Clash::Same => format!("`{address}` is the admin listener's"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(address: &str, first: &str, expected: Option<&str>) {
        let found = taken(address.parse().unwrap(), first.parse().unwrap(), 7);
        let expected = expected.map(|how| format!("`{address}` is listened on twice; {how}"));
        assert_eq!(found, expected);
    }

    #[test]
    fn an_address_that_covers_another_takes_its_port() {
        check("127.0.0.1:80", "0.0.0.0:80", Some("`0.0.0.0:80` on line 7 covers it"));
        check("127.0.0.1:80", "[::]:80", Some("`[::]:80` on line 7 covers it"));
        check("[::]:80", "0.0.0.0:80", Some("it covers `0.0.0.0:80` on line 7"));
        check("[::1]:80", "[::1]:80", Some("first on line 7"));
        check("[::1]:80", "0.0.0.0:80", None);
        check("127.0.0.1:80", "127.0.0.2:80", None);
        check("0.0.0.0:80", "0.0.0.0:81", None);
        check("0.0.0.0:0", "0.0.0.0:0", None);
    }
}
