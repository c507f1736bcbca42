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
        if self.code == 8 { Ok(self) } else { self.ok() }
    }

    /// Itself, where it succeeded.
    pub fn ok(self) -> Result<Self, Fault> {
        self.exits(0)
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
