//! Keys that stand one level off: in the section around theirs, or in one inside it.
//!
//! Which keys a section knows is told by what is asked of it, so this is said once all have been read.

use super::problem::{Path, Segment};

/// What the sections that were read know, and the keys that theirs does not.
#[derive(Debug, Default)]
pub(super) struct Strays {
    /// Of the entries of a list one, since they all know the same.
    sections: Vec<(Path, Vec<&'static str>)>,
    /// Each with what helps where no section next to its own knows it.
    keys: Vec<(Path, String)>,
}

impl Strays {
    /// A section was read that knows these keys.
    pub(super) fn know(&mut self, section: Path, keys: Vec<&'static str>) {
        let section = first(&section);
        if self.sections.iter().all(|(other, _)| *other != section) {
            self.sections.push((section, keys));
        }
    }

    /// A key was found that its section does not know.
    pub(super) fn add(&mut self, key: Path, help: String) {
        self.keys.push((key, help));
    }

    /// True where a section inside this one knows the key.
    pub(super) fn is_below(&self, section: &Path, key: &str) -> bool {
        !self.below(section, key).is_empty()
    }

    /// The keys, each with what helps.
    pub(super) fn finish(mut self) -> Vec<(Path, String)> {
        let keys = std::mem::take(&mut self.keys);
        let placed = |(key, help)| {
            let help = self.place(&key).unwrap_or(help);
            (key, help)
        };
        keys.into_iter().map(placed).collect()
    }

    fn place(&self, stray: &Path) -> Option<String> {
        let (Segment::Key(key), section) = stray.0.split_last()? else { return None };
        let section = Path(section.to_vec());
        let below = self.below(&section, key);
        if let Some((last, others)) = below.split_last() {
            let others = if others.is_empty() { String::new() } else { others.join(", ") + " or " };
            return Some(format!("it belongs under {others}{last}: indent it"));
        }
        let around = around(&section)?;
        let knows =
            |(path, keys): &(Path, Vec<&str>)| *path == first(&around) && keys.contains(&key.as_str());
        self.sections.iter().any(knows).then(|| match around.0.is_empty() {
            true => "it belongs at the top of the file, for all hosts: take its indentation away, or add it to what is there".to_owned(),
            false => format!("it belongs under `{around}`: indent it less, or add it to what is there"),
        })
    }

    /// The names of the sections right inside this one that know a key.
    fn below(&self, section: &Path, key: &str) -> Vec<String> {
        let (section, mut names) = (first(section), Vec::new());
        for (path, _) in self.sections.iter().filter(|(_, keys)| keys.contains(&key)) {
            let name = match &path.0[..] {
                [.., Segment::Key(list), Segment::Index(_)] => format!("one of `{list}`"),
                [.., Segment::Key(name)] => format!("`{name}`"),
                _ => continue,
            };
            if around(path).is_some_and(|around| around == section) {
                names.push(name);
            }
        }
        names
    }
}

/// The same section of the first entry of each list.
fn first(section: &Path) -> Path {
    let first = |segment: &Segment| match segment {
        Segment::Index(_) => Segment::Index(0),
        Segment::Key(key) => Segment::Key(key.clone()),
    };
    Path(section.0.iter().map(first).collect())
}

/// The section around another; an entry of a list stands in that of the list.
fn around(section: &Path) -> Option<Path> {
    let entry = section.0.iter().rposition(|segment| matches!(segment, Segment::Key(_)))?;
    Some(Path(section.0[..entry].to_vec()))
}
