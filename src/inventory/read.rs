//! Reading typed values out of a document without stopping at the first that is wrong.
//!
//! A [`Section`] is one mapping. Each key that is asked for becomes known; [`Section::finish`] then reports the keys
//! that nobody asked for, with the known one that was probably meant.

use std::{cell::RefCell, collections::BTreeMap};

use serde_json::{Map, Value};

use super::problem::{Fault, Findings, Path, quote};

/// YAML's key for what another mapping has (yaml.org/type/merge), which not all of its readers know.
const MERGE: &str = "<<";

/// What is said of it.
const NO_MERGE: (&str, &str) = (
    "merges are not read",
    "write the keys out here; what hosts share in how they are reached belongs under `ssh`",
);

/// One mapping of the document; empty where the document has none.
pub(super) struct Section<'a> {
    pub(super) path: Path,
    fields: Option<&'a Map<String, Value>>,
    /// The document has something else here, so that nothing can be said of the keys.
    is_broken: bool,
    known: RefCell<Vec<&'static str>>,
    /// Keys that must be there and are not, with the remedy.
    missing: RefCell<Vec<(&'static str, String)>>,
    pub(super) findings: &'a Findings,
}

/// A value that is there, with its path.
pub(super) struct Field<'a> {
    pub(super) path: Path,
    pub(super) value: &'a Value,
    findings: &'a Findings,
}

impl<'a> Section<'a> {
    /// A value as a mapping; null counts as an empty one, because that is what is left when all keys are commented out.
    pub(super) fn of(path: Path, value: Option<&'a Value>, findings: &'a Findings) -> Self {
        let fields = match value {
            None | Some(Value::Null) => None,
            Some(Value::Object(fields)) => Some(fields),
            Some(other) => {
                findings.error(
                    &path,
                    format!("{}, not a mapping", kind(other)),
                    "write it as `key: value` lines",
                );
                None
            }
        };
        let is_broken = fields.is_none() && value.is_some_and(|v| !v.is_null());
        Self { path, fields, is_broken, known: RefCell::default(), missing: RefCell::default(), findings }
    }

