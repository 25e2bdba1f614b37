//! Foreign cookies as a plan tells them.

use std::collections::BTreeMap;

use super::{Change, Pins};
use crate::balancer::affinity::foreign::{ForeignCookie, Format};
use crate::balancer::name::BackendId;
use crate::balancer::state::AppSpec;

/// Most values, and most addresses, of one cookie that are told one by one. A plan is read by people.
const PAIRS_SHOWN_MAX: usize = 8;

/// The cookies in short. Keys are not told.
pub(super) fn shown(cookies: &[ForeignCookie]) -> String {
    format!("[{}]", cookies.iter().map(one).collect::<Vec<_>>().join("; "))
}

fn one(cookie: &ForeignCookie) -> String {
    let more = match &cookie.format {
        Format::IngressNginx { service: Some(service) } => Some(format!("of {service}")),
        Format::Haproxy { key: Some(_) } | Format::Nginx { key: Some(_) } => {
            Some("with a key".into())
        }
        Format::Haproxy { key: None }
        | Format::IngressNginx { service: None }
        | Format::Map
        | Format::Nginx { key: None }
        | Format::Traefik => None,
    };
    let head = [cookie.cookie.to_string(), cookie.format.as_str().to_owned()];
    let words = head.into_iter().chain(more).collect::<Vec<_>>().join(" ");
    let maps = [pairs(&cookie.addresses), pairs(&cookie.values)];
    let maps = maps.into_iter().flatten();
    [words].into_iter().chain(maps).collect::<Vec<_>>().join(", ")
}

fn pairs(map: &BTreeMap<Box<str>, BackendId>) -> Vec<String> {
    let told = map.iter().take(PAIRS_SHOWN_MAX).map(|(text, id)| format!("{text} is {id}"));
    let rest = map.len().saturating_sub(PAIRS_SHOWN_MAX);
    told.chain((rest > 0).then(|| format!("{rest} more"))).collect()
}

/// A change that the short form does not show.
pub(super) fn hidden(before: &AppSpec, after: &AppSpec) -> Option<Change> {
    let (old, new) = (&before.affinity.as_ref()?.adopt, &after.affinity.as_ref()?.adopt);
    let (from, to) = (shown(old), shown(new));
    (old != new && from == to).then(|| Change::Setting {
        app: after.name.clone(),
        key: "affinity.adopt",
        to: format!("{to} with other keys or values"),
        from,
        pins: Pins::None,
    })
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::super::between;
    use super::*;
    use crate::balancer::affinity::foreign::ForeignKey;
    use crate::balancer::state::Spec;
    use crate::balancer::testing;

    fn cookie(name: &str, format: Format, values: usize) -> ForeignCookie {
        let value = |n| (format!("s{n}").into(), BackendId::parse("a").unwrap());
        let values = (0..values).map(value).collect();
        ForeignCookie { cookie: name.into(), format, values, addresses: BTreeMap::new() }
    }

    fn spec(cookies: &[ForeignCookie]) -> Spec {
        let mut spec = testing::spec(&["a", "b"]);
        spec.apps[0].affinity.as_mut().unwrap().adopt = cookies.into();
        spec
    }

    #[track_caller]
    fn check(before: &[ForeignCookie], after: &[ForeignCookie], expected: &[&str]) {
        let changes = between(&spec(before), &spec(after));
        let told = changes.iter().map(|one| format!("{one}: {:?}", one.pins()));
        assert_eq!(told.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_cookie_that_comes_or_goes_or_leads_elsewhere_is_told_and_breaks_no_pin() {
        let haproxy = |values| cookie("SERVERID", Format::Haproxy { key: None }, values);
        let service = Some("shop-web-80".into());
        let ingress = cookie("route", Format::IngressNginx { service }, 0);
        let came = "affinity.adopt [] -> [SERVERID haproxy, s0 is a; route ingress_nginx of shop-web-80]: None";
        check(&[], &[haproxy(1), ingress.clone()], &[came]);
        let went = "affinity.adopt [route ingress_nginx of shop-web-80] -> []: None";
        check(from_ref(&ingress), &[], &[went]);
        check(from_ref(&ingress), from_ref(&ingress), &[]);
        let mut other = haproxy(1);
        *other.values.get_mut("s0").unwrap() = BackendId::parse("b").unwrap();
        let led = "affinity.adopt [SERVERID haproxy, s0 is a] -> [SERVERID haproxy, s0 is b]: None";
        check(&[haproxy(1)], &[other], &[led]);
    }

    #[test]
    fn what_is_too_long_or_too_secret_to_tell_is_told_all_the_same() {
        let map = |values| cookie("c", Format::Map, values);
        let mut other = map(10);
        *other.values.get_mut("s9").unwrap() = BackendId::parse("b").unwrap();
        let text =
            "c map, s0 is a, s1 is a, s2 is a, s3 is a, s4 is a, s5 is a, s6 is a, s7 is a, 2 more";
        let hidden = format!("affinity.adopt [{text}] -> [{text}] with other keys or values: None");
        check(&[map(10)], &[other], &[&hidden]);
        let nginx = |key: &[u8]| cookie("c", Format::Nginx { key: Some(ForeignKey::new(key)) }, 0);
        let keys = "affinity.adopt [c nginx with a key] -> [c nginx with a key] with other keys or values: None";
        check(&[nginx(b"one")], &[nginx(b"two")], &[keys]);
        check(&[nginx(b"one")], &[nginx(b"one")], &[]);
    }
}
