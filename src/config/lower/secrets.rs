//! Secrets that the file names and does not hold: `{ file: … }` or `{ environment: … }`.

use std::path::Path;

use super::super::fields::{Fields, Problems};
use super::super::problem::Problem;
use super::super::secret;
use super::super::tree::Tree;
use super::path;

/// Reads the bytes of a secret that is called `what`, as `example` shows it. Its file is watched.
pub(super) fn secret_bytes(
    tree: &Tree,
    what: &'static str,
    example: &'static str,
    directory: &Path,
    problems: &mut Problems,
) -> Option<Vec<u8>> {
    let fields = Fields::of(tree, what).map_err(|problem| problem.help(example));
    let mut fields = problems.noted(fields)?;
    let read = match (fields.optional("file"), fields.optional("environment")) {
        (Some(file), None) => {
            let path = problems.scalar(file, |text| path(text, directory))?;
            problems.files.push(path.clone());
            secret::bytes_of_file(&path)
        }
        (None, Some(variable)) => {
            let name = problems.scalar(variable, |text| Ok::<_, &str>(text.to_owned()))?;
            secret::text_of_environment(&name).map(String::into_bytes)
        }
        (Some(_), Some(_)) | (None, None) => {
            let text = format!("{what} has either `file` or `environment`");
            problems.note(Problem::at(tree.place, text).help(example));
            return None;
        }
    };
    fields.finish(problems);
    let wrong =
        |error: secret::SecretError| Problem::at(tree.place, error.to_string()).help(error.help());
    problems.noted(read.map_err(wrong))
}
