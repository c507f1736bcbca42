//! What a person or a program sees of a run: data on stdout, progress on stderr.
//!
//! [`Ui`] picks one of three consumers of [`Event`]s and owns both streams. It is the only way to either: nothing
//! else in the crate prints. A stdout that was closed early (`rsadm status | head -1`) is no error.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;

use crate::event::{Event, Events};

/// Certificates as a table.
pub mod certificates;
/// etcd's status as a table.
pub mod etcd_status;
/// Machine-readable progress.
pub mod json;
/// What a run looks like to a person.
pub mod lines;
/// Progress as lines.
pub mod plain;
/// A plan, for `rsadm plan`.
pub mod plan;
/// Progress on a terminal.
pub mod spinner;
/// A cluster as a table.
pub mod status;
/// Tables and other text that lines up.
pub mod text;

#[cfg(test)]
pub(crate) mod sample;

pub use text::table;

use lines::{Lines, Style};

/// How much is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Warnings and failures only.
    Quiet,
    /// A line per stage.
    #[default]
    Normal,
    /// And every step that changed something.
    Verbose,
    /// And every other step, and the log of rsadm itself.
    Debug,
}

/// What the streams are and what is wanted on them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// JSON on both streams instead of text.
    pub json: bool,
    /// How much is told on stderr.
    pub verbosity: Verbosity,
    /// Whether stderr is a terminal.
    pub terminal: bool,
    /// Whether colours are unwanted: `NO_COLOR` is set, whatever its value unless empty.
    pub no_color: bool,
    /// Whether the terminal can only write forward: `TERM=dumb`.
    pub dumb: bool,
}

impl Settings {
    /// The style that goes with them: colours only where a person sees them and did not object.
    pub fn style(self) -> Style {
        Style { color: self.terminal && !self.no_color && !self.dumb && !self.json }
    }

    /// Spinners would be torn apart by rsadm's own log, which `Debug` writes to the same terminal.
    fn spins(self) -> bool {
        self.terminal && !self.dumb && matches!(self.verbosity, Verbosity::Normal | Verbosity::Verbose)
    }
}

/// One of the three ways to show events.
trait Consumer: Send {
    /// Shows an event.
    fn event(&mut self, event: &Event);

    /// Writes finished text between events.
    fn write(&mut self, text: &str);

    /// Leaves the terminal as it was, with nothing held back.
    fn finish(&mut self);
}

/// Both output streams of the process. Clones share them.
#[derive(Clone)]
pub struct Ui {
    settings: Settings,
    stdout: Arc<Mutex<Box<dyn Write + Send>>>,
    consumer: Arc<Mutex<Box<dyn Consumer>>>,
}

impl Ui {
    /// Data goes to `stdout`, progress to `stderr`.
    pub fn new(
        settings: Settings,
        stdout: impl Write + Send + 'static,
        stderr: impl Write + Send + 'static,
    ) -> Self {
        let lines = Lines::new(settings.style(), settings.verbosity);
        let consumer: Box<dyn Consumer> = match settings {
            s if s.json => Box::new(json::Json::new(stderr)),
            s if s.spins() => Box::new(spinner::Spinner::new(lines, stderr)),
            _ => Box::new(plain::Plain::new(lines, stderr)),
        };
        let stdout: Box<dyn Write + Send> = Box::new(stdout);
        Self { settings, stdout: Arc::new(Mutex::new(stdout)), consumer: Arc::new(Mutex::new(consumer)) }
    }

    /// Where library code tells what happens.
    pub fn events(&self) -> Events {
        let consumer = self.consumer.clone();
        Events::new(move |event| locked(&consumer).event(&event))
    }

    /// Writes data to stdout as it is.
    ///
    /// # Errors
    /// Where stdout cannot be written (a full disk), but not where its reader went away.
    pub fn data(&self, text: &str) -> io::Result<()> {
        self.data_bytes(text.as_bytes())
    }

    /// Writes data to stdout: `value` as JSON where JSON is wanted, else what `text` makes of it.
    ///
    /// # Errors
    /// As [`Ui::data`].
    pub fn result<T: Serialize>(&self, value: &T, text: impl FnOnce(&T) -> String) -> io::Result<()> {
        if !self.settings.json {
            return self.data(&text(value));
        }
        let mut json = serde_json::to_vec_pretty(value).map_err(io::Error::from)?;
        json.push(b'\n');
        self.data_bytes(&json)
    }

    /// Writes a message to stderr, at any verbosity: `text` ends with a line break, `json` is the same for programs.
    pub fn message(&self, text: &str, json: &impl Serialize) {
        match self.settings.json {
            true => locked(&self.consumer).write(&json::line(json)),
            false => locked(&self.consumer).write(text),
        }
    }

    /// Writes a remark of one line to stderr, at any verbosity.
    pub fn say(&self, text: &str) {
        self.message(&format!("{text}\n"), &serde_json::json!({"event": "message", "text": text}));
    }

    /// Takes spinners off the terminal and writes what is held back. To be called before the process ends.
    pub fn finish(&self) {
        locked(&self.consumer).finish();
    }

    /// The style of texts on stderr.
    pub fn style(&self) -> Style {
        self.settings.style()
    }

    /// What it was made with.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    fn data_bytes(&self, bytes: &[u8]) -> io::Result<()> {
        let mut out = locked(&self.stdout);
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }
}

/// A consumer that panicked while it held the lock may have left half a line, which is no reason to fall silent.
fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream whose bytes can be read while it is written.
    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Buffer {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Broken(io::ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn data_and_progress_do_not_mix() {
        for (json, stdout, stderr) in [
            (false, "1\n", "  warning: swap is on\n"),
            (
                true,
                "1\n",
                "{\"event\":\"warning\",\"phase\":null,\"host\":null,\"text\":\"swap is on\",\"help\":null}\n",
            ),
        ] {
            let (out, err) = (Buffer::default(), Buffer::default());
            let ui = Ui::new(Settings { json, ..Settings::default() }, out.clone(), err.clone());
            ui.events().warn("swap is on", None);
            ui.result(&1, |n| format!("{n}\n")).unwrap();
            assert_eq!((out.text().as_str(), err.text().as_str()), (stdout, stderr));
        }
    }

    #[test]
    fn a_reader_that_went_away_is_no_error_and_a_full_disk_is_one() {
        for (kind, ok) in [(io::ErrorKind::BrokenPipe, true), (io::ErrorKind::StorageFull, false)] {
            let ui = Ui::new(Settings::default(), Broken(kind), Broken(kind));
            ui.events().warn("nobody reads this", None);
            assert_eq!(ui.data("x").is_ok(), ok, "{kind}");
        }
    }

    #[test]
    fn colours_and_spinners_are_for_willing_terminals() {
        let terminal = Settings { terminal: true, ..Settings::default() };
        for (settings, color, spins) in [
            (Settings::default(), false, false),
            (terminal, true, true),
            (Settings { no_color: true, ..terminal }, false, true),
            (Settings { dumb: true, ..terminal }, false, false),
            (Settings { verbosity: Verbosity::Quiet, ..terminal }, true, false),
            (Settings { verbosity: Verbosity::Debug, ..terminal }, true, false),
        ] {
            assert_eq!((settings.style().color, settings.spins()), (color, spins), "{settings:?}");
        }
    }
}