    /// A mapping inside this one.
    pub(super) fn section(&self, key: &'static str) -> Section<'a> {
        Section::of(self.path.key(key), self.raw(key), self.findings)
    }

    /// A value, unless it is missing or null.
    pub(super) fn field(&self, key: &'static str) -> Option<Field<'a>> {
        let value = self.raw(key).filter(|v| !v.is_null())?;
        Some(Field { path: self.path.key(key), value, findings: self.findings })
    }

    /// True where the key is there without a value.
    pub(super) fn is_empty(&self, key: &'static str) -> bool {
        self.raw(key).is_some_and(Value::is_null)
    }

    /// True where the key is there with a value.
    pub(super) fn has(&self, key: &'static str) -> bool {
        self.field(key).is_some()
    }

    /// A value that may be missing; one that cannot be read is reported and counts as missing.
    pub(super) fn optional<T>(
        &self,
        key: &'static str,
        parse: impl Fn(&Value) -> Result<T, Fault>,
    ) -> Option<T> {
        self.field(key)?.parse(parse)
    }

    /// A value that must be there.
    pub(super) fn required<T>(
        &self,
        key: &'static str,
        help: &str,
        parse: impl Fn(&Value) -> Result<T, Fault>,
    ) -> Option<T> {
        let Some(field) = self.field(key) else {
            self.missing.borrow_mut().push((key, help.to_owned()));
            return None;
        };
        field.parse(parse)
    }

    /// A list; entries that cannot be read are reported and left out. `None` where the key is missing.
    pub(super) fn list<T>(
        &self,
        key: &'static str,
        parse: impl Fn(&Value) -> Result<T, Fault>,
    ) -> Option<Vec<T>> {
        let items = self.field(key)?.items();
        Some(items.iter().filter_map(|item| item.parse(&parse)).collect())
    }

    /// A mapping from text to text, each entry judged as a whole; entries that cannot be read are left out.
    pub(super) fn entries(
        &self,
        key: &'static str,
        judge: impl Fn(&str, &str) -> Result<(), Fault>,
    ) -> BTreeMap<String, String> {
        let inner = self.section(key);
        let mut entries = BTreeMap::new();
        for (name, value) in inner.fields.into_iter().flatten() {
            let path = inner.path.key(name);
            if name == MERGE {
                self.findings.key(&path, NO_MERGE.0, NO_MERGE.1);
                continue;
            }
            let read = plain_text(value).and_then(|text| judge(name, &text).map(|()| text));
            match read {
                Ok(text) => _ = entries.insert(name.clone(), text),
                Err(fault) => self.findings.fault(&path, fault),
            }
        }
        entries
    }

    /// A mapping as it is.
    pub(super) fn object(&self, key: &'static str) -> Map<String, Value> {
        if let Some(value) = self.raw(key) {
            check_numbers(&self.path.key(key), value, self.findings);
        }
        self.section(key).fields.cloned().unwrap_or_default()
    }

    /// Reports the keys that nobody asked for, and those that are missing.
    ///
    /// A key that was probably meant by an unknown one is not called missing too.
    pub(super) fn finish(self) {
        self.finish_but(&[], "");
    }

    /// The same, with what to do about keys that have their place elsewhere, and what more there is to say of unknown ones.
    pub(super) fn finish_but(self, elsewhere: &[(&str, &str)], more: &str) {
        if self.is_broken {
            return;
        }
        // What it would bring is not missing.
        let is_merged = self.fields.is_some_and(|fields| fields.contains_key(MERGE));
        let known = self.known.take();
        let mut meant_keys = Vec::new();
        for key in self.fields.into_iter().flat_map(Map::keys) {
            let path = self.path.key(key);
            if known.contains(&key.as_str()) {
                continue;
            }
            if key == MERGE {
                self.findings.key(&path, NO_MERGE.0, NO_MERGE.1);
                continue;
            }
            if let Some((_, help)) = elsewhere.iter().find(|(other, _)| other == key) {
                self.findings.key(&path, "unknown key", *help);
                continue;
            }
            // One that is there already is not meant by another.
            if let Some(meant) = by_another_name(key, &known).filter(|meant| !self.has(meant)) {
                meant_keys.push(meant);
                self.findings.key(&path, "unknown key", format!("did you mean {meant}?"));
                continue;
            }
            let meant = suggest(key, &known);
            let help = match meant {
                Some(meant) => format!("did you mean {meant}?"),
                None => format!("one of {}{more}", known.join(", ")),
            };
            let mut strays = self.findings.strays.borrow_mut();
            if !strays.is_below(&self.path, key) {
                meant_keys.extend(meant);
            }
            strays.add(path, help);
        }
        for (key, help) in self.missing.take() {
            if !meant_keys.contains(&key) && !is_merged {
                self.findings.error(&self.path.key(key), "missing", help);
            }
        }
        self.findings.strays.borrow_mut().know(self.path, known);
    }

    fn raw(&self, key: &'static str) -> Option<&'a Value> {
        let mut known = self.known.borrow_mut();
        if !known.contains(&key) {
            known.push(key);
        }
        self.fields?.get(key)
    }
}

impl<'a> Field<'a> {
    /// The value, or a report of why it is none.
    pub(super) fn parse<T>(&self, parse: impl Fn(&Value) -> Result<T, Fault>) -> Option<T> {
        parse(self.value).map_err(|fault| self.findings.fault(&self.path, fault)).ok()
    }

    /// The entries of a list; empty, and reported, where the value is none.
    pub(super) fn items(&self) -> Vec<Field<'a>> {
        self.items_else("write it as [a, b] or as `- ` lines")
    }

    /// The same, with how such a list is written.
    pub(super) fn items_else(&self, help: &str) -> Vec<Field<'a>> {
        let Value::Array(values) = self.value else {
            self.findings.error(&self.path, format!("{}, not a list", kind(self.value)), help);
            return Vec::new();
        };
        let item = |(i, value)| Field { path: self.path.index(i), value, findings: self.findings };
        values.iter().enumerate().map(item).collect()
    }

    /// Where to report what is wrong with the value.
    pub(super) fn findings(&self) -> &'a Findings {
        self.findings
    }

    /// The value as a mapping.
    pub(super) fn section(&self) -> Section<'a> {
        Section::of(self.path.clone(), Some(self.value), self.findings)
    }
}

/// What other tools call a key of ours.
const OTHER_NAMES: [(&str, &str); 10] = [
    ("name", "cluster_name"),
    ("version", "kubernetes_version"),
    ("kubernetes", "kubernetes_version"),
    ("nodes", "hosts"),
    ("ip", "address"),
    ("host", "address"),
    ("hostname", "name"),
    ("username", "user"),
    ("private_key", "key_path"),
    ("identity_file", "key_path"),
];

fn by_another_name(word: &str, known: &[&'static str]) -> Option<&'static str> {
    let mut meant = OTHER_NAMES.iter().filter(|(other, key)| *other == word && known.contains(key));
    meant.next().map(|(_, key)| *key)
}

/// The known word that was probably meant.
fn suggest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    /// Comparing is quadratic in the length, and no key is longer.
    const LONGEST: usize = 64;
    if word.len() > LONGEST {
        return None;
    }
    // clusterName and cluster-name are cluster_name to everybody but us.
    let plain = |s: &str| s.replace(['-', '_'], "").to_lowercase();
    let likeness = |k: &str| strsim::normalized_damerau_levenshtein(&plain(word), &plain(k));
    let best = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) >= 0.6).then_some(best)
}

