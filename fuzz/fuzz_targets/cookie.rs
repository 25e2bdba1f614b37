//! Any `Cookie` header: our cookie is found, and taken out without touching the others.

#![no_main]

use homing::balancer::affinity::cookie::{values, without};
use libfuzzer_sys::fuzz_target;

const NAME: &str = "homing-affinity";

/// The pairs that are not ours, without the spaces around them.
fn others(header: &[u8]) -> Vec<&[u8]> {
    let pairs = header.split(|byte| *byte == b';');
    let strange = pairs.filter(|pair| values(pair, NAME).next().is_none());
    strange.map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty()).collect()
}

fuzz_target!(|header: &[u8]| {
    let found = values(header, NAME).count();
    match without(header, NAME) {
        None => assert_eq!(found, 0, "what is there can be taken out"),
        Some(rest) => {
            assert!(found > 0, "what is not there cannot be taken out");
            assert_eq!(values(&rest, NAME).count(), 0, "nothing of ours is left");
            assert_eq!(others(&rest), others(header), "the others stay, in their order");
        }
    }
});
