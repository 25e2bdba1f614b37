//! HAProxy, `cookie NAME insert`.
//!
//! The value is the word behind `cookie` on the `server` line. With `maxidle` or `maxlife` dates follow it,
//! `word|last|first` (`http_process_res_common` in `src/http_ana.c`); what they say is left to our own
//! limits, which begin anew. With `dynamic` and `dynamic-cookie-key` the word is a hash of key, address and
//! port (`srv_set_dyncookie` in `src/server.c`).

use std::net::IpAddr;

use twox_hash::XxHash64;

use super::ForeignKey;
use crate::balancer::app::backend::Address;

/// The dynamic cookie of a backend: XXH64 of the key, the address and the port in four bytes, all in the order
/// of the network. A Unix socket has none.
pub(super) fn values(address: &Address, key: &ForeignKey) -> Vec<String> {
    let Address::Tcp(address) = address else { return Vec::new() };
    let mut hashed = key.0.to_vec();
    match address.ip() {
        IpAddr::V4(ip) => hashed.extend(ip.octets()),
        IpAddr::V6(ip) => hashed.extend(ip.octets()),
    }
    hashed.extend(u32::from(address.port()).to_be_bytes());
    vec![format!("{:016x}", XxHash64::oneshot(0, &hashed))]
}
