//! `proxy_protocol`: of a listener, who says first for whom it connects; of an app, how its backends are told.

use ipnet::IpNet;

use super::super::fields::Problems;
use super::super::scalar;
use super::super::tree::Tree;
use crate::wire::proxied::Version;

/// Networks whose connections begin with a header.
pub(super) fn networks(tree: Option<&Tree>, problems: &mut Problems) -> Box<[IpNet]> {
    let items = tree.and_then(|tree| problems.list(tree)).unwrap_or(&[]);
    items.iter().filter_map(|item| problems.scalar(item, scalar::network)).collect()
}

/// The version that backends are told in.
pub(super) fn proxy_protocol(tree: Option<&Tree>, problems: &mut Problems) -> Option<Version> {
    problems.or_off(tree, None, |text| match text {
        "v1" => Ok(Version::V1),
        "v2" => Ok(Version::V2),
        _ => Err("expected `v1` or `v2`".into()),
    })
}
