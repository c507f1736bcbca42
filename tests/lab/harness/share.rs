//! What a lab takes of the machine while it is up.

use std::{
    fs,
    sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::Duration,
};

/// One core carries this many shares. Much of what a scenario does is to wait; but control planes want much at once when they
/// start, and two large clusters that do so together end each other's waits, so that these have more shares than they keep busy.
const OF_A_CORE: usize = 7;

/// A scenario: its name, the shares of its lab, and the seconds that it is up; measured on 2 cores beside others.
type Measured = (&'static str, usize, usize);

/// How many run at once and their order follow from this, nothing else.
const MEASURED: [Measured; 19] = [
    ("stacked", 11, 870),
    ("external", 9, 470),
    ("kubeadm-built", 8, 1000),
    ("growth", 5, 550),
    ("etcd-only", 5, 290),
    ("refusals", 5, 40),
    ("snapshots", 4, 860),
    ("upkeep", 4, 715),
    ("members", 4, 690),
    ("rollback", 4, 510),
    ("restored", 4, 355),
    ("killed", 4, 265),
    ("etcd-upgrade", 4, 245),
    ("interrupted", 4, 230),
    ("certificates", 4, 190),
    ("single", 4, 100),
    ("trixie", 4, 90),
    ("kept-out", 3, 240),
    ("cis", 4, 60),
];

/// Of one that is new.
const UNMEASURED: Measured = ("", 9, 600);

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
    /// Those who could not have their share yet.
    waiting: Vec<Measured>,
}

/// Held while a lab is up.
pub struct Share(usize);

impl Share {
    /// Waits until the machine has enough for that scenario. Of those that fit the one with most work is next, so that the large
    /// ones are not the last, each by itself.
    pub fn wait_for(scenario: &str) -> Self {
        static CAPACITY: OnceLock<usize> = OnceLock::new();
        let measured = MEASURED.into_iter().find(|(name, ..)| *name == scenario).unwrap_or(UNMEASURED);
        MACHINE.take(measured, *CAPACITY.get_or_init(capacity));
        Self(measured.1)
    }
}

/// By the cores, and by the memory: with its disk in it, a share takes one GiB.
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

    fn take(&self, wanted: Measured, capacity: usize) {
        self.state().waiting.push(wanted);
        thread::sleep(ALL_HAVE_ASKED);
        let mut state = self
            .freed
            .wait_while(self.state(), |state| !state.is_next(wanted, capacity))
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = state.waiting.iter().position(|other| *other == wanted) {
            state.waiting.swap_remove(place);
        }
        state.taken += wanted.1;
        drop(state);
        // Whoever is after this one may fit too.
        self.freed.notify_all();
    }
}

impl State {
    /// A lab that is larger than the machine has it to itself.
    fn is_next(&self, wanted: Measured, capacity: usize) -> bool {
        let fits = |(_, shares, _): Measured| self.taken == 0 || self.taken + shares <= capacity;
        let work = |(_, shares, seconds): Measured| shares * seconds;
        fits(wanted) && !self.waiting.iter().any(|other| work(*other) > work(wanted) && fits(*other))
    }
}

#[test]
fn the_one_with_most_work_that_fits_is_next() {
    const LARGE: Measured = ("large", 10, 100);
    const LONG: Measured = ("long", 4, 300);
    const SMALL: Measured = ("small", 3, 100);
    let state = |taken, waiting: &[Measured]| State { taken, waiting: waiting.to_vec() };
    assert!(state(0, &[SMALL, LARGE]).is_next(LARGE, 14));
    assert!(!state(0, &[SMALL, LARGE]).is_next(SMALL, 14), "the larger one first");
    assert!(!state(0, &[LONG, LARGE]).is_next(LARGE, 14), "the longer one first");
    assert!(state(10, &[SMALL, LONG]).is_next(LONG, 14), "beside it");
    assert!(!state(11, &[SMALL, LONG]).is_next(LONG, 14), "there is no room");
    assert!(state(11, &[SMALL, LONG]).is_next(SMALL, 14), "but for the smaller one");
    assert!(state(0, &[LARGE]).is_next(LARGE, 7), "larger than the machine: alone");
    assert!(!state(3, &[LARGE]).is_next(LARGE, 7), "and never beside another");
}
