//! What a lab takes of the machine while it is up.

use std::{
    fs,
    sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::Duration,
};

/// One core carries this many shares. A cluster of three control planes and two workers (ten shares) keeps a little more than
/// one core busy, measured on 2 cores: much of what a scenario does is to wait.
const OF_A_CORE: usize = 7;

/// That cluster, which is the largest one; nodes of etcd alone make none larger.
const LARGEST: usize = 10;

/// All scenarios begin together, and nobody goes before the others have said what they want.
const ALL_HAVE_ASKED: Duration = Duration::from_millis(300);

static MACHINE: Machine =
    Machine { state: Mutex::new(State { taken: 0, waiting: Vec::new() }), freed: Condvar::new() };

struct Machine {
    state: Mutex<State>,
    freed: Condvar,
}

struct State {
    taken: usize,
    /// What those want who could not have it yet.
    waiting: Vec<usize>,
}

/// Held while a lab is up.
pub struct Share(usize);

impl Share {
    /// Waits until that much is free, at most what the largest lab keeps busy. Of those that fit the one that wants most is next,
    /// so that the largest labs are not the last ones, each by itself.
    pub fn wait_for(shares: usize) -> Self {
        let shares = shares.min(LARGEST);
        static CAPACITY: OnceLock<usize> = OnceLock::new();
        MACHINE.take(shares, *CAPACITY.get_or_init(capacity));
        Self(shares)
    }
}

/// By the cores, and by the memory: with its disk in it, a share takes two thirds of a GiB.
fn capacity() -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kibibytes = available.and_then(|words| words.trim().split(' ').next()?.parse::<usize>().ok());
    (cores * OF_A_CORE).min(kibibytes.map_or(usize::MAX, |size| size >> 20))
}

impl Drop for Share {
    fn drop(&mut self) {
        MACHINE.state().taken -= self.0;
        MACHINE.freed.notify_all();
    }
}

impl Machine {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, shares: usize, capacity: usize) {
        self.state().waiting.push(shares);
        thread::sleep(ALL_HAVE_ASKED);
        let mut state = self
            .freed
            .wait_while(self.state(), |state| !state.is_next(shares, capacity))
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = state.waiting.iter().position(|other| *other == shares) {
            state.waiting.swap_remove(place);
        }
        state.taken += shares;
        drop(state);
        // Whoever is after this one may fit too.
        self.freed.notify_all();
    }
}

impl State {
    /// A lab that is larger than the machine has it to itself.
    fn is_next(&self, shares: usize, capacity: usize) -> bool {
        let fits = |shares: usize| self.taken == 0 || self.taken + shares <= capacity;
        fits(shares) && !self.waiting.iter().any(|other| *other > shares && fits(*other))
    }
}

#[test]
fn the_largest_that_fits_is_next() {
    let state = |taken, waiting: &[usize]| State { taken, waiting: waiting.to_vec() };
    assert!(state(0, &[3, 10]).is_next(10, 14));
    assert!(!state(0, &[3, 10]).is_next(3, 14), "the larger one first");
    assert!(state(10, &[3, 4]).is_next(4, 14), "beside it");
    assert!(!state(10, &[3, 6]).is_next(6, 14), "there is no room");
    assert!(state(10, &[3, 6]).is_next(3, 14), "but for the smaller one");
    assert!(
        state(0, &[20]).is_next(20, 14) && !state(3, &[20]).is_next(20, 14),
        "larger than the machine: alone"
    );
}
