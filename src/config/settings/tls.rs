//! What differs in the TLS of a listener.

use std::sync::Arc;

use jiff::Timestamp;

use super::super::model::Listener;
use crate::balancer::change::Sign;
use crate::balancer::change::settings::{Setting, on_off, switch};
use crate::tls::certificate::Certificate;
use crate::tls::clients::{Clients, Demand};
use crate::tls::table::UnknownName;
use crate::tls::terms::{Resumption, Terms};

/// The settings of a listener's TLS, less its certificates.
pub(super) fn settings(terms: Option<&Terms>) -> [Setting; 5] {
    let or_none = |shown: fn(&Terms) -> String| terms.map_or_else(|| "none".into(), shown);
    [
        ("tls", switch(terms)),
        ("tls.min_version", or_none(|terms| terms.min_version().as_str().into())),
        ("tls.strict_sni", or_none(|terms| on_off(terms.unknown_name() == UnknownName::Refuse))),
        ("tls.session_tickets", or_none(|terms| on_off(terms.resumption() == Resumption::Tickets))),
        ("tls.client_certificates", or_none(|terms| clients(terms.clients()))),
    ]
}

fn clients(clients: Option<&Clients>) -> String {
    match clients.map(Clients::demand) {
        None => "off".into(),
        Some(Demand::Optional) => "optional".into(),
        Some(Demand::Required) => "required".into(),
    }
}

/// Certificates that come, go, or are replaced by others for the same names, and what the settings do not show.
pub(super) fn changes(before: &Listener, after: &Listener) -> Vec<(Sign, String)> {
    let of = |listener: &Listener| {
        listener.tls.as_ref().map_or_else(Vec::new, |terms| terms.certificates().to_vec())
    };
    let listener = format!("listener {}", after.address);
    let mut left: Vec<Arc<Certificate>> = of(before);
    let mut all = Vec::new();
    for next in of(after) {
        if let Some(place) = left.iter().position(|old| *old == next) {
            left.remove(place);
            continue;
        }
        let same = |old: &Arc<Certificate>| old.kind() == next.kind() && old.name() == next.name();
        match left.iter().position(same) {
            Some(place) => {
                let old = left.remove(place);
                let (name, from, to) = (named(&next), told(&old), told(&next));
                all.push((Sign::Changed, format!("{listener} certificate {name} {from} -> {to}")));
            }
            None => {
                let (name, told) = (named(&next), told(&next));
                all.push((Sign::Added, format!("{listener} certificate {name} {told}")));
            }
        }
    }
    for old in left {
        let (name, told) = (named(&old), told(&old));
        all.push((Sign::Removed, format!("{listener} certificate {name} {told}")));
    }
    let demanded = |listener: &Listener| {
        let clients = listener.tls.as_ref().and_then(|terms| terms.clients().cloned());
        clients.map(|clients| (clients.demand(), clients.digest()))
    };
    if let (Some((old, one)), Some((new, other))) = (demanded(before), demanded(after))
        && old == new
        && one != other
    {
        let text = format!("{listener} tls.client_certificates are verified by other files");
        all.push((Sign::Changed, text));
    }
    let order = |listener: &Listener| of(listener).first().map(|first| named(first));
    if let (Some(old), Some(new)) = (order(before), order(after))
        && old != new
    {
        all.push((Sign::Changed, format!("{listener} default certificate {old} -> {new}")));
    }
    all
}

/// A certificate by its first name and the kind of its key.
fn named(certificate: &Certificate) -> String {
    format!("`{}` ({})", certificate.name(), certificate.kind().as_str())
}

/// Which one it is, and for how long.
fn told(certificate: &Certificate) -> String {
    let until = Timestamp::from_second(certificate.validity().not_after);
    let until = until.map_or_else(|_| "never".into(), |at| at.to_string());
    format!("serial {} until {until}", certificate.serial())
}
