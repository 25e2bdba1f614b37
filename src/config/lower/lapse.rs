//! Certificates that are not valid now: a doubt, and no mistake.

use rustls::pki_types::UnixTime;

use super::super::model::Doubt;
use super::super::problem::{Place, Problem};
use crate::tls::Fingerprint;
use crate::tls::certificate::{Lapse, Validity};

/// What is said of a certificate that is not valid now.
#[derive(Clone)]
pub(super) struct Lapsed {
    text: String,
    help: &'static str,
    fingerprint: Fingerprint,
}

impl Lapsed {
    /// As a doubt about what stands at a place.
    pub(super) fn at(&self, place: Place) -> Doubt {
        let problem = Problem::at(place, self.text.clone()).help(self.help);
        Doubt { problem, lapsed: Some(self.fingerprint) }
    }
}

/// Whether a certificate is not valid now; `whose`: how it is told of. Whoever reads files may ask for the time as
/// well.
pub(super) fn lapsed(whose: &str, validity: Validity, fingerprint: Fingerprint) -> Option<Lapsed> {
    let now = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
    let (text, help) = match validity.lapse(now)? {
        Lapse::Expired => (
            format!("{whose} expired {} ago", span(now - validity.not_after)),
            "renew it; a reload takes the new one in by itself",
        ),
        Lapse::NotYet => (
            format!("{whose} is valid {} from now", span(validity.not_before - now)),
            "compare the clock of this machine with that of the authority",
        ),
    };
    Some(Lapsed { text, help, fingerprint })
}

/// A span in words that a person reads at a glance.
fn span(seconds: i64) -> String {
    let units = [(86_400, "days"), (3_600, "hours"), (60, "minutes")];
    let found = units.into_iter().find(|(unit, _)| seconds >= 2 * unit);
    let (unit, word) = found.unwrap_or((1, "seconds"));
    format!("{} {word}", seconds / unit)
}
