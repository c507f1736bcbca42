//! Where in the file each value stands, and what only a look at the text can see.
//!
//! serde_yaml gives values without their places, and silently keeps the last of two equal keys. This pass over the
//! parser's events brings both, and refuses what would make reading the file slow or surprising: aliases that multiply
//! (the "billion laughs"), deep nesting, tags, several documents.

use std::collections::{BTreeMap, HashMap};

use saphyr_parser::{Event, Marker, Parser, ScanError, Span, StrInput};

use super::problem::{Fault, Path, Problem, Segment, problem};

/// Levels of lists and mappings; an inventory needs six, `kubelet.config` a few more.
const MAX_DEPTH: usize = 32;
/// Values after aliases are expanded; 5,000 hosts, the most that Kubernetes supports, come to about 100,000.
const MAX_VALUES: usize = 1_000_000;

/// Line and column in characters, both counted from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl Place {
    /// Where a finding about the whole file is shown.
    pub(super) const START: Self = Self { line: 1, column: 1 };
}

impl From<&Marker> for Place {
    fn from(marker: &Marker) -> Self {
        Self { line: marker.line().max(1), column: marker.col() + 1 }
    }
}

/// The places of all keys and values of a document.
#[derive(Debug)]
pub(super) struct Places {
    root: Entry,
    /// Keys that are there twice; serde_yaml keeps the last of them.
    pub(super) duplicates: Vec<Problem>,
}

#[derive(Debug)]
struct Entry {
    key: Place,
    value: Place,
    children: Children,
}

#[derive(Debug)]
enum Children {
    None,
    Items(Vec<Entry>),
    Fields(BTreeMap<String, Entry>),
}

impl Places {
    /// The place of a value, or of the nearest value around it.
    pub(super) fn value(&self, path: &Path) -> Place {
        self.nearest(path).value
    }

    /// The place of the key that a path ends with, or of the nearest around it.
    pub(super) fn key(&self, path: &Path) -> Place {
        self.nearest(path).key
    }

    /// True where a key of the top is there twice: what is left of it is not what the file says.
    pub(super) fn are_twice(&self, key: &str) -> bool {
        self.duplicates.iter().any(|duplicate| duplicate.path == key)
    }

    fn nearest(&self, path: &Path) -> &Entry {
        let mut entry = &self.root;
        for segment in &path.0 {
            let child = match (segment, &entry.children) {
                (Segment::Key(key), Children::Fields(fields)) => fields.get(key),
                (Segment::Index(index), Children::Items(items)) => items.get(*index),
                _ => None,
            };
            match child {
                Some(child) => entry = child,
                None => break,
            }
        }
        entry
    }
}

/// Finds all places, or what keeps the text from being one plain document.
pub(super) fn locate(text: &str) -> Result<Places, Problem> {
    let mut walk = Walk::default();
    for event in Parser::new(StrInput::new(text)) {
        let (event, span) = event.map_err(|e| syntax_problem(text, &e))?;
        walk.event(event, &span).map_err(|Refused(problem)| problem)?;
    }
    let empty = || Entry { key: Place::START, value: Place::START, children: Children::None };
    Ok(Places { root: walk.root.unwrap_or_else(empty), duplicates: walk.duplicates })
}

/// A problem after which reading on is of no use.
struct Refused(Problem);

fn refused<T>(place: Place, message: &str, help: &str) -> Result<T, Refused> {
    Err(Refused(problem(place, String::new(), Fault::new(message, help))))
}

fn syntax_problem(text: &str, error: &ScanError) -> Problem {
    let place = Place::from(error.marker());
    if let Some(tab) = tab_from(text, place.line) {
        let info = Some(error.info()).filter(|info| info.starts_with("tabs disallowed"));
        let message = format!("not valid YAML: {}", info.unwrap_or("tabs disallowed here"));
        return problem(tab, String::new(), Fault::new(message, "YAML is indented with spaces, not tabs"));
    }
    let help = if error.info().contains("anchor") {
        "write the value out"
    } else {
        "look here and on the line before for a wrong indentation, a missing quote or bracket, or a `:` or `-` without a space behind it"
    };
    problem(place, String::new(), Fault::new(format!("not valid YAML: {}", error.info()), help))
}

/// The tab that a parser stumbled over in other words: it marks where it was when it saw it, in that line or the one before.
fn tab_from(text: &str, line: usize) -> Option<Place> {
    let lines = text.lines().zip(1..).skip(line - 1).take(2);
    let mut tabs = lines.filter_map(|(text, line)| {
        let indent = text.len() - text.trim_start().len();
        let at = text[..indent].find('\t').or_else(|| {
            let colon = text.find(":\t").map(|at| at + 1);
            colon.or_else(|| text.find(": \t").map(|at| at + 2))
        });
        at.map(|at| Place { line, column: text[..at].chars().count() + 1 })
    });
    tabs.next()
}

/// A list or mapping that is still open.
struct Open {
    entry: Entry,
    anchor: usize,
    /// The key whose value comes next, in a mapping.
    key: Option<(String, Place)>,
    /// Values inside, aliases expanded.
    values: usize,
}

