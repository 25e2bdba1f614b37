//! The `adopt` list of the `affinity` section: cookies of other load balancers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::super::fields::{Problems, unexpected};
use super::super::problem::{Problem, quoted};
use super::super::scalar;
use super::super::tree::{Entry, Tree, Value};
use super::app::Scope;
use super::firsts::Firsts;
use crate::balancer::affinity::foreign::{
    FOREIGN_MAX, ForeignCookie, ForeignKey, Format, VALUE_BYTES_MAX, VALUES_MAX,
};
use crate::balancer::name::BackendId;

/// Longest `key` and `service`, in bytes: nothing that other load balancers take is longer.
const WORD_BYTES_MAX: usize = 256;

/// The words for formats.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Word {
    Haproxy,
    IngressNginx,
    Map,
    Nginx,
    Traefik,
}

/// Reads the list; `own` is the name of our cookie.
pub(super) fn adopt(
    tree: Option<&Tree>,
    own: Option<&str>,
    scope: Scope<'_>,
    problems: &mut Problems,
) -> Arc<[ForeignCookie]> {
    let Some(tree) = tree else { return Arc::default() };
    let items = problems.list(tree).unwrap_or(&[]);
    if items.len() > FOREIGN_MAX {
        let text = format!("expected at most {FOREIGN_MAX} cookies, found {}", items.len());
        problems.note(Problem::at(tree.place, text));
    }
    let mut first: Firsts<(Box<str>, &str), usize> = Firsts::default();
    let mut cookies = Vec::new();
    for item in items {
        let Some(cookie) = foreign_cookie(item, scope, problems) else { continue };
        if own == Some(&*cookie.cookie) {
            let text = format!("`{}` is the name of our own cookie", cookie.cookie);
            let help = "give ours another name in `affinity.cookie.name`";
            problems.note(Problem::at(item.place, text).help(help));
        }
        let key = (cookie.cookie.clone(), cookie.format.as_str());
        if let Some(line) = first.earlier(key, item.place.line) {
            let text = format!("`{}` is listed with this format on line {line}", cookie.cookie);
            let help = "put the `values` of both in one";
            problems.note(Problem::at(item.place, text).help(help));
        }
        cookies.push(cookie);
    }
    cookies.into()
}

fn foreign_cookie(tree: &Tree, scope: Scope<'_>, problems: &mut Problems) -> Option<ForeignCookie> {
    let mut fields = problems.fields(tree, "a cookie to adopt")?;
    let cookie = fields.required("cookie", problems);
    let cookie = cookie.and_then(|tree| problems.scalar(tree, scalar::cookie_name));
    let words = [
        ("haproxy", Word::Haproxy),
        ("ingress_nginx", Word::IngressNginx),
        ("map", Word::Map),
        ("nginx", Word::Nginx),
        ("traefik", Word::Traefik),
    ];
    let format = fields.required("format", problems);
    let word = problems.choice(format, &words);
    let key_tree = fields.optional("key");
    let key = key_tree.and_then(|tree| problems.scalar(tree, text));
    let service_tree = fields.optional("service");
    let service = service_tree.and_then(|tree| problems.scalar(tree, text));
    let addresses_tree = fields.optional("addresses");
    let values_tree = fields.optional("values");
    fields.finish(problems);
    let addresses = map(addresses_tree, |text| address(word?, text), scope, problems);
    let values = map(values_tree, value, scope, problems);
    let word = word?;
    let keyed = matches!(word, Word::Haproxy | Word::Nginx);
    forbid(key_tree.filter(|_| !keyed), "`key` is for `haproxy` and `nginx`", problems);
    let served = word == Word::IngressNginx;
    forbid(service_tree.filter(|_| !served), "`service` is for `ingress_nginx`", problems);
    match (word, values_tree) {
        (Word::Map, None) => {
            let problem = Problem::at(tree.place, "a cookie of the format `map` has no `values`");
            problems.note(problem.help("such as `values: { one: web.1, two: web.2 }`"));
        }
        (Word::Map, Some(_)) => forbid(addresses_tree, "`map` knows no addresses", problems),
        (Word::Haproxy, _) if key_tree.is_none() => {
            let text = "only dynamic cookies of HAProxy hold addresses: they need `key`";
            forbid(addresses_tree, text, problems);
        }
        (Word::Haproxy | Word::IngressNginx | Word::Nginx | Word::Traefik, _) => {}
    }
    let key = key.map(|key| ForeignKey::new(key.as_bytes()));
    let format = match word {
        Word::Haproxy => Format::Haproxy { key },
        Word::IngressNginx => Format::IngressNginx { service },
        Word::Map => Format::Map,
        Word::Nginx => Format::Nginx { key },
        Word::Traefik => Format::Traefik,
    };
    Some(ForeignCookie { cookie: cookie?, format, values, addresses })
}

