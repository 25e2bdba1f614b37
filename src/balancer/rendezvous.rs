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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balancer::testing::hash;

    #[test]
    fn a_home_is_the_same_in_every_version() {
        // Places of `abc`, `000/abc` and `u-17`, and their homes, computed by a program of its own in Python.
        let places = [0xf621_3e94_ee3a_cd5c, 0x5f39_8f63_121c_58e5, 0x5301_c138_1bb6_b461];
        let home = |place, heavy: f64| {
            let backends = [("web.1", 1.0), ("web.2", 1.0), ("web.3", heavy)];
            let scored = backends.map(|(id, weight)| (score(place, hash(id).0, weight), id));
            scored.into_iter().max_by(|one, other| one.0.total_cmp(&other.0)).unwrap().1
        };
        assert_eq!(places.map(|place| home(place, 1.0)), ["web.3", "web.1", "web.1"]);
        assert_eq!(places.map(|place| home(place, 10.0)), ["web.3"; 3]);
    }

    #[test]
    fn each_gets_its_share_by_weight() {
        let backends = [("a", 1.0), ("b", 2.0), ("c", 5.0)].map(|(id, w)| (hash(id).0, w));
        let mut counts = [0_u32; 3];
        for place in (0..80_000).map(mix) {
            let scores = backends.map(|(candidate, weight)| score(place, candidate, weight));
            let best = (0..3).max_by(|one, other| scores[*one].total_cmp(&scores[*other]));
            counts[best.unwrap()] += 1;
        }
        for (count, expected) in counts.into_iter().zip([10_000, 20_000, 50_000]) {
            // Five standard deviations of the widest.
            assert!(count.abs_diff(expected) < 700, "{counts:?}");
        }
    }
}
