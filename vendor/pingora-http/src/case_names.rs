// Copyright 2026 Cloudflare, Inc.
//
// Licensed under the Apache License, Version 2.0 (the "License");
// you may not use this file except in compliance with the License.
// You may obtain a copy of the License at
//
// http://www.apache.org/licenses/LICENSE-2.0
//
// Unless required by applicable law or agreed to in writing, software
// distributed under the License is distributed on an "AS IS" BASIS,
// WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
// See the License for the specific language governing permissions and
// limitations under the License.

use crate::CaseHeaderName;
use http::header::HeaderName;

/// The original cases of the header names of an [HMap](crate::HMap), in the order in which that iterates over them.
///
/// The map finds headers; their cases are only asked for all together, so a list is enough. It does what the map does
/// with its entries: a name that is new comes last, and where one is removed, the last takes its place.
#[derive(Debug, Clone)]
pub(crate) struct CaseNames(Vec<Entry>);

/// The cases of one name: of its first header, and of those which were appended to it.
#[derive(Debug, Clone)]
struct Entry {
    first: CaseHeaderName,
    more: Vec<CaseHeaderName>,
}

impl CaseNames {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        CaseNames(Vec::with_capacity(capacity))
    }

    pub(crate) fn reserve(&mut self, additional: usize) {
        self.0.reserve(additional)
    }

    /// A header was appended to the map, which had one of that name if it `existed`.
    pub(crate) fn append(&mut self, name: CaseHeaderName, existed: bool) {
        match self.existing(&name, existed) {
            Some(entry) => entry.more.push(name),
            None => self.push(name),
        }
    }

    /// A header was inserted into the map, in place of those of its name if it `existed`.
    pub(crate) fn insert(&mut self, name: CaseHeaderName, existed: bool) {
        match self.existing(&name, existed) {
            Some(entry) => {
                entry.first = name;
                entry.more.clear();
            }
            None => self.push(name),
        }
    }

    /// One name was removed from the map, and these are `left`.
    pub(crate) fn remove<'a>(&mut self, left: impl Iterator<Item = &'a HeaderName>) {
        let removed = self.0.iter().zip(left).position(|(e, h)| !e.first.is(h));
        // the last one, when all before it are there
        let removed = removed.unwrap_or(self.0.len() - 1);
        self.0.swap_remove(removed);
    }

    pub(crate) fn iter(&self) -> Iter<'_> {
        Iter {
            entries: self.0.iter(),
            more: [].iter(),
        }
    }

    fn existing(&mut self, name: &CaseHeaderName, existed: bool) -> Option<&mut Entry> {
        if !existed {
            return None;
        }
        self.0.iter_mut().find(|entry| {
            let first = entry.first.as_slice();
            first.eq_ignore_ascii_case(name.as_slice())
        })
    }

    fn push(&mut self, first: CaseHeaderName) {
        let more = Vec::new();
        self.0.push(Entry { first, more });
    }
}

pub(crate) struct Iter<'a> {
    entries: std::slice::Iter<'a, Entry>,
    more: std::slice::Iter<'a, CaseHeaderName>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a CaseHeaderName;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(name) = self.more.next() {
            return Some(name);
        }
        let entry = self.entries.next()?;
        self.more = entry.more.iter();
        Some(&entry.first)
    }
}

#[cfg(test)]
mod tests {
    use crate::{RequestHeader, ResponseHeader};

    fn wire(header: &ResponseHeader) -> String {
        let mut wire = Vec::new();
        header.header_to_h1_wire(&mut wire);
        String::from_utf8(wire).unwrap()
    }

    #[test]
    fn test_names_follow_the_map() {
        let mut header = ResponseHeader::build(200, None).unwrap();
        for (name, value) in [("A", "1"), ("b", "2"), ("C", "3"), ("B", "4"), ("d", "5")] {
            header.append_header(name, value).unwrap();
        }
        assert_eq!(wire(&header), "A: 1\r\nb: 2\r\nB: 4\r\nC: 3\r\nd: 5\r\n");
        assert_eq!(header.remove_header("a").unwrap(), "1");
        assert_eq!(wire(&header), "d: 5\r\nb: 2\r\nB: 4\r\nC: 3\r\n");
        assert_eq!(header.remove_header("c").unwrap(), "3");
        assert!(header.remove_header("c").is_none());
        header.insert_header("B", "6").unwrap();
        header.append_header("a", "7").unwrap();
        assert_eq!(wire(&header.clone()), "d: 5\r\nB: 6\r\na: 7\r\n");
    }

    #[test]
    fn test_names_follow_the_map_whatever_happens() {
        let mut seed: u32 = 7;
        let mut next = |n: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 16) % n
        };
        let names = ["a", "A", "b", "B", "host", "Host", "HOST", "x-Y", "X-y", "Cookie"];
        let mut header = RequestHeader::build("GET", b"/", None).unwrap();
        for _ in 0..10_000 {
            let name = names[next(names.len() as u32) as usize];
            match next(4) {
                0 => header.insert_header(name, name).unwrap(),
                1 => drop(header.remove_header(name)),
                _ if header.headers.len() > 30 => {}
                _ => drop(header.append_header(name, name).unwrap()),
            }
            // each value is the name that it came with
            let pairs: Vec<_> = header.case_header_iter().collect();
            assert_eq!(pairs.len(), header.headers.len());
            for (name, value) in pairs {
                assert_eq!(name.as_slice(), value.as_bytes());
            }
        }
    }
}
