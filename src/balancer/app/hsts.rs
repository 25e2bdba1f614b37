//! What browsers are told of an app that is to be asked over TLS only (RFC 6797).

use std::time::Duration;

use http::HeaderValue;

/// `Strict-Transport-Security` of an app.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hsts {
    /// How long browsers remember it, in whole seconds.
    pub max_age: Duration,
    /// Whether it holds for all names below the host, too.
    pub include_subdomains: bool,
    /// Whether browsers may have it on a list of their own.
    pub preload: bool,
}

impl Hsts {
    /// The value of the field.
    pub fn value(&self) -> HeaderValue {
        let mut text = format!("max-age={}", self.max_age.as_secs());
        for (word, is_on) in
            [("; includeSubDomains", self.include_subdomains), ("; preload", self.preload)]
        {
            text.push_str(if is_on { word } else { "" });
        }
        HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("max-age=0"))
    }
}

/// What is told, made once.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ToldHsts {
    /// What it says.
    pub hsts: Hsts,
    /// The field that says it.
    pub value: HeaderValue,
}

impl From<Hsts> for ToldHsts {
    fn from(hsts: Hsts) -> Self {
        let value = hsts.value();
        Self { hsts, value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_says_how_long_and_for_whom() {
        let year = Duration::from_secs(31_536_000);
        let value = |max_age, include_subdomains, preload| {
            let told = ToldHsts::from(Hsts { max_age, include_subdomains, preload });
            told.value.to_str().unwrap().to_owned()
        };
        assert_eq!(value(year, false, false), "max-age=31536000");
        assert_eq!(value(Duration::ZERO, true, false), "max-age=0; includeSubDomains");
        assert_eq!(value(year, true, true), "max-age=31536000; includeSubDomains; preload");
    }
}
