//! What would happen to a request now, and why, step by step: the same decision as for a real one.

mod tell;

use std::net::IpAddr;

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue, Uri};
use rand::Rng;
use serde::Serialize;

use super::affinity::way::Shown;
use super::affinity::{Affinity, Presented};
use super::app::members::Admission;
use super::app::view::{AppView, Tried};
use super::assign::{
    Assignment, Cause, Patience, Pressure, Queued, Request, admit, assign, had_stand_in, moved,
};
use super::state::Snapshot;

/// What would happen.
#[derive(Debug, Serialize)]
pub struct Explained {
    /// What was looked at, in order.
    pub steps: Vec<Step>,
    /// What would become of the pin; `None`: no app serves the request.
    pub outcome: Option<&'static str>,
    /// Why, where the outcome has a cause.
    pub cause: Option<&'static str>,
    /// Where the request would go, where that is not left to chance.
    pub backend: Option<String>,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub struct Step {
    /// What.
    pub what: &'static str,
    /// What was found.
    pub found: String,
}

/// A request to be explained.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// The name it asks for.
    pub host: &'a str,
    /// The path it asks for, with its query.
    pub uri: &'a Uri,
    /// Its cookies: a `Cookie` header, or the bare value of ours.
    pub cookies: &'a str,
    /// Its other headers.
    pub headers: HeaderMap,
    /// The address of its client.
    pub address: Option<IpAddr>,
}

/// Explains a request at `now` (Unix seconds), to a process under this pressure.
pub fn explain(
    snapshot: &Snapshot,
    asked: &Asked<'_>,
    pressure: Pressure,
    now: u64,
    rng: &mut impl Rng,
) -> Explained {
    let mut steps = Vec::new();
    let mut step = |what, found: String| steps.push(Step { what, found });
    let (host, path) = (asked.host, asked.uri.path());
    let Some(view) = snapshot.find(host.as_bytes(), path.as_bytes()) else {
        step("app", format!("none serves `{host}{path}`: the request fails with N04"));
        return Explained { steps, outcome: None, cause: None, backend: None };
    };
    let open = view.admissions().filter(|(_, admission)| *admission == Admission::Open).count();
    let all = view.app.backends.len();
    step("app", format!("{}, {open} of {all} backends open", view.app.name));
    tell::state(view, &mut step);
    tell::limits(&view.app.policy, &mut step);
    let headers = headers(view.app.affinity.as_ref(), asked);
    let shown = Shown { headers: &headers, uri: asked.uri, address: asked.address, memo: None };
    let known = view.app.read(&shown, now, rng);
    let presented = known.presented;
    match &view.app.affinity {
        Some(affinity) => tell::ways(view, affinity, &shown, now, &mut step),
        None => step("affinity", "off: every request goes to any backend".into()),
    }
    match known.adopted {
        Some(adopted) => step("foreign cookie", tell::led(view, adopted)),
        None if view.app.foreign.is_empty() => {}
        None => step("foreign cookie", tell::not_led(view, &presented)),
    }
    if let Some(affinity) = &view.app.affinity
        && let Some(found) = tell::home(view, affinity, &presented, now)
    {
        step("home", found);
    }
    let in_session = match &view.app.affinity {
        Some(affinity) if presented == Presented::Nothing => {
            let open = affinity.policy.start_on.is_open(&headers);
            if let Some(found) = tell::begins(affinity, open) {
                step("start", found);
            }
            open
        }
        Some(_) | None => false,
    };
    let request = Request {
        presented: &presented,
        tried: &Tried::NONE,
        patience: Patience::Waits,
        queued: Queued::Not,
        now,
        place: known.place,
        is_safe: true,
        in_session,
    };
    let refusal =
        (!view.maintenance).then(|| admit(view, &presented, false, pressure, 1)).flatten();
    let assignment = match refusal {
        Some(refusal) => Assignment::Refuse(refusal),
        None => assign(view, &request, rng),
    };
    if pressure == Pressure::High {
        let found = "little is left of connections or memory: nobody is let in without a pin";
        step("pressure", found.into());
    }
    if let Some(found) = tell::load(view, tell::slot_of_home(view, &presented)) {
        step("load", found);
    }
    step("decision", tell::decision(view, &request, &assignment));
    if let Some(told) = moved::from(view, &presented, &assignment) {
        step("told", format!("its new backend gets `X-Homing-Moved-From: {told}`"));
    }
    let backend = assignment.slot().filter(|_| !is_by_chance(view, &request, &assignment));
    Explained {
        outcome: Some(assignment.outcome().as_str()),
        cause: assignment.cause().map(Cause::as_str),
        backend: backend.map(|slot| view.app.backend(slot).id.to_string()),
        steps,
    }
}

/// The headers as a request shows them; a bare value of a cookie gets the name of ours.
fn headers(affinity: Option<&Affinity>, asked: &Asked<'_>) -> HeaderMap {
    let text = asked.cookies.trim().trim_start_matches("Cookie:").trim();
    let text = match affinity {
        Some(affinity) if !text.is_empty() && !text.contains('=') => {
            format!("{}={text}", affinity.cookie_name())
        }
        Some(_) | None => text.to_owned(),
    };
    let mut headers = asked.headers.clone();
    if let Ok(value) = HeaderValue::from_str(&text)
        && !value.is_empty()
    {
        headers.append(COOKIE, value);
    }
    headers
}

/// Whether the backend might be another one for the next request like this.
fn is_by_chance(view: &AppView, request: &Request<'_>, assignment: &Assignment) -> bool {
    if let Assignment::FollowOrMove(home, _) = assignment {
        return view.plan().is_some_and(|plan| plan.gives(*home));
    }
    let drawn =
        matches!(assignment, Assignment::Make(_) | Assignment::Move(..) | Assignment::Spread(_));
    drawn && request.place.is_none() && !is_known(view, request)
}

/// Whether a client that is moved goes to the same backend always: to the one that stood in for its home, or the
/// one that what it is known by leads to.
fn is_known(view: &AppView, request: &Request<'_>) -> bool {
    match request.presented {
        Presented::Key(_) => true,
        Presented::Pin(pin) => had_stand_in(view, pin),
        Presented::Nothing | Presented::Unusable(_) => false,
    }
}

#[cfg(test)]
mod tests;
