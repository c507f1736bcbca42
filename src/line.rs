//! Texts as one line: those that have several, and errors with their causes.

use std::error::Error;

/// Lines without what only lined them up, `between` two of them.
pub fn one_line(text: &str, between: &str) -> String {
    let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(between)
}

/// An error and its causes.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    one_line(&text, " ")
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
}
