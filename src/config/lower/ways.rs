//! The `identify_by` list of an app: how its clients are known.

use std::collections::BTreeMap;

use super::super::fields::{Fields, Problems, unexpected};
use super::super::problem::Problem;
use super::super::scalar;
use super::super::tree::{Tree, Value};
use super::app::Scope;
use crate::balancer::affinity::way::{PathAfter, SessionCookie, WAYS_MAX, Way};
use crate::balancer::name::{BackendId, PathPrefix};

/// How many segments of a path stand for a client, unless the file says otherwise: those of SockJS.
const SEGMENTS: usize = 2;
/// The most of them.
const SEGMENTS_MAX: usize = 8;

/// Most routes of one session cookie: as many as an app may have backends.
const ROUTES_MAX: usize = 4096;

const EXAMPLE: &str = "such as `[cookie, { header: X-Session-Id }, address]`";

/// Reads the list; `cookie` is the name of our own.
pub(super) fn ways(
    tree: Option<&Tree>,
    cookie: &str,
    scope: Scope<'_>,
    problems: &mut Problems,
) -> Box<[Way]> {
    let by_cookie = || Box::new([Way::Cookie]);
    let Some(tree) = tree else { return by_cookie() };
    let Some(items) = problems.list(tree) else { return by_cookie() };
    if !(1..=WAYS_MAX).contains(&items.len()) {
        let text = format!("expected 1 to {WAYS_MAX} ways to know a client, found {}", items.len());
        problems.note(Problem::at(tree.place, text).help(EXAMPLE));
        return by_cookie();
    }
    let mut ways: Vec<Way> = Vec::new();
    for item in items {
        let Some(way) = way(item, cookie, scope, problems) else { continue };
        if ways.contains(&way) {
            problems.note(Problem::at(item.place, "this is on the list already"));
        } else if ways.contains(&Way::Address) {
            let text = "every client has an address: what stands behind it is never looked at";
            problems.note(Problem::at(item.place, text).help("put `address` last"));
        }
        ways.push(way);
    }
    ways.into()
}

fn way(tree: &Tree, cookie: &str, scope: Scope<'_>, problems: &mut Problems) -> Option<Way> {
    const EXPECTED: &str = "expected `cookie`, `address`, or one of `header`, `query`, `path_after` and \
                            `session_cookie` with what to look for";
    match &tree.value {
        Value::Scalar(word) if word == "cookie" => return Some(Way::Cookie),
        Value::Scalar(word) if word == "address" => return Some(Way::Address),
        Value::Map(_) => {}
        Value::Empty | Value::List(_) | Value::Scalar(_) => {
            problems.note(unexpected(tree, EXPECTED).help(EXAMPLE));
            return None;
        }
    }
    let mut fields = problems.fields(tree, "a way to know a client")?;
    let header = fields.optional("header");
    let query = fields.optional("query");
    let path = fields.optional("path_after");
    let session = fields.optional("session_cookie");
    let way = match (header, query, path, session) {
        (Some(tree), None, None, None) => {
            problems.scalar(tree, scalar::header_name).map(Way::Header)
        }
        (None, Some(tree), None, None) => problems.scalar(tree, scalar::parameter).map(Way::Query),
        (None, None, Some(tree), None) => path_after(tree, &mut fields, scope, problems),
        (None, None, None, Some(tree)) => session_cookie(tree, cookie, &mut fields, problems),
        _ => {
            let before = problems.found.len();
            fields.finish(problems);
            // A mistyped key was told by its name.
            if problems.found.len() == before {
                problems.note(Problem::at(tree.place, EXPECTED).help(EXAMPLE));
            }
            return None;
        }
    };
    fields.finish(problems);
    way
}

fn path_after(
    tree: &Tree,
    fields: &mut Fields<'_>,
    scope: Scope<'_>,
    problems: &mut Problems,
) -> Option<Way> {
    let segments = problems.number_or(fields.optional("segments"), &(1..=SEGMENTS_MAX), SEGMENTS);
    let prefix = problems.scalar(tree, PathPrefix::parse)?;
    let covers = |one: &PathPrefix, other: &PathPrefix| one.covers(other.as_str().as_bytes());
    let reaches = |own: &PathPrefix| covers(own, &prefix) || covers(&prefix, own);
    let prefixes = scope.prefixes().unwrap_or(&[]);
    if !prefixes.is_empty() && !prefixes.iter().any(reaches) {
        let text = format!("no request for `{prefix}` reaches this app");
        problems.note(
            Problem::at(tree.place, text).help("say the whole path, `path_prefixes` included"),
        );
    }
    Some(Way::PathAfter(PathAfter { prefix, segments }))
}

fn session_cookie(
    tree: &Tree,
    cookie: &str,
    fields: &mut Fields<'_>,
    problems: &mut Problems,
) -> Option<Way> {
    let routes = fields.optional("routes").map(|tree| routes(tree, problems));
    let name = problems.scalar(tree, scalar::cookie_name)?;
    if *name == *cookie {
        let text = format!("`{name}` is the cookie of Homing, not one of the app");
        let help = "name the app's own, or give ours another name: `cookie: { name: … }`";
        problems.note(Problem::at(tree.place, text).help(help));
    }
    Some(Way::SessionCookie(SessionCookie { name, routes: routes.unwrap_or_default() }))
}

/// Which backend each route means. One that is not on the list of backends is one that left it.
fn routes(tree: &Tree, problems: &mut Problems) -> BTreeMap<Box<str>, BackendId> {
    const HELP: &str = "such as `routes: { tomcat1: web.1 }`";
    let entries = match &tree.value {
        Value::Map(entries) if entries.len() <= ROUTES_MAX => entries,
        Value::Map(entries) => {
            let text = format!("expected at most {ROUTES_MAX} routes, found {}", entries.len());
            problems.note(Problem::at(tree.place, text));
            return BTreeMap::new();
        }
        Value::Empty | Value::List(_) | Value::Scalar(_) => {
            problems.note(unexpected(tree, "expected routes with their backends").help(HELP));
            return BTreeMap::new();
        }
    };
    let mut routes = BTreeMap::new();
    for entry in entries {
        let backend = problems.scalar(&entry.value, BackendId::parse);
        match scalar::route(&entry.key) {
            Ok(route) => routes.extend(backend.map(|id| (route, id))),
            Err(expected) => problems.note(Problem::at(entry.place, expected).help(HELP)),
        }
    }
    routes
}
