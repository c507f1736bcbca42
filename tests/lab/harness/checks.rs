//! Checks of a scenario: named, timed, and all carried out before the scenario fails.

use std::{
    error::Error,
    fmt, thread,
    time::{Duration, Instant},
};

/// Why a check failed.
pub type Fault = Box<dyn Error>;

/// What a check comes to.
pub type Check = Result<(), Fault>;

/// Why a check was not carried out, where nothing is wrong: this machine lacks what it takes.
#[derive(Debug)]
pub struct Skipped(pub &'static str);

impl Error for Skipped {}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The checks of one scenario.
pub struct Checks {
    scenario: &'static str,
    started: Instant,
    passed: usize,
    skipped: usize,
    failed: Vec<String>,
}

impl Checks {
    /// None yet.
    pub fn new(scenario: &'static str) -> Self {
        println!("\n=== {scenario}");
        Self { scenario, started: Instant::now(), passed: 0, skipped: 0, failed: Vec::new() }
    }

    /// Carries out a check, and tells what it came to; the scenario goes on either way.
    pub fn check(&mut self, what: &str, check: impl FnOnce() -> Check) -> bool {
        let started = Instant::now();
        let result = check();
        let seconds = started.elapsed().as_secs_f64();
        match result {
            Ok(()) => {
                println!("[{}] ok      {what}  {seconds:.1} s", self.scenario);
                self.passed += 1;
                true
            }
            Err(fault) if fault.is::<Skipped>() => {
                println!("[{}] skipped {what}: {fault}", self.scenario);
                self.skipped += 1;
                true
            }
            Err(fault) => {
                println!(
                    "[{}] FAILED  {what}  {seconds:.1} s\n{}",
                    self.scenario,
                    indented(&fault.to_string())
                );
                self.failed.push(format!("{what}\n{}", indented(&fault.to_string())));
                false
            }
        }
    }

    /// The same for what all later checks build on: where it fails, the scenario ends.
    pub fn must(&mut self, what: &str, check: impl FnOnce() -> Check) {
        if !self.check(what, check) {
            self.finish();
        }
    }

    /// Tells what the scenario came to, and fails where a check did.
    pub fn finish(&self) {
        let (name, failed) = (self.scenario, self.failed.len());
        println!("[{name}] {}  {:.1} s", self.summary(), self.started.elapsed().as_secs_f64());
        assert!(self.failed.is_empty(), "{name}: {failed} checks failed:\n{}", self.failed.join("\n"));
    }

    fn summary(&self) -> String {
        let skipped = if self.skipped == 0 { String::new() } else { format!(", {} skipped", self.skipped) };
        format!("{} checks passed, {} failed{skipped}", self.passed, self.failed.len())
    }
}

/// Tries a check until it passes, and fails with its last fault after ten minutes: far longer than anything here
/// takes, so that a slow machine fails nothing. What takes long is asked less often: the machine has other labs.
pub fn eventually<T>(mut check: impl FnMut() -> Result<T, Fault>) -> Result<T, Fault> {
    let start = Instant::now();
    loop {
        match check() {
            Ok(found) => return Ok(found),
            Err(fault) if start.elapsed() > Duration::from_secs(600) => {
                return Err(format!("for ten minutes: {fault}").into());
            }
            Err(_) => {
                thread::sleep(
                    (start.elapsed() / 20).clamp(Duration::from_millis(500), Duration::from_secs(2)),
                );
            }
        }
    }
}

/// A long text keeps its first and last lines.
fn indented(text: &str) -> String {
    const SIDE: usize = 40;
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let shown = match lines.len() {
        n if n > 2 * SIDE => [&lines[..SIDE], &["[…]"], &lines[n - SIDE..]].concat(),
        _ => lines,
    };
    shown.iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

#[test]
fn what_was_not_carried_out_has_neither_passed_nor_failed() {
    let mut checks = Checks::new("a test of checks");
    checks.check("one", || Ok(()));
    assert_eq!(checks.summary(), "1 checks passed, 0 failed");
    checks.check("another", || Err(Skipped("this machine has no moon").into()));
    assert_eq!(checks.summary(), "1 checks passed, 0 failed, 1 skipped");
    checks.finish();
}
