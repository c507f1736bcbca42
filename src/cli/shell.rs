//! Words of commands that are suggested, as they have to be given to a shell.

use std::fmt::Display;

/// The word as it is where a shell takes it so, else in quotes.
pub(super) fn quoted(word: impl Display) -> String {
    let word = word.to_string();
    // Not `~`: what has one here is named so.
    let plain = |c: char| c.is_alphanumeric() || "_-./:=,@%+".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word,
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_the_word_that_was_meant() {
        for word in
            ["", "a b.yaml", "it's.yaml", "~/x.yaml", "$HOME/*.yaml", "a;b&c|d", "prod.yaml", "größe.yaml"]
        {
            let echo = std::process::Command::new("sh")
                .args(["-c", &format!("printf %s {}", quoted(word))])
                .output();
            assert_eq!(String::from_utf8(echo.unwrap().stdout).unwrap(), word);
        }
        assert_eq!(quoted("../inventories/prod-1.yaml"), "../inventories/prod-1.yaml");
        assert_eq!(quoted("my file"), "'my file'");
    }
}
