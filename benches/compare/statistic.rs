//! Medians and ranges of a few rounds.

/// The middle value; the mean of the middle two of an even number; 0 for none.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let Some(last) = values.len().checked_sub(1) else { return 0.0 };
    f64::midpoint(values[last / 2], values[last.div_ceil(2)])
}

/// The least and the greatest value; `(0, 0)` for none.
pub(crate) fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values
        .map(|value| (value, value))
        .reduce(|(least, greatest), (value, _)| (least.min(value), greatest.max(value)))
        .unwrap_or_default()
}
