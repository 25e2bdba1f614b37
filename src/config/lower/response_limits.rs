//! The `response_limits` section of an app.

use super::super::fields::Problems;
use super::super::tree::Tree;
use crate::balancer::app::response_limits::ResponseLimits;
use crate::wire::head::{BYTES_MAX, FIELDS_MAX};

/// Less than this holds no response that browsers and apps exchange, in bytes.
const BYTES_MIN: usize = 128;

/// Reads the section.
pub(super) fn response_limits(tree: Option<&Tree>, problems: &mut Problems) -> ResponseLimits {
    let mut limits = ResponseLimits::default();
    let Some(mut fields) = tree.and_then(|tree| problems.fields(tree, "`response_limits`")) else {
        return limits;
    };
    for (key, value) in [
        ("status_line_bytes", &mut limits.status_line_bytes),
        ("field_bytes", &mut limits.field_bytes),
        ("cookie_bytes", &mut limits.cookie_bytes),
        ("head_bytes", &mut limits.head_bytes),
    ] {
        *value = problems.size_or(fields.optional(key), &(BYTES_MIN..=BYTES_MAX), *value);
    }
    let count = fields.optional("fields");
    limits.fields = problems.number_or(count, &(8..=FIELDS_MAX), limits.fields);
    fields.finish(problems);
    limits
}
