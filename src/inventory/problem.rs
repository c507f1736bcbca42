//! What is wrong with an inventory: every problem at once, each with its place, its path and a way out.
//!
//! Reading and checking note [`Findings`] by path only; the places are looked up once, at the end, so no check has to
//! carry lines around.

use std::{
    cell::RefCell,
    fmt,
    fmt::Write as _,
    path::{Path as FsPath, PathBuf},
};

use serde::Serialize;

use super::{
    locate::{Place, Places},
    strays::Strays,
};

/// One thing that is wrong (or, as a warning, unwise).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Line, counted from one.
    pub line: usize,
    /// Column in characters, counted from one.
    pub column: usize,
    /// `hosts[2].roles[0]`; empty where the whole file is meant.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// The way out.
    pub help: Option<String>,
}

impl fmt::Display for Problem {
    /// `3:1 path: message; help`, with the place padded to the width that the formatter asks for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = format!("{}:{}", self.line, self.column);
        write!(f, "{place:<width$} ", width = f.width().unwrap_or(0))?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match &self.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

/// Everything that keeps a file from being a cluster, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct Problems {
    /// The file's name, as the operator gave it.
    pub file: String,
    /// At least one.
    pub problems: Vec<Problem>,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.problems.len() == 1 { "problem" } else { "problems" };
        write!(f, "{} has {} {plural}\n{}", self.file, self.problems.len(), table(&self.problems))
    }
}

/// One indented line a problem, the places aligned; no line end after the last.
pub fn table(problems: &[Problem]) -> String {
    let digits = |n: usize| n.to_string().len();
    let width = problems.iter().map(|p| digits(p.line) + 1 + digits(p.column)).max().unwrap_or(0) + 2;
    let mut text = String::new();
    for (i, problem) in problems.iter().enumerate() {
        let end = if i == 0 { "" } else { "\n" };
        // Writing to a string cannot fail.
        let _ = write!(text, "{end}  {problem:width$}");
    }
    text
}

/// One step into a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Key(String),
    Index(usize),
}

/// A way from the top of the document to a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Path(pub(super) Vec<Segment>);

impl Path {
    pub(super) fn key(&self, key: &str) -> Self {
        self.with(Segment::Key(key.to_owned()))
    }

    pub(super) fn index(&self, index: usize) -> Self {
        self.with(Segment::Index(index))
    }

    fn with(&self, segment: Segment) -> Self {
        let mut longer = self.clone();
        longer.0.push(segment);
        longer
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Key(key) if i == 0 => f.write_str(&shorten(key))?,
                Segment::Key(key) => write!(f, ".{}", shorten(key))?,
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// Why a value is none, with the way out: what a parser of one value answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) message: String,
    pub(super) help: String,
}

impl Fault {
    pub(super) fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into() }
    }
}

/// Which part of an entry a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Key,
    Value,
}

/// What an inventory is read for: each use takes all that the one before it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Purpose {
    /// To build a cluster, or to make one what the inventory says.
    Build,
    /// To look after a cluster that is there.
    Keep,
    /// To take hosts down, which may be a part of their cluster.
    TakeDown,
}

/// What a finding forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    /// Any use of the file.
    Everything,
    /// Any use but to take hosts down.
    Running,
    /// To build such a cluster; one that is there has to be looked after all the same.
    Building,
    /// Nothing.
    Nothing,
}

#[derive(Clone, Debug)]
struct Finding {
    path: Path,
    part: Part,
    weight: Weight,
    fault: Fault,
}

/// Collects what reading and checking find. Shared, so that sections of a document can report while others are open.
#[derive(Debug, Default)]
pub(super) struct Findings {
    found: RefCell<Vec<Finding>>,
    /// Keys that their section does not know; told once all sections have been read.
    pub(super) strays: RefCell<Strays>,
    /// Which file of the operator's machine a value names.
    files: RefCell<Vec<(Path, PathBuf, &'static str)>>,
}

/// What was found, each in the order of the file.
pub(super) struct Located {
    pub(super) errors: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
    /// See [`super::Loaded::files`].
    pub(super) files: Vec<(PathBuf, Problem)>,
}

impl Findings {
    /// A value that must change.
    pub(super) fn error(&self, path: &Path, message: impl Into<String>, help: impl Into<String>) {
        self.fault(path, Fault::new(message, help));
    }

