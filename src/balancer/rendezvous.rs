//! Rendezvous hashing: the same one of many for the same place, on every edge, without shared state
//! (Thaler and Ravishankar, *Using Name-Based Mappings to Increase Hit Rates*, 1998; by weight: Schindelhauer
//! and Schomaker, *Weighted Distributed Hash Tables*, 2005).
//!
//! When one of the many goes, only those who had it get another; when one comes, it takes its share of all
//! the others and nobody changes but between them.

/// Scatters the bits of a number over all of it (the finaliser of SplitMix64).
pub fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// How well `candidate` (uniform bits of its own) suits `place`: the highest score falls on each candidate as
/// often as its weight says.
#[expect(clippy::cast_precision_loss, reason = "53 bits of a random number are random enough")]
pub fn score(place: u64, candidate: u64, weight: f64) -> f64 {
    let point = mix(place ^ candidate);
    let share = ((point >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -weight / share.ln()
}
