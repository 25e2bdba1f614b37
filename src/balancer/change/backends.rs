//! How backends are spoken to, as a plan tells it.

use super::{Change, Pins, settings::Setting, settings::shown};
use crate::balancer::app::protocol::BackendProtocol;
use crate::balancer::app::tls::{BackendTls, Verify};
use crate::balancer::state::AppSpec;

pub(super) fn tls(tls: &BackendTls) -> [Setting; 4] {
    let verify = match tls.verify {
        Verify::Full => "on",
        Verify::Off => "off",
    };
    let ca = tls.authorities.as_ref().map_or("none", |authorities| &authorities.name);
    let certificate = tls.identity.as_ref().map_or("none", |identity| &identity.name);
    [
        ("backend_tls.server_name", tls.server_name.to_string()),
        ("backend_tls.verify", verify.into()),
        ("backend_tls.ca", ca.into()),
        ("backend_tls.certificate", certificate.into()),
    ]
}

/// What is in files of the same name.
pub(super) fn hidden(before: &AppSpec, after: &AppSpec) -> Vec<Change> {
    let (Some(old), Some(new)) = (&before.policy.tls, &after.policy.tls) else { return Vec::new() };
    let (old_files, new_files) = (tls(old), tls(new));
    let differs = [
        ("backend_tls.ca", old.authorities != new.authorities),
        ("backend_tls.certificate", old.identity != new.identity),
    ];
    let same = |key: &str| {
        let named = |files: &[Setting; 4]| {
            files.iter().find(|(own, _)| *own == key).map(|(_, file)| file.clone())
        };
        named(&old_files).filter(|file| named(&new_files).as_ref() == Some(file))
    };
    let other = differs.into_iter().filter(|(_, differs)| *differs);
    let told = other.filter_map(|(key, _)| Some((key, same(key)?)));
    told.map(|(key, from)| Change::Setting {
        app: after.name.clone(),
        key,
        to: format!("{from} with other contents"),
        from,
        pins: Pins::None,
    })
    .collect()
}

pub(super) fn protocol(protocol: BackendProtocol) -> Vec<Setting> {
    let mut all = vec![("backend_protocol", protocol.as_str().into())];
    if let Some(limits) = protocol.h2() {
        all.extend([
            ("backend_h2.streams", limits.streams.to_string()),
            ("backend_h2.window", limits.window_bytes.to_string()),
            ("backend_h2.ping_interval", limits.ping.map_or_else(|| "off".into(), shown)),
        ]);
    }
    all
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::between;
    use super::*;
    use crate::balancer::app::protocol::H2Limits;
    use crate::balancer::app::tls::{Authorities, Identity, PrivateKey};
    use crate::balancer::state::Spec;
    use crate::balancer::testing;

    fn spec(tls: Option<BackendTls>, protocol: BackendProtocol) -> Spec {
        let mut spec = testing::spec(&["a"]);
        let policy = Arc::make_mut(&mut spec.apps[0].policy);
        (policy.tls, policy.protocol) = (tls, protocol);
        spec
    }

    #[track_caller]
    fn check(before: &Spec, after: &Spec, expected: &[&str]) {
        let told: Vec<_> = between(before, after).iter().map(ToString::to_string).collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn other_files_and_other_contents_of_the_same_files_are_told() {
        let plain = BackendTls::new("a.internal", Verify::Full);
        let of = |ca: &[u8], key: &[u8]| {
            let authorities = Authorities::new("ca.pem".into(), vec![ca.to_vec()]);
            let identity =
                Identity::new("own.pem".into(), vec![b"own".to_vec()], PrivateKey::new(key));
            let tls = BackendTls {
                authorities: Some(Arc::new(authorities)),
                identity: Some(Arc::new(identity)),
                ..plain.clone()
            };
            spec(Some(tls), BackendProtocol::Http1)
        };
        let came = ["backend_tls.ca none -> ca.pem", "backend_tls.certificate none -> own.pem"];
        check(&spec(Some(plain.clone()), BackendProtocol::Http1), &of(b"a", b"k"), &came);
        check(&of(b"a", b"k"), &of(b"a", b"k"), &[]);
        let ca = "backend_tls.ca ca.pem -> ca.pem with other contents";
        check(&of(b"a", b"k"), &of(b"b", b"k"), &[ca]);
        let own = "backend_tls.certificate own.pem -> own.pem with other contents";
        check(&of(b"a", b"k"), &of(b"a", b"l"), &[own]);
    }

    #[test]
    fn another_protocol_is_told_and_another_limit_of_the_same() {
        let h2c = |limits| spec(None, BackendProtocol::H2c(limits));
        let default = H2Limits::DEFAULT;
        let before = spec(None, BackendProtocol::Http1);
        check(&before, &h2c(default), &["backend_protocol http/1.1 -> h2c"]);
        let other =
            H2Limits { streams: 7, window_bytes: 65_536, ping: Some(Duration::from_secs(9)) };
        check(
            &h2c(default),
            &h2c(other),
            &[
                "backend_h2.streams 100 -> 7",
                "backend_h2.window 262144 -> 65536",
                "backend_h2.ping_interval off -> 9s",
            ],
        );
    }
}
