//! Texts as one line: those that have several, and errors with their causes.

use std::error::Error;

/// Lines without what only lined them up, `between` two of them.
pub fn one_line(text: &str, between: &str) -> String {
    let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(between)
}

/// An error and its causes. Some libraries put the words of causes into their own: what was said is not said again.
pub fn chain(error: &dyn Error) -> String {
    let mut text = one_line(&error.to_string(), " ");
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(more) = unsaid(&text, &one_line(&cause.to_string(), " ")) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}

/// A cause without the parts at its beginning that a text has; `None` where it has all of it.
fn unsaid<'a>(text: &str, cause: &'a str) -> Option<&'a str> {
    if cause.is_empty() || has(text, cause) {
        return None;
    }
    match cause.split_once(": ") {
        Some((part, rest)) if has(text, part) => unsaid(text, rest),
        _ => Some(cause),
    }
}

/// True where these words are in a text, and not only as a piece of others.
fn has(text: &str, words: &str) -> bool {
    text.match_indices(words).any(|(at, _)| {
        let (before, after) = (text[..at].chars().next_back(), text[at + words.len()..].chars().next());
        [before, after].into_iter().flatten().all(|c| !c.is_alphanumeric())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Told {
        text: &'static str,
        source: Option<Box<Told>>,
    }

    #[test]
    fn several_lines_are_one() {
        for (text, line) in [("", ""), (" a\tb  c\n", "a b c"), ("denied\r\n\n  closed ", "denied; closed")] {
            assert_eq!(one_line(text, "; "), line, "{text:?}");
            assert_eq!(one_line(text, " "), line.replace(';', ""), "{text:?}");
        }
    }

    #[test]
    fn an_error_is_one_line_with_all_its_causes() {
        let told = |text, source: Option<Told>| Told { text, source: source.map(Box::new) };
        let error = told("not listed", Some(told("no answer:\n  403", Some(told("closed", None)))));
        assert_eq!(chain(&error), "not listed: no answer: 403: closed");
    }

    /// As the object store tells a bucket that hangs.
    #[test]
    fn what_an_error_says_of_its_causes_is_said_once() {
        let told = |text, source: Option<Told>| Told { text, source: source.map(Box::new) };
        let error = told("HTTP error: error sending request", Some(told("operation timed out", None)));
        let error = told("GET http://s3/b in 30s - HTTP error: error sending request", Some(error));
        let error = told("list: GET http://s3/b in 30s - HTTP error: error sending request", Some(error));
        let error = told("S3: list: GET http://s3/b in 30s - HTTP error: error sending request", Some(error));
        assert_eq!(
            chain(&told("not listed", Some(error))),
            "not listed: S3: list: GET http://s3/b in 30s - HTTP error: error sending request: operation timed out"
        );
        for (outer, inner, line) in [
            ("put: denied", "denied: no key", "put: denied: no key"),
            ("open /a1: failed", "open /a", "open /a1: failed: open /a"),
            ("open /a: failed", "open /b: failed", "open /a: failed: open /b: failed"),
            ("reset", "", "reset"),
        ] {
            assert_eq!(chain(&told(outer, Some(told(inner, None)))), line);
        }
    }
}
