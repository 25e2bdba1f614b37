//! The `tracing` section.

use super::super::fields::{Problems, Toggle, unexpected};
use super::super::model::Tracing;
use super::super::scalar::{self, Switch};
use super::super::tree::Tree;

const ENDPOINT: &str = "expected the URL of a collector such as `http://127.0.0.1:4318`";

/// Reads the `tracing` section; `off` is the default.
pub(super) fn tracing(tree: Option<&Tree>, problems: &mut Problems) -> Option<Tracing> {
    let tree = match problems.noted(Toggle::of(tree?, "tracing", &[Switch::Off]))? {
        Toggle::Off | Toggle::On => return None,
        Toggle::Section(tree) => tree,
    };
    let mut fields = problems.fields(tree, "`tracing`")?;
    let otlp = fields.required("otlp", problems);
    fields.finish(problems);
    let mut fields = problems.fields(otlp?, "`otlp`")?;
    let endpoint = fields.required("endpoint", problems);
    let endpoint = endpoint.and_then(|tree| {
        let url = problems.scalar(tree, |text| scalar::url(text).map_err(|_| ENDPOINT))?;
        if url.contains('?') {
            problems.note(unexpected(tree, ENDPOINT));
        }
        // Some settings of OpenTelemetry name the whole path.
        let base = url.trim_end_matches('/').trim_end_matches("/v1/traces").into();
        Some(base)
    });
    let sample = fields.optional("sample_percent");
    let sample = sample.map_or(Some(10_000), |tree| problems.scalar(tree, share));
    fields.finish(problems);
    Some(Tracing { endpoint: endpoint?, sample: sample? })
}

/// A share in percent, with up to four places behind the point: of a million.
fn share(text: &str) -> Result<u32, &'static str> {
    const EXPECTED: &str = "expected a share from 0 to 100, such as `1`, `0.1` or `0.0001`";
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str, most: usize| {
        (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    if !digits(whole, 3) || !digits(part, 4) {
        return Err(EXPECTED);
    }
    let number = |text: &str| text.parse::<u32>().map_err(|_| EXPECTED);
    let share = number(whole)? * 10_000 + number(&format!("{part:0<4}"))?;
    if share <= 1_000_000 { Ok(share) } else { Err(EXPECTED) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_percentage() {
        let rights = [("0", 0), ("1", 10_000), ("0.1", 1_000), ("0.0001", 1), ("100", 1_000_000)];
        for (text, expected) in rights {
            assert_eq!(share(text), Ok(expected), "{text}");
        }
        for text in ["", "100.1", "101", "-1", ".5", "1.", "0.00001", "1e1", "1 %"] {
            assert!(share(text).is_err(), "{text}");
        }
    }
}
