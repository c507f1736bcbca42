//! A command line that is none, as the error event that programs wait for: clap knows only text.

use std::ffi::OsStr;

use crate::cli::{CliError, Exit};

/// Whether the words ask for JSON, which has to be told before they are understood.
pub fn asks_for_json<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> bool {
    let mut last_is_option = false;
    words.into_iter().any(|word| {
        let word = word.as_ref().to_string_lossy();
        let is_value = last_is_option && word == "json";
        last_is_option = word == "-o" || word == "--output";
        is_value || ["-ojson", "-o=json", "--output=json"].contains(&&*word)
    })
}

/// clap's words: the first paragraph is what is wrong, each of the others a hint.
pub fn mistake(error: &clap::Error) -> CliError {
    let rendered = error.render().to_string();
    let lines = |paragraph: &str| {
        let lines: Vec<&str> = paragraph.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        lines.join(" ")
    };
    let mut paragraphs = rendered.split("\n\n").map(lines).filter(|paragraph| !paragraph.is_empty());
    // Without a command clap prints the whole help.
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return CliError::new(Exit::Usage, "a command is missing").hint("--help shows those that there are");
    }
    let first = paragraphs.next().unwrap_or_default();
    let message = first.strip_prefix("error: ").unwrap_or(&first).to_owned();
    let hint = |text: String| text.strip_prefix("tip: ").map(str::to_owned).unwrap_or(text);
    paragraphs.map(hint).fold(CliError::new(Exit::Usage, message), CliError::hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_seen_wherever_clap_would_see_it() {
        for (words, asks) in [
            ("-o json upp", true),
            ("upp --output json", true),
            ("upp --output=json", true),
            ("upp -ojson", true),
            ("upp -o=json", true),
            ("json -o text", false),
            ("upp json", false),
            ("-o", false),
        ] {
            assert_eq!(asks_for_json(words.split(' ')), asks, "{words}");
        }
    }
}
