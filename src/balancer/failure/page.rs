//! What an app answers failures with: which status, and pages of the operator's own.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::{Facts, Failure, Statuses};

/// How an app tells of failures.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ErrorPolicy {
    /// Which status a failure is answered with.
    pub statuses: Statuses,
    /// The pages that the operator wrote.
    pub pages: Pages,
}

/// Pages of the operator's own, by what failed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Pages(Box<[(Which, Page)]>);

impl Pages {
    /// Puts those in front that say more closely what they are for.
    pub fn new(mut pages: Vec<(Which, Page)>) -> Self {
        pages.sort_by_key(|(which, _)| *which);
        Self(pages.into())
    }

    /// The pages that suit a failure, the closest first. The status is the one that the client gets.
    pub fn of(&self, facts: Facts) -> impl Iterator<Item = &Page> {
        self.0.iter().filter(move |(which, _)| which.suits(facts)).map(|(_, page)| page)
    }

    /// All of them, with what they are for.
    pub fn all(&self) -> impl Iterator<Item = &(Which, Page)> {
        self.0.iter()
    }
}

/// What a page is for; the closest comes first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Which {
    /// One failure, by its label.
    Label(&'static str),
    /// All failures of a code.
    Code(&'static str),
    /// All failures that are answered with a status.
    Status(u16),
    /// Every failure.
    Default,
}

impl Which {
    /// Reads `default`, a label, a code or a status of the table.
    ///
    /// # Errors
    /// With what was expected.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let all = || Failure::ALL.into_iter().map(Failure::facts);
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let status = || text.parse::<u16>().ok().filter(|_| digits);
        let known = |status: &u16| all().any(|f| f.status == *status || f.rfc9110 == *status);
        let label =
            || all().find(|facts| facts.label == text).map(|facts| Self::Label(facts.label));
        let code = || all().find(|facts| facts.code == text).map(|facts| Self::Code(facts.code));
        let default = (text == "default").then_some(Self::Default);
        default.or_else(label).or_else(code).or_else(|| status().filter(known).map(Self::Status)).ok_or(
            "expected `default`, or a failure of docs/failures.md: its label, its code or its status",
        )
    }

    fn suits(self, facts: Facts) -> bool {
        match self {
            Self::Label(label) => label == facts.label,
            Self::Code(code) => code == facts.code,
            Self::Status(status) => status == facts.status,
            Self::Default => true,
        }
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Label(text) | Self::Code(text) => f.write_str(text),
            Self::Status(status) => status.fmt(f),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A page of the operator's own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Page {
    /// The file or the URL, as the configuration names it.
    pub name: Box<str>,
    /// What is in the file; `None`: it is fetched from the URL.
    pub kept: Option<Arc<Template>>,
}

/// A page with places for what is known only when it is sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Template {
    text: Bytes,
    places: Box<[(Range<usize>, Placeholder)]>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Placeholder {
    Code,
    RequestId,
    Status,
    Title,
}

const PLACEHOLDERS: [(&str, Placeholder); 4] = [
    ("{{code}}", Placeholder::Code),
    ("{{request_id}}", Placeholder::RequestId),
    ("{{status}}", Placeholder::Status),
    ("{{title}}", Placeholder::Title),
];

impl Template {
    /// Finds the places in a page: `{{code}}`, `{{request_id}}`, `{{status}}`, `{{title}}`. Other words in
    /// braces are text.
    ///
    /// # Errors
    /// When the page is not UTF-8.
    pub fn new(text: Bytes) -> Result<Self, std::str::Utf8Error> {
        let page = std::str::from_utf8(&text)?;
        let found = |(name, what): (&str, Placeholder)| {
            let starts = page.match_indices(name).map(|(start, _)| start);
            starts.map(move |start| (start..start + name.len(), what)).collect::<Vec<_>>()
        };
        let mut places: Vec<_> = PLACEHOLDERS.into_iter().flat_map(found).collect();
        places.sort_by_key(|(range, _)| range.start);
        Ok(Self { text, places: places.into() })
    }

    /// The page for one failure of one request. What is put in is escaped for HTML.
    pub fn fill(&self, facts: Facts, request_id: &str) -> Bytes {
        if self.places.is_empty() {
            return self.text.clone();
        }
        let mut page = Vec::with_capacity(self.text.len() + 64 * self.places.len());
        let mut end = 0;
        for (range, what) in &self.places {
            page.extend_from_slice(&self.text[end..range.start]);
            match what {
                Placeholder::Code => escape(facts.code, &mut page),
                Placeholder::RequestId => escape(request_id, &mut page),
                Placeholder::Status => escape(&facts.status.to_string(), &mut page),
                Placeholder::Title => escape(facts.text, &mut page),
            }
            end = range.end;
        }
        page.extend_from_slice(&self.text[end..]);
        page.into()
    }
}

/// Writes text so that it is text in HTML, between tags and in quoted attributes.
fn escape(text: &str, page: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            b'&' => page.extend_from_slice(b"&amp;"),
            b'<' => page.extend_from_slice(b"&lt;"),
            b'>' => page.extend_from_slice(b"&gt;"),
            b'"' => page.extend_from_slice(b"&quot;"),
            b'\'' => page.extend_from_slice(b"&#39;"),
            byte => page.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(page: &'static str, id: &str) -> String {
        let page = Template::new(Bytes::from_static(page.as_bytes())).unwrap();
        String::from_utf8(page.fill(Failure::FirstByteTimeout.facts(), id).to_vec()).unwrap()
    }

    #[test]
    fn places_are_filled_and_what_is_put_in_is_text() {
        assert_eq!(filled("<b>{{code}}</b> {{status}}", ""), "<b>H12</b> 503");
        assert_eq!(
            filled("{{request_id}}", "<a href='x'>&\""),
            "&lt;a href=&#39;x&#39;&gt;&amp;&quot;"
        );
        assert_eq!(filled("{{title}}{{title}}", ""), "Request timeoutRequest timeout");
        for plain in ["", "{{ code }} {{name}} {code} {{cod", "{{{{", "ä{{"] {
            assert_eq!(filled(plain, "id"), plain);
        }
        // What was put in is not looked at again.
        assert_eq!(filled("{{request_id}}", "{{code}}"), "{{code}}");
    }

    #[test]
    fn a_page_that_is_no_text_is_none() {
        assert!(Template::new(Bytes::from_static(b"\xff")).is_err());
    }

    #[test]
    fn the_page_that_says_most_closely_what_it_is_for_comes_first() {
        let page =
            |name: &str| (Which::parse(name).unwrap(), Page { name: name.into(), kept: None });
        let all = ["default", "503", "504", "H12", "maintenance", "first_byte_timeout"];
        let pages = Pages::new(all.map(page).to_vec());
        let names = |facts| pages.of(facts).map(|page| &*page.name).collect::<Vec<_>>();
        let facts = Failure::FirstByteTimeout.facts();
        assert_eq!(names(facts), ["first_byte_timeout", "H12", "503", "default"]);
        let other = facts.with(Statuses::Rfc9110);
        assert_eq!(names(other), ["first_byte_timeout", "H12", "504", "default"]);
        assert_eq!(names(Failure::UnknownHost.facts()), ["default"]);
    }

    #[test]
    fn what_a_page_is_for_is_in_the_table() {
        for failure in Failure::ALL {
            let facts = failure.facts();
            for text in [facts.label, facts.code, &facts.status.to_string()] {
                assert_eq!(Which::parse(text).unwrap().to_string(), text);
            }
        }
        for text in ["", "H99x", "h12", "200", "600", "Maintenance", "+503"] {
            assert!(Which::parse(text).is_err(), "{text}");
        }
    }
}
