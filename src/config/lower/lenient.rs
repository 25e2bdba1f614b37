//! The `lenient` list.

use super::super::fields::Problems;
use super::super::tree::Tree;
use crate::wire::fault::Lenient;

/// Notes one thing that is put up with.
type Forgive = fn(&mut Lenient);

/// Reads what an app puts up with in requests as they come.
pub(super) fn lenient(tree: Option<&Tree>, problems: &mut Problems) -> Lenient {
    let mut lenient = Lenient::default();
    let items = tree.and_then(|tree| problems.list(tree)).unwrap_or(&[]);
    for item in items {
        let words: [(&str, Forgive); 3] = [
            ("empty_line", |lenient| lenient.empty_line = true),
            ("equal_lengths", |lenient| lenient.equal_lengths = true),
            ("target_eight_bit", |lenient| lenient.target_eight_bit = true),
        ];
        if let Some(put_up_with) = problems.choice(Some(item), &words) {
            put_up_with(&mut lenient);
        }
    }
    lenient
}
