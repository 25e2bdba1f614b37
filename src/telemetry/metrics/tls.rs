//! Metrics of TLS: there are none where no listener speaks it.

use std::collections::BTreeMap;

use super::{Family, Sources};
use crate::tls::tally::Done;

/// Handshakes, and when certificates expire.
pub(super) fn families(sources: &Sources) -> Vec<Family> {
    let certificates = (sources.certificates)();
    // Certificates of an ACME server are told by the metrics of ACME, their handshakes here.
    if certificates.is_empty() && sources.issued.standings().is_empty() {
        return Vec::new();
    }
    let mut done = Family::counter(
        "homing_tls_handshakes_total",
        "TLS handshakes of clients that went well, by version, and whether a session was resumed.",
    );
    for (Done { version, resumed }, count) in sources.handshakes.done() {
        let resumed = if resumed { "yes" } else { "no" };
        done.add(&[("version", version.as_str()), ("resumed", resumed)], count);
    }
    let mut failed = Family::counter(
        "homing_tls_handshake_failures_total",
        "TLS handshakes of clients that failed, by reason.",
    );
    for (why, count) in sources.handshakes.failed() {
        failed.add(&[("reason", why.as_str())], count);
    }
    let mut expiry = Family::gauge(
        "homing_tls_certificate_expiry_timestamp_seconds",
        "When a certificate expires, in Unix seconds, by its first name.",
    );
    let mut begin = Family::gauge(
        "homing_tls_certificate_begin_timestamp_seconds",
        "Since when a certificate is valid, in Unix seconds, by its first name.",
    );
    // Two of one name and kind are told as one, by the one that expires first.
    let mut first: BTreeMap<(String, String, &str), (u64, u64)> = BTreeMap::new();
    for (listener, certificate) in &certificates {
        let validity = certificate.validity();
        let seconds = |time: i64| u64::try_from(time).unwrap_or(0);
        let span = (seconds(validity.not_after), seconds(validity.not_before));
        let labels = (listener.to_string(), certificate.name(), certificate.kind().as_str());
        first.entry(labels).and_modify(|known| *known = span.min(*known)).or_insert(span);
    }
    for ((listener, name, key), (until, since)) in &first {
        let labels = [("listener", listener.as_str()), ("name", name), ("key", key)];
        expiry.add(&labels, *until);
        begin.add(&labels, *since);
    }
    vec![done, failed, expiry, begin]
}
