//! The limits of an app as keys and values of the file.

use super::settings::{Setting, shown};
use crate::balancer::app::limits::{AppLimits, OnOverload, RateLimit};

/// The keys of `limits`.
pub(super) fn settings(limits: &AppLimits) -> Vec<Setting> {
    let on_overload = match limits.on_overload {
        OnOverload::Move => "move",
        OnOverload::Refuse => "refuse",
    };
    vec![
        ("limits.app_in_flight", or_off(limits.app_in_flight)),
        ("limits.backend_in_flight", or_off(limits.backend_in_flight)),
        ("limits.queue", limits.queue.to_string()),
        ("limits.queue_timeout", shown(limits.queue_timeout)),
        ("limits.reserve_percent", limits.reserve_percent.to_string()),
        ("limits.on_overload", on_overload.into()),
        ("limits.connections", or_off(limits.connections)),
        ("limits.max_body", or_off(limits.max_body)),
        ("limits.body_rate", or_off(limits.body_rate)),
        ("limits.read_rate", or_off(limits.read_rate)),
        ("limits.rate_grace", shown(limits.rate_grace)),
    ]
}

/// The keys of `rate_limit`.
pub(super) fn rate(limit: &RateLimit) -> [Setting; 3] {
    [
        ("rate_limit.requests", limit.requests.to_string()),
        ("rate_limit.per", shown(limit.per)),
        ("rate_limit.burst", limit.burst.to_string()),
    ]
}

fn or_off(limit: Option<u64>) -> String {
    limit.map_or_else(|| "off".into(), |limit| limit.to_string())
}
