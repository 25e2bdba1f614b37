//! A weighted draw in constant time: Walker's alias method, with Vose's construction
//! (*A Linear Algorithm for Generating Random Numbers with a Given Distribution*, 1991).

use rand::{Rng, RngExt};

use super::backend::Slot;

/// Draws a slot at random by weight; prepared once, used by every request.
#[derive(Debug, Default)]
pub struct Draw(Box<[Column]>);

/// One column of the table: holds `slot` up to `limit`, and `alias` above it.
#[derive(Clone, Copy, Debug)]
struct Column {
    limit: u64,
    slot: Slot,
    alias: Slot,
}

impl Draw {
    /// Prepares a draw among `slots`, each with its weight of at least 1.
    pub fn new(slots: &[(Slot, u32)]) -> Self {
        let total: u64 = slots.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let count = slots.len() as u64;
        // In units of 1/count of a weight, so that every column holds exactly `total`.
        let mut columns: Vec<Column> = slots
            .iter()
            .map(|(slot, weight)| Column {
                limit: u64::from(*weight) * count,
                slot: *slot,
                alias: *slot,
            })
            .collect();
        let (mut poor, mut rich): (Vec<usize>, Vec<usize>) =
            (0..columns.len()).partition(|index| columns[*index].limit < total);
        while let (Some(low), Some(high)) = (poor.pop(), rich.last().copied()) {
            columns[low].alias = columns[high].slot;
            columns[high].limit -= total - columns[low].limit;
            if columns[high].limit < total {
                rich.pop();
                poor.push(high);
            }
        }
        // `limit` becomes a bound for a random 64-bit number.
        for column in &mut columns {
            column.limit = scale(column.limit.min(total), total);
        }
        Self(columns.into())
    }

    /// Draws a slot; `None` when there is none to draw from.
    pub fn draw(&self, rng: &mut impl Rng) -> Option<Slot> {
        if self.0.is_empty() {
            return None;
        }
        let column = &self.0[rng.random_range(..self.0.len())];
        Some(if rng.next_u64() <= column.limit { column.slot } else { column.alias })
    }

    /// Whether there is anything to draw from.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// `part / whole` of the range of a `u64`.
fn scale(part: u64, whole: u64) -> u64 {
    let scaled = u128::from(part) * u128::from(u64::MAX) / u128::from(whole.max(1));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    #[track_caller]
    fn check(weights: &[u32]) {
        let slots: Vec<(Slot, u32)> = Slot::all().zip(weights.iter().copied()).collect();
        let draw = Draw::new(&slots);
        let mut rng = SmallRng::seed_from_u64(7);
        let mut counts = vec![0_f64; weights.len()];
        const DRAWS: u32 = 200_000;
        for _ in 0..DRAWS {
            counts[draw.draw(&mut rng).unwrap().index()] += 1.0;
        }
        let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        for (count, weight) in counts.iter().zip(weights) {
            let expected = f64::from(DRAWS) * f64::from(*weight) / total;
            // Five standard deviations.
            assert!(
                (count - expected).abs() < 5.0 * expected.sqrt() + 1.0,
                "{weights:?}: {counts:?}"
            );
        }
    }

    #[test]
    fn a_backend_gets_its_share_by_weight() {
        check(&[1]);
        check(&[1, 1, 1]);
        check(&[1, 2, 3, 4]);
        check(&[1, 1000]);
        check(&[5, 5, 5, 5, 1, 1, 1, 1, 20, 3]);
        check(&[1; 100]);
    }

    #[test]
    fn nothing_is_drawn_from_nothing() {
        assert_eq!(Draw::new(&[]).draw(&mut SmallRng::seed_from_u64(1)), None);
    }
}