fn forbid(tree: Option<&Tree>, text: &str, problems: &mut Problems) {
    if let Some(tree) = tree {
        problems.note(Problem::at(tree.place, text).help("leave it out"));
    }
}

/// A section of any keys, each with the id of a backend. `wrong` says what a key should have been.
fn map(
    tree: Option<&Tree>,
    wrong: impl Fn(&str) -> Option<&'static str>,
    scope: Scope<'_>,
    problems: &mut Problems,
) -> BTreeMap<Box<str>, BackendId> {
    let Some(tree) = tree else { return BTreeMap::new() };
    let Value::Map(entries) = &tree.value else {
        problems.note(unexpected(tree, "expected ids of backends by what the cookie holds"));
        return BTreeMap::new();
    };
    if entries.len() > VALUES_MAX {
        let text = format!("expected at most {VALUES_MAX} of them, found {}", entries.len());
        problems.note(Problem::at(tree.place, text));
    }
    let mut map = BTreeMap::new();
    for Entry { key, place, value } in entries {
        if let Some(expected) = wrong(key) {
            let text = format!("{expected}, found {}", quoted(key));
            problems.note(Problem::at(*place, text));
        }
        let Some(id) = problems.scalar(value, BackendId::parse) else { continue };
        if scope.ids().is_some_and(|ids| !ids.contains(&id)) {
            let problem = Problem::at(value.place, format!("the app has no backend `{id}`"));
            problems.note(problem.help("name the one that takes its clients, or leave it out"));
        }
        map.insert(key.as_str().into(), id);
    }
    map
}

/// What is wrong with the value of a cookie (RFC 6265 §4.1.1, with the space and the quotes that are seen).
fn value(text: &str) -> Option<&'static str> {
    let fits = (1..=VALUE_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b';')
        && text.trim_ascii() == text;
    (!fits).then_some("expected a value of a cookie: 1 to 256 printable characters without `;`")
}

/// What is wrong with an address that another load balancer knew.
fn address(word: Word, text: &str) -> Option<&'static str> {
    let fits = match word {
        Word::Haproxy | Word::IngressNginx => text.parse::<SocketAddr>().is_ok(),
        Word::Map | Word::Nginx | Word::Traefik => {
            (1..=VALUE_BYTES_MAX).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_graphic())
        }
    };
    let expected = match word {
        Word::Haproxy | Word::IngressNginx => "expected an address such as `10.0.0.1:8080`",
        Word::Map | Word::Nginx => "expected the text of a `server` line such as `10.0.0.1:8080`",
        Word::Traefik => "expected the URL of a server such as `http://10.0.0.1:8080`",
    };
    (!fits).then_some(expected)
}

/// A word of another load balancer.
fn text(text: &str) -> Result<Box<str>, &'static str> {
    match (1..=WORD_BYTES_MAX).contains(&text.len()) {
        true => Ok(text.into()),
        false => Err("expected 1 to 256 bytes"),
    }
}
