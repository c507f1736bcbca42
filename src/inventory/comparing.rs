//! How often names of hosts were compared, for tests of how work grows: whoever looks for one host among all compares
//! names, in a list as in a map.

use std::{
    cell::Cell,
    cmp::Ordering,
    hash::{Hash, Hasher},
};

use super::NodeName;

thread_local! {
    static COMPARISONS: Cell<usize> = const { Cell::new(0) };
}

/// What `work` came to, and how often names were compared on the way.
pub(crate) fn comparisons<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = COMPARISONS.get();
    let done = work();
    (done, COMPARISONS.get() - before)
}

impl Ord for NodeName {
    fn cmp(&self, other: &Self) -> Ordering {
        COMPARISONS.set(COMPARISONS.get() + 1);
        self.0.cmp(&other.0)
    }
}

impl PartialOrd for NodeName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for NodeName {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for NodeName {}

impl Hash for NodeName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}
