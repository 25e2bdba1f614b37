//! What the new backend of a client is told of the last one.

use super::Assignment;
use crate::balancer::affinity::Presented;
use crate::balancer::app::view::AppView;

/// The value of the field, such as `web.1; cause=unhealthy`: the backend of the pin that is moved, `-` when it
/// is not on the list any more, and why. `None`: no pin is moved, or nobody knows from where, as with a
/// cookie that expired or is not ours.
pub fn from(view: &AppView, presented: &Presented, assignment: &Assignment) -> Option<String> {
    let (Assignment::Move(_, cause), Presented::Pin(pin)) = (assignment, presented) else {
        return None;
    };
    let slot = view.app.find(pin.token.backend);
    let id = slot.map_or("-", |slot| view.app.backend(slot).id.as_str());
    Some(format!("{id}; cause={}", cause.as_str()))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;
    use crate::balancer::affinity::OnUnavailable;
    use crate::balancer::app::view::Tried;
    use crate::balancer::assign::{Cause, assign};
    use crate::balancer::testing;

    /// What is told of a request with this pin: `-` none, `x` a forged cookie; `tried`: a backend that it tried
    /// in vain.
    #[track_caller]
    fn check(backends: &str, pin: &str, tried: &str, expected: Option<&str>) {
        let view = testing::view(OnUnavailable::Move, backends);
        let presented = match pin {
            "-" => Presented::Nothing,
            "x" => Presented::Unusable(Cause::Forged),
            pin => Presented::Pin(testing::pin(pin)),
        };
        let mut tries = Tried::default();
        if !tried.is_empty() {
            tries.push(view.app.find(testing::hash(tried)).unwrap());
        }
        let request = testing::request(&presented, &tries);
        let assignment = assign(&view, &request, &mut SmallRng::seed_from_u64(7));
        let told = from(&view, &presented, &assignment);
        assert_eq!(told.as_deref(), expected, "{backends} | pin {pin} | tried {tried}");
    }

    #[test]
    fn a_move_is_told_with_where_from_and_why() {
        check("a b!", "b", "", Some("b; cause=unhealthy"));
        check("a b-", "b", "", Some("b; cause=maintenance"));
        check("a b/", "b", "", Some("b; cause=drain_deadline"));
        check("a b", "b", "b", Some("b; cause=connect_failed"));
        check("a b", "b'", "", Some("b; cause=new_incarnation"));
        check("a", "b", "", Some("-; cause=removed"));
    }

    #[test]
    fn what_is_no_move_of_a_pin_is_not_told() {
        check("a b", "b", "", None);
        check("a b", "-", "", None);
        check("a b", "x", "", None);
        check("b!", "b", "", None);
    }
}