    /// The same, from a parser's answer.
    pub(super) fn fault(&self, path: &Path, fault: Fault) {
        self.add(path, Part::Value, Weight::Everything, fault);
    }

    /// A key that must change.
    pub(super) fn key(&self, path: &Path, message: impl Into<String>, help: impl Into<String>) {
        self.add(path, Part::Key, Weight::Everything, Fault::new(message, help));
    }

    /// What a cluster lacks, and some of its hosts may.
    pub(super) fn lacking(&self, path: &Path, message: impl Into<String>, help: impl Into<String>) {
        self.add(path, Part::Value, Weight::Running, Fault::new(message, help));
    }

    /// A value that no cluster is to be built with.
    pub(super) fn unwanted(&self, path: &Path, message: impl Into<String>, help: impl Into<String>) {
        self.add(path, Part::Value, Weight::Building, Fault::new(message, help));
    }

    /// A value that works but is unwise.
    pub(super) fn warn(&self, path: &Path, message: impl Into<String>, help: impl Into<String>) {
        self.add(path, Part::Value, Weight::Nothing, Fault::new(message, help));
    }

    /// A value that names a file of the operator's machine, and what helps where that is missing.
    pub(super) fn file(&self, path: &Path, file: &FsPath, help: &'static str) {
        self.files.borrow_mut().push((path.clone(), file.to_owned(), help));
    }

    fn add(&self, path: &Path, part: Part, weight: Weight, fault: Fault) {
        self.found.borrow_mut().push(Finding { path: path.clone(), part, weight, fault });
    }

    /// Looks the places up. What forbids to build a cluster is an error, or a warning where it is there; what only a whole
    /// one needs is nothing where hosts are taken down.
    pub(super) fn locate(self, places: &Places, purpose: Purpose) -> Located {
        let mut errors = places.duplicates.clone();
        let mut warnings = Vec::new();
        for (path, help) in self.strays.take().finish() {
            self.key(&path, "unknown key", help);
        }
        for finding in self.found.into_inner() {
            let place = match finding.part {
                Part::Key => places.key(&finding.path),
                Part::Value => places.value(&finding.path),
            };
            let list = match finding.weight {
                Weight::Everything => &mut errors,
                Weight::Running if purpose == Purpose::TakeDown => continue,
                Weight::Running => &mut errors,
                Weight::Building if purpose == Purpose::Build => &mut errors,
                Weight::Building | Weight::Nothing => &mut warnings,
            };
            list.push(problem(place, finding.path.to_string(), finding.fault));
        }
        for list in [&mut errors, &mut warnings] {
            // Stable, so several findings at one place keep the order of the checks.
            list.sort_by_key(|p| (p.line, p.column));
            // What is wrong with a setting of all hosts is found once a host.
            list.dedup();
        }
        let missing = |(path, file, help): (Path, PathBuf, &str)| {
            let message = format!("there is no file {} on this machine", file.display());
            let relative = "relative paths are taken from the folder that rsadm runs in";
            let fault = Fault::new(message, if file.is_relative() { relative } else { help });
            let problem = problem(places.value(&path), path.to_string(), fault);
            (file, problem)
        };
        let files = self.files.into_inner().into_iter().map(missing).collect();
        Located { errors, warnings, files }
    }
}

/// A problem at a known place.
pub(super) fn problem(place: Place, path: String, fault: Fault) -> Problem {
    let help = Some(fault.help).filter(|h| !h.is_empty());
    Problem { line: place.line, column: place.column, path, message: fault.message, help }
}

/// Text from the file, in quotes, for a message.
pub(super) fn quote(text: &str) -> String {
    format!("{:?}", cut(text))
}

/// A key from the file as it may be shown in a path: no control characters, no more than a line of it.
fn shorten(key: &str) -> String {
    cut(key).chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn cut(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut shown: String = text.chars().take(LONGEST).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}
