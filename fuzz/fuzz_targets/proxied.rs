//! Any bytes as the beginning of a connection of the PROXY protocol, in any pieces: the verdict is the same, no byte
//! beyond the header is taken, and what was read is written as something that is read alike.

#![no_main]

use homing::wire::proxied::{For, Header, Refused, Step, Version, read, write};
use libfuzzer_sys::fuzz_target;

/// The verdict on what comes in pieces no larger than asked for, and how much was taken.
fn taken(bytes: &[u8], mut pieces: impl Iterator<Item = usize>) -> (Result<Option<Header>, Refused>, usize) {
    let mut there = 0;
    loop {
        match read(&bytes[..there]) {
            Err(refused) => return (Err(refused), there),
            Ok(Step::Done(header, length)) => {
                assert_eq!(length, there);
                return (Ok(Some(header)), there);
            }
            Ok(Step::More(_)) if there == bytes.len() => return (Ok(None), there),
            Ok(Step::More(more)) => {
                let piece = pieces.next().unwrap_or(usize::MAX).max(1);
                there = (there + more.min(piece)).min(bytes.len());
            }
        }
    }
}

fuzz_target!(|input: (Vec<u8>, &[u8])| {
    let (cuts, bytes) = input;
    let (verdict, used) = taken(bytes, cuts.iter().map(|cut| usize::from(*cut)));
    match read(bytes) {
        Ok(Step::Done(header, length)) => {
            assert_eq!((verdict, used), (Ok(Some(header)), length));
            for version in [Version::V1, Version::V2] {
                let whom = header.ends.map_or(For::Stranger, For::Client);
                let again = write(version, whom);
                let Ok(Step::Done(reread, length)) = read(&again) else { panic!("own header refused") };
                assert_eq!(length, again.len());
                assert_eq!(reread.ends.is_some(), header.ends.is_some());
            }
        }
        Ok(Step::More(_)) => assert_eq!(verdict, Ok(None)),
        Err(refused) => assert_eq!(verdict, Err(refused)),
    }
});
