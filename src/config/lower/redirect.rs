//! `redirect_to_https` and `https_port` of a listener.

use super::super::fields::{Fields, Problems};
use super::super::model::Redirect;
use super::super::problem::Problem;
use super::super::scalar::{self, Switch};
use super::protocols::Layer;

/// Keeps method and body, and may be remembered.
const PERMANENT: u16 = 308;

/// The port of `https`.
const HTTPS: u16 = 443;

/// Reads whether clients are sent to TLS, and how. A listener with TLS has nobody to send there.
pub(super) fn redirect(
    fields: &mut Fields<'_>,
    layer: Layer,
    problems: &mut Problems,
) -> Option<Redirect> {
    let (tree, port_tree) = (fields.optional("redirect_to_https"), fields.optional("https_port"));
    let port = problems.number_or(port_tree, &(1..=u16::MAX), HTTPS);
    let status = tree.and_then(|tree| problems.scalar(tree, status));
    if let (Some(tree), None) = (port_tree, tree) {
        let problem =
            Problem::at(tree.place, "`https_port` means nothing without `redirect_to_https`");
        problems.note(problem.help("add `redirect_to_https: on`, or leave it out"));
    }
    let redirect = Redirect { status: status??, port };
    if let (Layer::Tls, Some(tree)) = (layer, tree) {
        let problem =
            Problem::at(tree.place, "this listener has `tls`: whoever comes here came over it");
        problems.note(problem.help("move `redirect_to_https` to the listener without `tls`"));
    }
    Some(redirect)
}

fn status(text: &str) -> Result<Option<u16>, &'static str> {
    match (text, scalar::switch(text)) {
        (_, Ok(Switch::Off)) => Ok(None),
        (_, Ok(Switch::On)) => Ok(Some(PERMANENT)),
        ("301", _) => Ok(Some(301)),
        ("302", _) => Ok(Some(302)),
        ("307", _) => Ok(Some(307)),
        ("308", _) => Ok(Some(308)),
        _ => Err("expected `on` (308), `off`, `301`, `302`, `307` or `308`"),
    }
}
