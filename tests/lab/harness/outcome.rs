//! What a program came to.

use std::process::Output;

use super::{Check, Fault};

/// A program that ended, and what it said.
#[derive(Debug)]
pub struct Outcome {
    /// What was run, for people.
    pub command: String,
    /// Its exit code; -1 where a signal ended it.
    pub code: i32,
    /// Its results.
    pub stdout: String,
    /// Its messages.
    pub stderr: String,
}

impl Outcome {
    /// Of a process that ended.
    pub fn new(command: impl Into<String>, output: &Output) -> Self {
        Self {
            command: command.into(),
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Itself, where it exited with that code.
    pub fn exits(self, code: i32) -> Result<Self, Fault> {
        ensure!(self.code == code, "exit {} instead of {code}: {}", self.code, self.all());
        Ok(self)
    }

    /// Itself, where it ended as a look at etcd does: well, or in the midst of an election.
    pub fn ends_with_a_look(self) -> Result<Self, Fault> {
        if matches!(self.code, 8 | 9) { Ok(self) } else { self.ok() }
    }

    /// Itself, where it succeeded.
    pub fn ok(self) -> Result<Self, Fault> {
        self.exits(0)
    }

    /// True where hosts were too busy to let it in, and nothing else was in its way: it has begun nothing on any.
    pub fn found_hosts_busy(&self) -> bool {
        let error = self.stderr.lines().skip_while(|line| !line.starts_with("error: "));
        let error = error.take_while(|line| !line.trim_start().starts_with("hint: "));
        let told: Vec<&str> = error.filter(|line| !line.ends_with(" cannot be used")).collect();
        let is_late = |line: &&str| line.contains("no login within") || line.contains(" no shell within");
        self.code == 4 && !told.is_empty() && told.iter().all(is_late)
    }

    /// Its results without the last line's end, where it succeeded.
    pub fn text(self) -> Result<String, Fault> {
        Ok(self.ok()?.stdout.trim_end().to_owned())
    }

    /// Passes where it said that, on either stream.
    pub fn says(&self, text: &str) -> Check {
        ensure!(
            self.stdout.contains(text) || self.stderr.contains(text),
            "does not say {text:?}: {}",
            self.all()
        );
        Ok(())
    }

    /// Passes where it did not say that.
    pub fn says_nothing_of(&self, text: &str) -> Check {
        ensure!(!self.stdout.contains(text) && !self.stderr.contains(text), "says {text:?}: {}", self.all());
        Ok(())
    }

    /// All it said.
    pub fn all(&self) -> String {
        format!("{}\n{}{}", self.command, self.stdout, self.stderr)
    }
}

#[test]
fn whoever_is_late_is_told_from_whoever_is_away() {
    let ended = |code, stderr: &str| Outcome {
        command: "rsadm".into(),
        code,
        stdout: String::new(),
        stderr: format!("[connect]  2 of 3 hosts cannot be used  14.0 s\n{stderr}"),
    };
    let one = "error: could not connect to e1: no login within 14.0 s\n  hint: is it on?\n";
    let two = "error: 2 of 3 hosts cannot be used\n  e1  could not connect: no login within 14.0 s\n  \
        e2  could not connect: logged in, and sudo gave no shell within 14.0 s\n  hint: e1, e2: is it on?\n";
    assert!(ended(4, one).found_hosts_busy() && ended(4, two).found_hosts_busy());
    assert!(!ended(6, one).found_hosts_busy(), "something was begun");
    let away = two.replace("logged in, and sudo gave no shell within 14.0 s", "No route to host");
    assert!(!ended(4, &away).found_hosts_busy(), "one of them is away");
    assert!(!ended(4, "").found_hosts_busy());
}