/// What a value is, for "found …" messages.
pub(super) fn kind(value: &Value) -> String {
    match value {
        Value::Null => "nothing".into(),
        Value::Bool(b) => format!("{b} (a truth value)"),
        Value::Number(_) if is_beyond(value) => "a number beyond 64 bits".into(),
        // 1.10 would be shown as 1.1.
        Value::Number(n) if n.is_f64() => "a number with a fraction".into(),
        Value::Number(n) => format!("{n} (a number)"),
        Value::String(s) => format!("{} (text)", quote(s)),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "a mapping".into(),
    }
}

/// True for a number that no field takes, as `file.rs` has those that JSON has not.
pub(super) fn is_beyond(value: &Value) -> bool {
    /// 2⁶⁴
    const BEYOND: f64 = 18_446_744_073_709_551_616.0;
    matches!(value, Value::Number(n) if n.is_f64() && n.as_f64().is_some_and(|n| n.abs() >= BEYOND))
}

/// Reports the numbers that no field takes in a value that is passed on as it is.
pub(super) fn check_numbers(path: &Path, value: &Value, findings: &Findings) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(k, v)| check_numbers(&path.key(k), v, findings)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, v)| check_numbers(&path.index(i), v, findings));
        }
        number if is_beyond(number) => findings.error(path, kind(number), "a number that the field takes"),
        _ => {}
    }
}

/// Text, not empty and without control characters.
pub(super) fn text(value: &Value) -> Result<&str, Fault> {
    match value {
        Value::String(s) if s.is_empty() => Err(Fault::new("empty", "give a value, or leave the key out")),
        Value::String(s) if s.chars().any(char::is_control) => {
            Err(Fault::new("control characters or line breaks", "write it on one line"))
        }
        Value::String(s) => Ok(s),
        other => Err(no_text(other)),
    }
}

fn no_text(value: &Value) -> Fault {
    let help = match value {
        Value::Array(_) | Value::Object(_) => "write one value",
        Value::Null => "write a value, or remove the key",
        _ => "put it in quotes, as it is meant",
    };
    Fault::new(format!("{}, not text", kind(value)), help)
}

/// A parser of text as a parser of values.
pub(super) fn of_text<T>(parse: impl Fn(&str) -> Result<T, Fault>) -> impl Fn(&Value) -> Result<T, Fault> {
    move |value| parse(text(value)?)
}

/// Text as its owner.
pub(super) fn owned(value: &Value) -> Result<String, Fault> {
    text(value).map(str::to_owned)
}

/// `true` or `false`.
pub(super) fn truth(value: &Value) -> Result<bool, Fault> {
    value.as_bool().ok_or_else(|| Fault::new(format!("{}, not a truth value", kind(value)), "true or false"))
}

/// A whole number in a range.
pub(super) fn number(range: std::ops::RangeInclusive<u64>) -> impl Fn(&Value) -> Result<u64, Fault> {
    move |value| match value.as_u64() {
        Some(n) if range.contains(&n) => Ok(n),
        _ => {
            let help = format!("a whole number from {} to {}", range.start(), range.end());
            Err(Fault::new(format!("{}, out of range", kind(value)), help))
        }
    }
}

/// A TCP port.
pub(super) fn port(value: &Value) -> Result<u16, Fault> {
    let fault = || Fault::new(format!("{}, not a port", kind(value)), "a whole number from 1 to 65535");
    value.as_u64().and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0).ok_or_else(fault)
}

/// One of a few words.
pub(super) fn choice<T: Copy>(words: &'static [(&'static str, T)]) -> impl Fn(&Value) -> Result<T, Fault> {
    move |value| {
        let known = || {
            let all: Vec<&str> = words.iter().map(|(w, _)| *w).collect();
            format!("one of {}", all.join(", "))
        };
        // In quotes it would be none of the words either.
        let word = text(value).map_err(|fault| Fault { help: known(), ..fault })?;
        let meant = words.iter().find(|(w, _)| *w == word);
        let unknown = || Fault::new(format!("unknown value {}", quote(word)), known());
        meant.map(|(_, meaning)| *meaning).ok_or_else(unknown)
    }
}

/// A word that is known and no choice: why, and what to take instead.
pub(super) type Refused = (&'static str, &'static str, &'static str);

/// One of a few words; for some others there is more to say than which those are.
pub(super) fn choice_without<T: Copy>(
    words: &'static [(&'static str, T)],
    refused: &'static [Refused],
) -> impl Fn(&Value) -> Result<T, Fault> {
    move |value| match refused.iter().find(|(word, ..)| value == word) {
        Some((word, why, help)) => Err(Fault::new(format!("{word} {why}"), *help)),
        None => choice(words)(value),
    }
}

/// Text, or a truth value or whole number as the text that it was written as.
///
/// Other numbers must be quoted: 1.10 would become 1.1.
fn plain_text(value: &Value) -> Result<String, Fault> {
    match value {
        Value::Bool(b) => Ok(b.to_string()),
        Value::Number(n) if !n.is_f64() => Ok(n.to_string()),
        Value::String(s) if s.is_empty() => Ok(String::new()),
        Value::String(_) => owned(value),
        other => Err(no_text(other)),
    }
}
