//! When pins begin, and whether the app has a say in them: `start_on` and `obey_app`.

use super::super::fields::{Problems, unexpected};
use super::super::problem::Problem;
use super::super::scalar::{self, Switch};
use super::super::tree::{Tree, Value};
use super::app::Scope;
use crate::balancer::affinity::cookie::CookiePolicy;
use crate::balancer::affinity::start::{START_COOKIES_MAX, StartOn};

/// Whether the word of the app counts; by default it does not.
pub(super) fn obey_app(tree: Option<&Tree>, problems: &mut Problems) -> bool {
    tree.and_then(|tree| problems.scalar(tree, scalar::switch)) == Some(Switch::On)
}

/// Reads when pins begin; `obeyed`: whether the app may say so.
pub(super) fn start_on(
    tree: Option<&Tree>,
    obeyed: bool,
    cookie: Option<&CookiePolicy>,
    scope: Scope<'_>,
    problems: &mut Problems,
) -> StartOn {
    let Some(tree) = tree else { return StartOn::FirstRequest };
    match &tree.value {
        Value::Scalar(word) if word == "first_request" => StartOn::FirstRequest,
        Value::Scalar(word) if word == "signal" => {
            // Elsewhere an app may still allow it.
            if !obeyed && matches!(scope, Scope::App { .. }) {
                let text = "`start_on: signal` needs `obey_app: on`";
                let help =
                    "the app says `start` in `X-Homing-Affinity`, which nobody hears otherwise";
                problems.note(Problem::at(tree.place, text).help(help));
            }
            StartOn::Signal
        }
        Value::List(items) => StartOn::Cookies(cookies(tree, items, cookie, problems)),
        Value::Empty | Value::Map(_) | Value::Scalar(_) => {
            let expected = "expected `first_request`, `signal` or a list of cookies of the app";
            problems.note(unexpected(tree, expected));
            StartOn::FirstRequest
        }
    }
}

/// The names of the cookies by which the app opens a session.
fn cookies(
    tree: &Tree,
    items: &[Tree],
    cookie: Option<&CookiePolicy>,
    problems: &mut Problems,
) -> Box<[Box<str>]> {
    if !(1..=START_COOKIES_MAX).contains(&items.len()) {
        let count = items.len();
        let text = format!("expected 1 to {START_COOKIES_MAX} cookies of the app, found {count}");
        problems.note(Problem::at(tree.place, text).help("such as `start_on: [JSESSIONID]`"));
    }
    let ours = |name: &str| {
        cookie.is_some_and(|own| *own.name == *name || own.twin_name().as_deref() == Some(name))
    };
    let mut names: Vec<Box<str>> = Vec::new();
    for item in items {
        let Some(name) = problems.scalar(item, scalar::cookie_name) else { continue };
        if ours(&name) {
            let problem = Problem::at(item.place, format!("`{name}` is the affinity cookie"));
            problems.note(problem.help("name the cookie by which the app opens a session"));
        } else if names.contains(&name) {
            problems.note(Problem::at(item.place, "this is on the list already"));
        } else {
            names.push(name);
        }
    }
    names.into()
}
