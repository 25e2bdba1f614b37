//! The `affinity_keys` section.

use std::path::Path;

use super::super::fields::{Fields, Problems};
use super::super::model::Keys;
use super::super::problem::Problem;
use super::super::secret;
use super::super::tree::Tree;
use super::firsts::Firsts;
use super::path;
use crate::balancer::affinity::keyring::{KEYS_MAX, Key, KeyId, Keyring};

const EXAMPLE: &str = "such as `- file: keys/2026-11`";

/// Reads the keys. Where one is wrong, those made on the first start stand in: that was noted.
pub(super) fn keys(tree: Option<&Tree>, directory: &Path, problems: &mut Problems) -> Keys {
    let Some(tree) = tree else { return Keys::Generated };
    let Some(items) = problems.list(tree) else { return Keys::Generated };
    if items.len() > KEYS_MAX {
        let text = format!("expected at most {KEYS_MAX} keys, found {}", items.len());
        let help = "remove the oldest, at the end of the list";
        problems.note(Problem::at(tree.place, text).help(help));
        return Keys::Generated;
    }
    let mut lines: Firsts<KeyId, usize> = Firsts::default();
    let mut keys = Vec::new();
    for item in items {
        let Some(key) = key(item, directory, problems) else { continue };
        if let Some(first) = lines.earlier(key.id(), item.place.line) {
            let text = format!("key {} is listed twice; the first is on line {first}", key.id());
            let help = "two files may hold the same secret; list it once";
            problems.note(Problem::at(item.place, text).help(help));
        } else {
            keys.push(key);
        }
    }
    // A ring with a hole would seal with another key than the operator meant.
    if keys.len() < items.len() {
        return Keys::Generated;
    }
    let help = "list at least one key, or leave `affinity_keys` out to have one made";
    let keyring =
        Keyring::new(keys).map_err(|error| Problem::at(tree.place, error.to_string()).help(help));
    problems.noted(keyring).map_or(Keys::Generated, Keys::Listed)
}

fn key(item: &Tree, directory: &Path, problems: &mut Problems) -> Option<Key> {
    let fields = Fields::of(item, "an affinity key").map_err(|problem| problem.help(EXAMPLE));
    let mut fields = problems.noted(fields)?;
    let key = match (fields.optional("file"), fields.optional("environment")) {
        (Some(tree), None) => {
            let path = problems.scalar(tree, |text| path(text, directory));
            problems.files.extend(path.clone());
            path.map(|path| secret::from_file(&path))
        }
        (None, Some(tree)) => problems
            .scalar(tree, |text| {
                if text.is_empty() { Err("expected a name") } else { Ok(text.to_owned()) }
            })
            .map(|name| secret::from_environment(&name)),
        (Some(_), Some(_)) | (None, None) => {
            let text = "an affinity key has either `file` or `environment`";
            problems.note(Problem::at(item.place, text).help(EXAMPLE));
            None
        }
    };
    fields.finish(problems);
    let wrong =
        |error: secret::SecretError| Problem::at(item.place, error.to_string()).help(error.help());
    problems.noted(key?.map_err(wrong))
}
