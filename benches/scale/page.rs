//! Puts tables and plots into the page.

use std::fs;
use std::path::Path;

use crate::Outcome;
use crate::plot;
use crate::table::Table;

/// Replaces the tables of `docs/scale.md`, each between its two marks, and the plots beside it.
pub(crate) fn put(root: &Path, tables: &[Table]) -> Outcome<()> {
    let path = root.join("docs/scale.md");
    let mut page = fs::read_to_string(&path)?;
    for table in tables {
        page = replaced(&page, table.name, &table.markdown())
            .ok_or_else(|| format!("docs/scale.md has no place for `{}`", table.name))?;
        fs::write(root.join(format!("docs/scale-{}.svg", table.name)), plot::svg(table))?;
    }
    Ok(fs::write(path, page)?)
}

/// The page with another text between `<!-- NAME -->` and `<!-- end NAME -->`.
pub(crate) fn replaced(page: &str, name: &str, text: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end {name} -->"));
    let (before, rest) = page.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}{text}{end}{after}"))
}
