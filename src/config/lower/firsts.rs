//! What came first under a key, to find what is there twice.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

use foldhash::fast::RandomState;

/// So many are compared one by one: most lists are short, and there may be 100,000 of them.
const FEW: usize = 8;

/// What came first under each key.
pub(super) struct Firsts<K, V> {
    few: Vec<(K, V)>,
    /// All, as soon as they are more than a few.
    many: HashMap<K, V, RandomState>,
}

impl<K, V> Default for Firsts<K, V> {
    fn default() -> Self {
        Self { few: Vec::new(), many: HashMap::default() }
    }
}

impl<K: Eq + Hash, V: Clone> Firsts<K, V> {
    /// Remembers what came first under a key: the value that came before this one, if one did.
    pub(super) fn earlier(&mut self, key: K, value: V) -> Option<V> {
        if self.many.is_empty() {
            if let Some((_, first)) = self.few.iter().find(|(other, _)| *other == key) {
                return Some(first.clone());
            }
            if self.few.len() < FEW {
                self.few.push((key, value));
                return None;
            }
            self.many.extend(self.few.drain(..));
        }
        match self.many.entry(key) {
            Entry::Occupied(entry) => Some(entry.get().clone()),
            Entry::Vacant(entry) => {
                entry.insert(value);
                None
            }
        }
    }

    /// Whether there is anything under a key.
    pub(super) fn has(&self, key: &K) -> bool {
        self.many.contains_key(key) || self.few.iter().any(|(other, _)| other == key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_of_a_key_stays_however_many_there_are() {
        let mut firsts = Firsts::default();
        for count in 0..3 * FEW {
            assert_eq!(firsts.earlier(count, count), None);
            for key in 0..=count {
                assert_eq!(firsts.earlier(key, 100), Some(key), "{key} of {count}");
                assert!(firsts.has(&key));
            }
            assert!(!firsts.has(&(count + 1)));
        }
    }
}
