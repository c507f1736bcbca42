//! From bytes to one value with the places of all its parts: the only file that knows serde_yaml.
//!
//! The crate is archived, so it is kept to one call; `locate.rs` has looked at the text first and leaves it nothing
//! that it could stumble over.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

use super::{
    locate::{self, Place, Places},
    problem::{Fault, Path, Problem, problem},
};

/// Longest file that is read: an inventory of 5,000 hosts, the most that Kubernetes supports, has a quarter of it.
const MAX_BYTES: usize = 4 << 20;

/// A YAML document.
#[derive(Debug)]
pub(super) struct Document {
    /// Its value, in JSON's types, which are all that an inventory uses.
    pub(super) value: Value,
    /// Where each part stands.
    pub(super) places: Places,
}

/// Reads a document, or says where it is none.
pub(super) fn parse(bytes: &[u8]) -> Result<Document, Problem> {
    let text = decode(bytes)?;
    let places = locate::locate(text)?;
    let Numbers(value) = serde_yaml::from_str(text).map_err(|e| value_problem(&e, &places))?;
    Ok(Document { value, places })
}

/// A value, of which no number keeps the rest from being read: one that JSON has not, be it too large or infinite, becomes one
/// that no key takes ([`is_beyond`](super::read::is_beyond)).
struct Numbers(Value);

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue).map(Numbers)
    }
}

struct AnyValue;

impl AnyValue {
    fn float<E>(value: f64) -> Result<Value, E> {
        // Not a number has no place among them either.
        let finite = if value.is_nan() { f64::MAX } else { value.clamp(f64::MIN, f64::MAX) };
        Ok(Number::from_f64(finite).map_or(Value::Null, Value::Number))
    }
}

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    /// Of a file that is empty.
    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Self::float(value as f64)
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Self::float(value as f64)
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Self::float(value)
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Numbers(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((key, Numbers(value))) = fields.next_entry::<String, _>()? {
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

fn decode(bytes: &[u8]) -> Result<&str, Problem> {
    let whole = |message: String, help: &str| problem(Place::START, String::new(), Fault::new(message, help));
    if bytes.len() > MAX_BYTES {
        let message = format!("{} bytes; an inventory has at most {MAX_BYTES}", bytes.len());
        return Err(whole(message, "is this the right file?"));
    }
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let place = place_of_byte(bytes, e.valid_up_to());
        problem(place, String::new(), Fault::new("not UTF-8 text", "save the file as UTF-8"))
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let Some((byte, found)) = text.char_indices().find(|(_, c)| !is_read(*c)) else { return Ok(text) };
    let fault = match found {
        '\0' => Fault::new("a NUL byte", "is this a text file?"),
        _ => Fault::new(format!("the control character {}", found.escape_unicode()), "remove it"),
    };
    Err(problem(place_of_byte(text.as_bytes(), byte), String::new(), fault))
}

/// The characters that serde_yaml reads; of others it tells no line.
fn is_read(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{85}' | ' '..='~' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..)
}

/// The place of a byte; everything before it is valid UTF-8.
fn place_of_byte(bytes: &[u8], byte: usize) -> Place {
    let before = String::from_utf8_lossy(&bytes[..byte.min(bytes.len())]);
    let line_start = before.rfind('\n').map_or(0, |i| i + 1);
    Place { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
}

fn value_problem(error: &serde_yaml::Error, places: &Places) -> Problem {
    let place = error
        .location()
        .map_or(places.value(&Path::default()), |l| Place { line: l.line(), column: l.column() });
    let text = error.to_string();
    // The place has its own column; serde_yaml repeats it in the text.
    let message = text.split(" at line ").next().unwrap_or(&text);
    let help = "see the inventory reference in the README";
    problem(place, String::new(), Fault::new(format!("not readable: {message}"), help))
}
