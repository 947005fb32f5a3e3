//! Which objects of a kind exist, and which of them share something. No I/O.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;

/// What was last seen of an object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Seen<L> {
    /// What the object asks for: when this changes, it is reconciled.
    pub(crate) asked: Asked,
    /// What its status says: when this changes, whoever depends on the object is reconciled.
    pub(crate) said: String,
    /// What it shares with others.
    pub(crate) links: Vec<L>,
}

/// What an object asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Asked {
    pub(crate) uid: Option<String>,
    /// Raised by the API server with every change of the spec, and by a deletion.
    pub(crate) generation: Option<i64>,
    /// Whether our finalizer is on it: somebody may take it off.
    pub(crate) finalizer: bool,
}

/// Namespace and name.
pub(crate) type Place = (String, String);

/// All objects of a kind.
pub(crate) struct Index<L> {
    seen: HashMap<String, HashMap<String, Seen<L>>>,
    linked: HashMap<(String, L), BTreeSet<String>>,
}

impl<L> Default for Index<L> {
    fn default() -> Self {
        Self {
            seen: HashMap::new(),
            linked: HashMap::new(),
        }
    }
}

impl<L: Clone + Eq + Hash> Index<L> {
    /// Puts an object in; gives what was seen of it before.
    pub(crate) fn insert(&mut self, place: &Place, seen: Seen<L>) -> Option<Seen<L>> {
        let before = self.remove(place);
        let (namespace, name) = place;
        for link in &seen.links {
            let sharers = self
                .linked
                .entry((namespace.clone(), link.clone()))
                .or_default();
            sharers.insert(name.clone());
        }
        self.seen
            .entry(namespace.clone())
            .or_default()
            .insert(name.clone(), seen);
        before
    }

    /// Takes an object out; gives what was seen of it.
    pub(crate) fn remove(&mut self, (namespace, name): &Place) -> Option<Seen<L>> {
        let siblings = self.seen.get_mut(namespace)?;
        let before = siblings.remove(name)?;
        if siblings.is_empty() {
            self.seen.remove(namespace);
        }
        for link in &before.links {
            let key = (namespace.clone(), link.clone());
            if let Some(sharers) = self.linked.get_mut(&key) {
                sharers.remove(name);
                if sharers.is_empty() {
                    self.linked.remove(&key);
                }
            }
        }
        Some(before)
    }

    /// The names of the objects in a namespace that share `link`.
    pub(crate) fn sharing(&self, namespace: &str, link: &L) -> Vec<String> {
        let sharers = self.linked.get(&(namespace.to_owned(), link.clone()));
        sharers.into_iter().flatten().cloned().collect()
    }

    /// The names of the objects in a namespace.
    pub(crate) fn within(&self, namespace: &str) -> Vec<String> {
        self.seen
            .get(namespace)
            .into_iter()
            .flat_map(HashMap::keys)
            .cloned()
            .collect()
    }

    /// All objects.
    pub(crate) fn places(&self) -> Vec<Place> {
        let of_namespace = |(namespace, names): (&String, &HashMap<String, _>)| {
            let place = |name: &String| (namespace.clone(), name.clone());
            names.keys().map(place).collect::<Vec<_>>()
        };
        self.seen.iter().flat_map(of_namespace).collect()
    }

    /// The objects that have one of these UIDs.
    pub(crate) fn of(&self, uids: &HashSet<String>) -> Vec<Place> {
        let mut found = Vec::new();
        for (namespace, names) in &self.seen {
            let has = |seen: &Seen<L>| {
                seen.asked
                    .uid
                    .as_ref()
                    .is_some_and(|uid| uids.contains(uid))
            };
            let names = names.iter().filter(|(_, seen)| has(seen));
            found.extend(names.map(|(name, _)| (namespace.clone(), name.clone())));
        }
        found
    }

    /// Whether a namespace has none.
    pub(crate) fn is_empty_in(&self, namespace: &str) -> bool {
        !self.seen.contains_key(namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::{Asked, Index, Seen};

    fn place(name: &str) -> (String, String) {
        ("team".to_owned(), name.to_owned())
    }

    fn seen(links: &[&'static str]) -> Seen<&'static str> {
        let asked = Asked {
            uid: None,
            generation: Some(1),
            finalizer: false,
        };
        Seen {
            asked,
            said: String::new(),
            links: links.to_vec(),
        }
    }

    #[test]
    fn objects_are_found_by_what_they_share_now() {
        let mut index = Index::default();
        index.insert(&place("a"), seen(&["x", "y"]));
        index.insert(&place("b"), seen(&["x"]));
        assert_eq!(index.sharing("team", &"x"), ["a", "b"]);
        assert_eq!(
            index.insert(&place("a"), seen(&["y"])),
            Some(seen(&["x", "y"]))
        );
        assert_eq!(index.sharing("team", &"x"), ["b"]);
        assert_eq!(index.sharing("team", &"y"), ["a"]);
        assert!(index.sharing("other", &"x").is_empty());
    }

    #[test]
    fn objects_are_found_by_their_uid_of_now() {
        let of = |uid: &str| {
            let mut seen = seen(&[]);
            seen.asked.uid = Some(uid.to_owned());
            seen
        };
        let mut index = Index::default();
        index.insert(&place("a"), of("1"));
        index.insert(&place("b"), of("2"));
        index.insert(&place("b"), of("3"));
        let find = |uids: &[&str]| index.of(&uids.iter().map(|uid| (*uid).to_owned()).collect());
        assert_eq!(find(&["1", "2"]), [place("a")]);
        assert_eq!(find(&["3"]), [place("b")]);
        assert!(find(&[]).is_empty());
    }

    #[test]
    fn a_removed_object_leaves_nothing() {
        let mut index = Index::default();
        index.insert(&place("a"), seen(&["x"]));
        assert!(!index.is_empty_in("team"));
        assert_eq!(index.remove(&place("a")), Some(seen(&["x"])));
        assert_eq!(index.remove(&place("a")), None);
        assert!(index.is_empty_in("team"));
        assert!(index.sharing("team", &"x").is_empty());
        assert!(index.places().is_empty() && index.linked.is_empty());
    }
}
