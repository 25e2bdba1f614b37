//! nginx, `sticky cookie` (Plus, and 1.29.6 and later), and nginx-sticky-module-ng.
//!
//! nginx puts the MD5 of the printed address into the cookie (`ngx_http_upstream_init_round_robin_sid` in
//! `src/http/ngx_http_upstream_round_robin.c`), or the word behind `route=`, which is for `values`. The module
//! hashes the text of the `server` line by MD5 or SHA-1, plain or with a key, or leaves it as it is with
//! `text=raw` (`ngx_http_sticky_misc.c`); `hash=index` is a number, which is for `values`, too.

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha1::Sha1;

use super::{ForeignKey, hex};

/// What a cookie holds for the backend of this name.
pub(super) fn values(name: &str, key: Option<&ForeignKey>) -> Vec<String> {
    let text = name.as_bytes();
    match key {
        None => vec![hex(&Md5::digest(text)), hex(&Sha1::digest(text)), name.to_owned()],
        Some(key) => {
            // HMAC takes a key of any length (RFC 2104 §2): both are always there.
            let md5 = Hmac::<Md5>::new_from_slice(&key.0);
            let md5 = md5.map(|mac| hex(&mac.chain_update(text).finalize().into_bytes()));
            let sha1 = Hmac::<Sha1>::new_from_slice(&key.0);
            let sha1 = sha1.map(|mac| hex(&mac.chain_update(text).finalize().into_bytes()));
            md5.into_iter().chain(sha1).collect()
        }
    }
}
