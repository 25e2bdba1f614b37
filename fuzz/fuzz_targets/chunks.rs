//! Any bytes as a body in chunks, in any pieces: the same is handed on, and it is plain.

#![no_main]

use homing::wire::chunk::ChunkReader;
use libfuzzer_sys::fuzz_target;

/// What is handed on, what is left, and whether the body is complete; `None`: refused.
fn read(bytes: &[u8], ends: &[usize]) -> Option<(Vec<u8>, Vec<u8>, bool)> {
    let mut reader = ChunkReader::default();
    let (mut kept, mut left, mut at, mut done) = (Vec::new(), Vec::new(), 0, false);
    for end in ends.iter().copied().chain([bytes.len()]) {
        let mut piece = bytes[at..end].to_vec();
        let found = reader.read(&mut piece).ok()?;
        assert!(found.kept <= found.used && found.used <= piece.len());
        assert!(found.done || found.used == piece.len());
        kept.extend_from_slice(&piece[..found.kept]);
        left.extend_from_slice(&piece[found.used..]);
        (at, done) = (end, found.done);
    }
    Some((kept, left, done))
}

fuzz_target!(|input: (Vec<u8>, &[u8])| {
    let (cuts, bytes) = input;
    let mut ends: Vec<usize> =
        cuts.iter().map(|cut| usize::from(*cut) * 4 % (bytes.len() + 1)).collect();
    ends.sort_unstable();
    let whole = read(bytes, &[]);
    assert_eq!(read(bytes, &ends), whole);
    if let Some((kept, left, done)) = whole {
        assert!(kept.len() + left.len() <= bytes.len());
        // What is handed on is read again as itself: no extension and no trailer is left in it.
        assert_eq!(read(&kept, &[]), Some((kept.clone(), Vec::new(), done)));
    }
});
