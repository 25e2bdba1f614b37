//! Why the comparison cannot go on, in words that say what to do.

use std::fmt::{self, Display};

/// One message, lowercase, from the outermost step to the cause.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Puts what was being done in front of why it failed.
pub(crate) trait Context<T> {
    fn context(self, step: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: Display> Context<T> for Result<T, E> {
    fn context(self, step: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|cause| Failure(format!("{}: {cause}", step())))
    }
}
