//! A value that many hold and few change.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// A value that is copied when one of several who have it changes it. A copy of this costs a pointer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Shared<T>(Arc<T>);

impl<T> Shared<T> {
    /// Whether both are one value, which is known without a look at it.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T> From<T> for Shared<T> {
    fn from(value: T) -> Self {
        Self(Arc::new(value))
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Clone> DerefMut for Shared<T> {
    fn deref_mut(&mut self) -> &mut T {
        Arc::make_mut(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_by_nobody_else() {
        let one = Shared::from(1);
        let mut other = one.clone();
        assert!(one.is(&other));
        *other = 2;
        assert_eq!((*one, *other, one.is(&other)), (1, 2, false));
    }
}
