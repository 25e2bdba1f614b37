//! The `response_limits` section of an app.

use super::super::fields::Problems;
use super::super::tree::Tree;
use crate::balancer::app::response_limits::{FIELDS_MAX, HEAD_BYTES_MAX, ResponseLimits};

/// Less than this holds no response that browsers and apps exchange, in bytes.
const BYTES_MIN: usize = 128;

/// Reads the section.
pub(super) fn response_limits(tree: Option<&Tree>, problems: &mut Problems) -> ResponseLimits {
    let mut limits = ResponseLimits::default();
    let Some(mut fields) = tree.and_then(|tree| problems.fields(tree, "`response_limits`")) else {
        return limits;
    };
    for (key, value, range) in [
        ("status_line_bytes", &mut limits.status_line_bytes, BYTES_MIN..=HEAD_BYTES_MAX),
        ("field_bytes", &mut limits.field_bytes, BYTES_MIN..=HEAD_BYTES_MAX),
        ("cookie_bytes", &mut limits.cookie_bytes, BYTES_MIN..=HEAD_BYTES_MAX),
        ("head_bytes", &mut limits.head_bytes, BYTES_MIN..=HEAD_BYTES_MAX),
        ("fields", &mut limits.fields, 8..=FIELDS_MAX),
    ] {
        *value = problems.number_or(fields.optional(key), &range, *value);
    }
    fields.finish(problems);
    limits
}
