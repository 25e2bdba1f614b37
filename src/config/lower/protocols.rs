//! `protocols` of a listener.

use super::super::fields::Problems;
use super::super::model::Protocols;
use super::super::problem::Problem;
use super::super::tree::Tree;

/// Whether a listener speaks TLS.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Layer {
    Plain,
    Tls,
}

/// What one word of the list says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Word {
    H2,
    H2c,
    Http1,
}

const WORDS: [(&str, Word); 3] = [("h2", Word::H2), ("h2c", Word::H2c), ("http/1.1", Word::Http1)];

/// Reads what a listener speaks. With TLS client and listener agree on one of both by default; without it, they
/// cannot agree, and HTTP/2 needs a listener of its own.
pub(super) fn protocols(tree: Option<&Tree>, layer: Layer, problems: &mut Problems) -> Protocols {
    let default = Protocols { http1: true, http2: layer == Layer::Tls };
    let Some(tree) = tree else { return default };
    let Some(items) = problems.list(tree) else { return default };
    let found = items.iter().filter_map(|item| problems.choice(Some(item), &WORDS));
    let words: Vec<Word> = found.collect();
    if words.len() < items.len() {
        return default;
    }
    match problems.noted(agreed(tree, &words, layer)) {
        Some(protocols) => protocols,
        None => default,
    }
}

fn agreed(tree: &Tree, words: &[Word], layer: Layer) -> Result<Protocols, Problem> {
    let has = |word| words.contains(&word);
    let protocols = Protocols { http1: has(Word::Http1), http2: has(Word::H2) || has(Word::H2c) };
    let refused =
        |text: &str, help: &'static str| Err(Problem::at(tree.place, text.to_owned()).help(help));
    match layer {
        _ if words.is_empty() => {
            refused("expected a protocol, found an empty list", "leave the key out for the default")
        }
        Layer::Tls if has(Word::H2c) => refused(
            "`h2c` is HTTP/2 without TLS, and this listener has `tls`",
            "write `h2`, or open another listener without `tls` for `h2c`",
        ),
        Layer::Plain if has(Word::H2) => refused(
            "`h2` needs TLS, by which client and listener agree on it",
            "add `tls`, or write `[h2c]` for HTTP/2 without TLS",
        ),
        Layer::Plain if has(Word::H2c) && has(Word::Http1) => refused(
            "`h2c` cannot share a listener with `http/1.1`: without TLS nothing tells them apart before the first bytes",
            "open a listener of its own for `[h2c]`",
        ),
        Layer::Plain | Layer::Tls => Ok(protocols),
    }
}
