//! Any bytes as frames of HTTP/2, in any pieces: the same verdict, and what may be handed on has no fault.

#![no_main]

use std::time::Duration;

use homing::wire::frame::{FrameFault, FrameLimits, FrameReader};
use libfuzzer_sys::fuzz_target;

const BEGIN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// The fault, and how many bytes may be handed on; `None`: all of them.
fn read(bytes: &[u8], ends: &[usize]) -> Option<(FrameFault, usize)> {
    let mut reader = FrameReader::new(FrameLimits::default(), Duration::ZERO);
    let mut at = 0;
    for end in ends.iter().copied().chain([bytes.len()]) {
        if let Err(broken) = reader.read(&bytes[at..end], || Duration::ZERO) {
            assert!(broken.good <= end - at);
            return Some((broken.fault, at + broken.good));
        }
        at = end;
    }
    None
}

fuzz_target!(|input: (bool, Vec<u8>, &[u8])| {
    let (begun, cuts, rest) = input;
    // Mostly frames, sometimes not even that.
    let bytes = [if begun { BEGIN } else { b"" }, rest].concat();
    let mut ends: Vec<usize> =
        cuts.iter().map(|cut| usize::from(*cut) * 4 % (bytes.len() + 1)).collect();
    ends.sort_unstable();
    let (whole, pieces) = (read(&bytes, &[]), read(&bytes, &ends));
    assert_eq!(whole.map(|(fault, _)| fault), pieces.map(|(fault, _)| fault));
    if let Some((_, good)) = whole {
        assert_eq!(read(&bytes[..good], &[]), None);
    }
});
