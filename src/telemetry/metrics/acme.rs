//! Metrics of certificates that an ACME server gives: there are none where none are wanted.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Family, Sources};

/// Certificates that were ordered, and those that will be.
pub(super) fn families(sources: &Sources) -> Vec<Family> {
    let standings = sources.issued.standings();
    if standings.is_empty() {
        return Vec::new();
    }
    let read = |tally: &AtomicU64| tally.load(Ordering::Relaxed);
    let mut orders = Family::counter(
        "homing_acme_orders_total",
        "Orders of certificates, by what became of them.",
    );
    orders.add(&[("outcome", "issued")], read(&sources.tallies.acme_issued));
    orders.add(&[("outcome", "failed")], read(&sources.tallies.acme_failed));
    let mut next = Family::gauge(
        "homing_acme_next_order_timestamp_seconds",
        "When the certificate of a name is ordered next, in Unix seconds.",
    );
    let mut expiry = Family::gauge(
        "homing_acme_certificate_expiry_timestamp_seconds",
        "When the certificate of a name expires, in Unix seconds; 0: there is none.",
    );
    for standing in standings.iter() {
        let labels = [("name", &*standing.name)];
        next.add(&labels, standing.next);
        expiry.add(&labels, standing.expires.unwrap_or(0));
    }
    vec![orders, next, expiry]
}
