//! The `errors` section of an app: which status, and whose pages.

use super::super::fields::{Problems, unexpected};
use super::super::problem::{Problem, quoted};
use super::super::tree::{Tree, Value};
use super::pages::Pages as Files;
use crate::balancer::failure::Statuses;
use crate::balancer::failure::page::{ErrorPolicy, Pages, Which};

/// Reads the `errors` section.
pub(super) fn errors(
    tree: Option<&Tree>,
    files: &mut Files<'_>,
    problems: &mut Problems,
) -> ErrorPolicy {
    let Some(mut fields) = tree.and_then(|tree| problems.fields(tree, "`errors`")) else {
        return ErrorPolicy::default();
    };
    let choices = [("heroku", Statuses::Heroku), ("rfc9110", Statuses::Rfc9110)];
    let statuses = problems.choice(fields.optional("status"), &choices).unwrap_or_default();
    let pages = fields.optional("pages").map(|tree| pages(tree, files, problems));
    fields.finish(problems);
    ErrorPolicy { statuses, pages: pages.unwrap_or_default() }
}

fn pages(tree: &Tree, files: &mut Files<'_>, problems: &mut Problems) -> Pages {
    let Value::Map(entries) = &tree.value else {
        let problem = unexpected(tree, "expected pages by what failed");
        problems.note(problem.help("such as `pages: { maintenance: maintenance.html }`"));
        return Pages::default();
    };
    let mut pages = Vec::new();
    for entry in entries {
        let which = Which::parse(&entry.key).map_err(|expected| {
            Problem::at(entry.place, format!("{expected}, found {}", quoted(&entry.key)))
                .help("such as `default`, `maintenance`, `H12` or `503`")
        });
        let which = problems.noted(which);
        let page = files.page(&entry.value, problems);
        pages.extend(which.zip(page));
    }
    Pages::new(pages)
}
