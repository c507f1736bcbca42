//! From bytes to one value with the places of all its parts: the only file that knows serde_yaml.
//!
//! The crate is archived, so it is kept to one call; `locate.rs` has looked at the text first and leaves it nothing
//! that it could stumble over.

use serde_json::Value;

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
    let value = serde_yaml::from_str(text).map_err(|e| value_problem(&e, &places))?;
    Ok(Document { value, places })
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
    match text.find('\0') {
        Some(byte) => {
            let place = place_of_byte(text.as_bytes(), byte);
            Err(problem(place, String::new(), Fault::new("a NUL byte", "is this a text file?")))
        }
        None => Ok(text),
    }
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
