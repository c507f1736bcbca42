//! Lines, one after the other: for pipes, logs and CI, and for terminals that cannot move their cursor.

use std::io::Write;

use crate::{
    event::Event,
    ui::{Consumer, lines::Lines},
};

/// Writes the lines of events as they come.
pub struct Plain<W> {
    lines: Lines,
    out: W,
}

impl<W: Write + Send> Plain<W> {
    /// Writes to `out`.
    pub fn new(lines: Lines, out: W) -> Self {
        Self { lines, out }
    }
}

impl<W: Write + Send> Consumer for Plain<W> {
    fn event(&mut self, event: &Event) {
        let text = self.lines.render(event);
        self.write(&text);
    }

    /// Progress that nobody can read (a closed stderr) is no reason to stop work on hosts half-way.
    fn write(&mut self, text: &str) {
        if !text.is_empty() {
            let _ = self.out.write_all(text.as_bytes());
            let _ = self.out.flush();
        }
    }

    fn finish(&mut self) {
        let text = self.lines.release(None);
        self.write(&text);
    }
}