#[derive(Default)]
struct Walk {
    open: Vec<Open>,
    root: Option<Entry>,
    documents: usize,
    /// Anchor → the number of values it stands for.
    anchors: HashMap<usize, usize>,
    values: usize,
    duplicates: Vec<Problem>,
}

impl Walk {
    fn event(&mut self, event: Event<'_>, span: &Span) -> Result<(), Refused> {
        let place = Place::from(&span.start);
        match event {
            Event::DocumentStart(_) => self.start_document(place),
            Event::Scalar(text, _, anchor, tag) => {
                refuse_tag(tag.is_some_and(|t| !t.is_yaml_core_schema()), place)?;
                if self.take_key(&text, place) {
                    return Ok(());
                }
                self.leaf(place, anchor, 1)
            }
            Event::Alias(anchor) => {
                let Some(values) = self.anchors.get(&anchor).copied() else {
                    return refused(
                        place,
                        "an alias inside the value that it stands for",
                        "write the value out",
                    );
                };
                self.refuse_key_that_is_no_text(place)?;
                self.leaf(place, 0, values)
            }
            Event::SequenceStart(anchor, tag) => {
                refuse_tag(tag.is_some(), place)?;
                self.start(place, anchor, Children::Items(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                refuse_tag(tag.is_some(), place)?;
                self.start(place, anchor, Children::Fields(BTreeMap::new()))
            }
            Event::SequenceEnd | Event::MappingEnd => {
                self.end();
                Ok(())
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    fn start_document(&mut self, place: Place) -> Result<(), Refused> {
        self.documents += 1;
        if self.documents > 1 {
            return refused(
                place,
                "a second YAML document",
                "one file describes one cluster; remove the `---`, or put another cluster into a file of its own",
            );
        }
        Ok(())
    }

    /// True where the scalar is a key of the innermost mapping rather than a value.
    fn take_key(&mut self, text: &str, place: Place) -> bool {
        let Some(open) = self.open.last_mut().filter(|o| o.key.is_none()) else { return false };
        let Children::Fields(fields) = &open.entry.children else { return false };
        let first = fields.get(text).map(|first| first.key.line);
        open.key = Some((text.to_owned(), place));
        if let Some(line) = first {
            let fault = Fault::new(format!("the key is already on line {line}"), "keep one of the two");
            self.duplicates.push(problem(place, self.path().to_string(), fault));
        }
        true
    }

    fn leaf(&mut self, place: Place, anchor: usize, values: usize) -> Result<(), Refused> {
        self.count(place, values)?;
        if anchor > 0 {
            self.anchors.insert(anchor, values);
        }
        if let Some(open) = self.open.last_mut() {
            open.values += values;
        }
        self.attach(Entry { key: place, value: place, children: Children::None });
        Ok(())
    }

    fn start(&mut self, place: Place, anchor: usize, children: Children) -> Result<(), Refused> {
        self.refuse_key_that_is_no_text(place)?;
        self.count(place, 1)?;
        if self.open.len() >= MAX_DEPTH {
            let message = format!("more than {MAX_DEPTH} levels of lists and mappings");
            return refused(place, &message, "an inventory needs a handful");
        }
        let entry = Entry { key: place, value: place, children };
        self.open.push(Open { entry, anchor, key: None, values: 1 });
        Ok(())
    }

    fn end(&mut self) {
        let Some(closed) = self.open.pop() else { return };
        if closed.anchor > 0 {
            self.anchors.insert(closed.anchor, closed.values);
        }
        if let Some(around) = self.open.last_mut() {
            around.values += closed.values;
        }
        self.attach(closed.entry);
    }

    fn attach(&mut self, mut entry: Entry) {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(entry);
            return;
        };
        match &mut open.entry.children {
            Children::Items(items) => items.push(entry),
            Children::Fields(fields) => {
                if let Some((key, place)) = open.key.take() {
                    entry.key = place;
                    // What is said of a whole block is best seen at its name, one line above.
                    if entry.value.line > place.line {
                        entry.value = place;
                    }
                    fields.insert(key, entry);
                }
            }
            Children::None => {}
        }
    }

    fn count(&mut self, place: Place, values: usize) -> Result<(), Refused> {
        self.values = self.values.saturating_add(values);
        if self.values > MAX_VALUES {
            let message = format!("more than {MAX_VALUES} values once aliases are expanded");
            return refused(place, &message, "write the values out, or split the cluster");
        }
        Ok(())
    }

    fn refuse_key_that_is_no_text(&self, place: Place) -> Result<(), Refused> {
        match self.open.last() {
            Some(Open { entry: Entry { children: Children::Fields(_), .. }, key: None, .. }) => {
                refused(place, "a key that is no plain text", "write keys as name: value")
            }
            _ => Ok(()),
        }
    }

    /// The path of the key that was taken last.
    fn path(&self) -> Path {
        let mut segments = Vec::new();
        for open in &self.open {
            match (&open.entry.children, &open.key) {
                (Children::Items(items), _) => segments.push(Segment::Index(items.len())),
                (_, Some((key, _))) => segments.push(Segment::Key(key.clone())),
                _ => {}
            }
        }
        Path(segments)
    }
}

fn refuse_tag(is_foreign: bool, place: Place) -> Result<(), Refused> {
    if is_foreign {
        return refused(place, "a YAML tag (`!name`)", "write the plain value");
    }
    Ok(())
}
