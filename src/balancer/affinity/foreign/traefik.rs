//! Traefik, `sticky.cookie` of a service.
//!
//! The value stands for the URL of a server as the provider wrote it. It was made in four ways, and those after
//! the first read older ones only in part; we read all of them:
//!
//! * 1.x, 2.0 to 2.4: the URL itself (`RawValue` in `roundrobin/stickycookie/raw_value.go` of vulcand/oxy).
//! * 2.5 and later 2.x: FNV-1a 64 of the URL (`stickycookie/hash_value.go`).
//! * 3.0 to 3.3.3: FNV-1 64 of the sixteen digits of FNV-1a 64 of the URL (`pkg/server/service/service.go` and
//!   `loadbalancer/wrr/wrr.go`).
//! * 3.3.4 and later: the first 16 digits of SHA-256 of the URL (`loadbalancer/sticky.go`), which beside that
//!   reads the URL, its FNV-1, and the FNV-1 of that.

use sha2::{Digest, Sha256};

use super::hex;
use crate::balancer::app::backend::Address;

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// The URLs that a provider may have written for this address. A Unix socket has none.
pub(super) fn urls(address: &Address, scheme: &str) -> Vec<String> {
    let Address::Tcp(address) = address else { return Vec::new() };
    let whole = format!("{scheme}://{address}");
    let implied = if scheme == "https" { ":443" } else { ":80" };
    let short = whole.strip_suffix(implied).map(str::to_owned);
    [Some(whole), short].into_iter().flatten().flat_map(|url| [format!("{url}/"), url]).collect()
}

/// The URL that an operator means: `address:port` is short for one.
pub(super) fn url(text: &str, scheme: &str) -> String {
    if text.contains("://") { text.to_owned() } else { format!("{scheme}://{text}") }
}

/// What a cookie holds for the server of this URL.
pub(super) fn values(url: &str) -> Vec<String> {
    let digits = format!("{:016x}", fnv1a(url.as_bytes()));
    let fnv = format!("{:x}", fnv1(url.as_bytes()));
    vec![
        url.to_owned(),
        format!("{:x}", fnv1a(url.as_bytes())),
        format!("{:x}", fnv1(digits.as_bytes())),
        hex(&Sha256::digest(url.as_bytes())[..8]),
        format!("{:x}", fnv1(fnv.as_bytes())),
        fnv,
    ]
}

/// FNV-1, 64 bits (draft-eastlake-fnv).
fn fnv1(bytes: &[u8]) -> u64 {
    bytes.iter().fold(FNV_OFFSET, |hash, byte| hash.wrapping_mul(FNV_PRIME) ^ u64::from(*byte))
}

/// FNV-1a, 64 bits (draft-eastlake-fnv).
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(FNV_OFFSET, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of draft-eastlake-fnv, appendix C.
    #[test]
    fn both_hashes_have_the_published_values() {
        for (text, one, other) in [
            ("", FNV_OFFSET, FNV_OFFSET),
            ("a", 0xaf63_bd4c_8601_b7be, 0xaf63_dc4c_8601_ec8c),
            ("foobar", 0x340d_8765_a4dd_a9c2, 0x8594_4171_f739_67e8),
        ] {
            assert_eq!((fnv1(text.as_bytes()), fnv1a(text.as_bytes())), (one, other), "{text}");
        }
    }
}
