//! `proxy_protocol`: of a listener, who says first for whom it connects; of an app, how its backends are told.

use ipnet::IpNet;

use super::super::fields::Problems;
use super::super::problem::Problem;
use super::super::scalar;
use super::super::tree::Tree;
use crate::balancer::app::protocol::BackendProtocol;
use crate::wire::proxied::Version;

/// Networks whose connections begin with a header.
pub(super) fn networks(tree: Option<&Tree>, problems: &mut Problems) -> Box<[IpNet]> {
    let items = tree.and_then(|tree| problems.list(tree)).unwrap_or(&[]);
    items.iter().filter_map(|item| problems.scalar(item, scalar::network)).collect()
}

/// The version that backends are told in, which are spoken to in `protocol`.
pub(super) fn proxy_protocol(
    tree: Option<&Tree>,
    protocol: BackendProtocol,
    problems: &mut Problems,
) -> Option<Version> {
    let version = problems.or_off(tree, None, |text| match text {
        "v1" => Ok(Version::V1),
        "v2" => Ok(Version::V2),
        _ => Err("expected `v1` or `v2`".into()),
    })?;
    if let (Some(tree), BackendProtocol::Auto(_)) = (tree, protocol) {
        // Each client has a connection of its own, and Pingora would remember for each, for ever, what was agreed on.
        let text = "`proxy_protocol` cannot be combined with `backend_protocol: auto`";
        let help = "say what the backends speak: `backend_protocol: h2` or `http/1.1`";
        problems.note(Problem::at(tree.place, text.to_owned()).help(help));
    }
    Some(version)
}
