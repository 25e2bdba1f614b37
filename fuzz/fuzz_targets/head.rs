//! Any bytes as the head of a request, in any pieces: the verdict is the same, and what is taken is clean.

#![no_main]

use homing::wire::head::{HeadLimits, HeadReader};
use homing::wire::known::Known;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Vec<u8>, &[u8])| {
    let (cuts, bytes) = input;
    let limits = HeadLimits { bytes: 4096, fields: 32, line: 1024 };
    let whole = HeadReader::default().read(bytes, &limits);
    let mut ends: Vec<usize> =
        cuts.iter().map(|cut| usize::from(*cut) * 4 % (bytes.len() + 1)).collect();
    ends.sort_unstable();
    ends.push(bytes.len());
    let mut reader = HeadReader::default();
    let mut verdict = Ok(None);
    for end in ends {
        verdict = reader.read(&bytes[..end], &limits);
        if !matches!(verdict, Ok(None)) {
            break;
        }
    }
    // Which of several faults is told may depend on how much is there; whether there is one may not.
    assert_eq!(verdict.ok(), whole.ok());
    let known = Known::of(bytes);
    let _head = known.head();
    if let Ok(Some(head)) = whole {
        let head = &bytes[..head.bytes];
        assert!(head.ends_with(b"\r\n\r\n"));
        let lines = head.windows(2).filter(|pair| pair[1] == b'\n');
        assert!(lines.clone().all(|pair| pair[0] == b'\r'), "every LF ends a line");
        let ends = head.iter().filter(|byte| **byte == b'\r').count();
        assert_eq!(ends, lines.count(), "every CR ends a line");
        assert!(!head.contains(&0));
    }
});
