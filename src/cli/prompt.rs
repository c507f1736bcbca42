//! Questions to the operator. Only this file knows `rpassword`.

use std::{
    env,
    fs::File,
    io::{self, BufRead, IsTerminal, Write},
};

use crate::{
    cli::{error::CliError, exit::Exit},
    plan::quorum::OVERRIDE,
    secret::Secret,
    ui::Ui,
};

/// Where the sudo password is taken from without a question. It leads to no child process's arguments, and ssh
/// passes it on to no host.
pub(super) const SUDO_PASSWORD_VARIABLE: &str = "RSADM_SUDO_PASSWORD";

/// Why an operation that asks first was not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum NotConfirmed {
    /// Something else was typed.
    #[error("not confirmed; nothing was changed")]
    Declined,
    /// There is nobody to ask.
    #[error("this asks for confirmation, and standard input is no terminal")]
    NobodyToAsk,
    /// Whoever would answer does not see the question.
    #[error("this asks for confirmation, and standard error, which would ask, is no terminal")]
    Unseen,
}

/// What has to be typed.
#[derive(Clone, Copy, Debug)]
pub enum Word<'a> {
    /// The name of the cluster.
    Cluster(&'a str),
    /// What is done, where no inventory names a cluster.
    Doing(&'static str),
}

impl Word<'_> {
    fn request(self) -> String {
        match self {
            Self::Cluster(name) => format!("Type the name of the cluster ({name}) to go on:"),
            Self::Doing(verb) => format!("Type {verb} to go on:"),
        }
    }

    fn is(self, typed: &str) -> bool {
        let (Self::Cluster(word) | Self::Doing(word)) = self;
        typed == word
    }
}

/// Asks for a word to be typed before something that cannot be undone. `what` says what will happen, a line each.
///
/// # Errors
/// Where it was not confirmed, or nobody can be asked.
pub(super) fn confirm(ui: &Ui, what: &str, word: Word<'_>) -> Result<(), CliError> {
    ask(ui, what, word).map_err(|why| match why {
        NotConfirmed::Declined => CliError::new(Exit::Refused, why),
        NotConfirmed::NobodyToAsk | NotConfirmed::Unseen => CliError::new(Exit::Usage, why)
            .hint("--yes confirms without a question, for scripts that mean it"),
    })
}

/// The same before etcd may lose its quorum, to which nothing but the name is an answer.
///
/// # Errors
/// Where it was not confirmed, or nobody can be asked.
pub(super) fn quorum_loss(ui: &Ui, cluster: &str) -> Result<(), CliError> {
    let what = "Where the quorum gate says no, this goes on all the same: etcd may serve no writes until enough\n\
                members are back, and the API servers with it. No data is deleted.";
    ask(ui, what, Word::Cluster(cluster)).map_err(|why| match why {
        NotConfirmed::Declined => CliError::new(Exit::Refused, why),
        NotConfirmed::NobodyToAsk | NotConfirmed::Unseen => CliError::new(Exit::Usage, why)
            .hint(format!("{OVERRIDE}={cluster} confirms without a question; --yes does not")),
    })
}

fn ask(ui: &Ui, what: &str, word: Word<'_>) -> Result<(), NotConfirmed> {
    let stdin = io::stdin();
    let terminal = || File::options().write(true).open("/dev/tty");
    confirm_on(ui, what, word, terminal, stdin.is_terminal(), stdin.lock())
}

/// `terminal` shows the question where standard error goes elsewhere, as into a file.
fn confirm_on<T: Write>(
    ui: &Ui,
    what: &str,
    word: Word<'_>,
    terminal: impl FnOnce() -> io::Result<T>,
    is_terminal: bool,
    mut input: impl BufRead,
) -> Result<(), NotConfirmed> {
    if !is_terminal {
        return Err(NotConfirmed::NobodyToAsk);
    }
    let request = word.request();
    if !ui.settings().terminal {
        let shown = terminal().and_then(|mut shown| writeln!(shown, "{what}\n{request}"));
        shown.map_err(|_| NotConfirmed::Unseen)?;
    }
    ui.say(what);
    ui.say(&request);
    let mut typed = String::new();
    // An unreadable answer is none.
    let _ = input.read_line(&mut typed);
    match word.is(typed.trim()) {
        true => Ok(()),
        false => Err(NotConfirmed::Declined),
    }
}

/// The password for sudo on the hosts: from the environment, else from the operator where `ask` is set, else none.
///
/// # Errors
/// Where it was to be asked for and could not.
pub(super) fn sudo_password(ask: bool) -> Result<Option<Secret>, CliError> {
    if let Some(password) = env::var_os(SUDO_PASSWORD_VARIABLE).filter(|p| !p.is_empty()) {
        return Ok(Some(Secret::new(password.into_encoded_bytes())));
    }
    if !ask {
        return Ok(None);
    }
    match rpassword::prompt_password("sudo password on the hosts: ") {
        Ok(password) => Ok(Some(Secret::new(password))),
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Err(CliError::new(Exit::Interrupted, Unasked(e))),
        Err(e) => Err(CliError::new(Exit::Usage, Unasked(e))
            .hint(format!("where there is no terminal, set {SUDO_PASSWORD_VARIABLE}"))),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("could not ask for the sudo password")]
struct Unasked(#[source] io::Error);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::Settings;

    #[test]
    fn only_the_exact_name_confirms() {
        let settings = Settings { terminal: true, ..Settings::default() };
        let ui = Ui::new(settings, io::sink(), io::sink());
        let none = || -> io::Result<Vec<u8>> { Err(io::ErrorKind::NotFound.into()) };
        for (is_terminal, typed, outcome) in [
            (true, "prod\n", Ok(())),
            (true, "  prod \r\n", Ok(())),
            (true, "prod", Ok(())),
            (true, "Prod\n", Err(NotConfirmed::Declined)),
            (true, "yes\n", Err(NotConfirmed::Declined)),
            (true, "\nprod\n", Err(NotConfirmed::Declined)),
            (true, "", Err(NotConfirmed::Declined)),
            (false, "prod\n", Err(NotConfirmed::NobodyToAsk)),
        ] {
            let word = Word::Cluster("prod");
            let answer = confirm_on(&ui, "all is removed", word, none, is_terminal, typed.as_bytes());
            assert_eq!(answer, outcome, "{typed:?}");
        }
    }

    /// `rsadm reset 2>log` waits for nobody who does not see what for.
    #[test]
    fn a_question_is_shown_to_who_answers_it() {
        let ui = Ui::new(Settings::default(), io::sink(), io::sink());
        let none = || -> io::Result<Vec<u8>> { Err(io::ErrorKind::NotFound.into()) };
        let answer = confirm_on(&ui, "all is removed", Word::Cluster("prod"), none, true, &b"prod\n"[..]);
        assert_eq!(answer, Err(NotConfirmed::Unseen));
        let mut shown = Vec::new();
        let terminal = &mut shown;
        let word = Word::Cluster("prod");
        let answer = confirm_on(&ui, "all is removed", word, move || Ok(terminal), true, &b"prod\n"[..]);
        assert_eq!(answer, Ok(()));
        let shown = String::from_utf8(shown).unwrap();
        assert_eq!(shown, "all is removed\nType the name of the cluster (prod) to go on:\n");
    }

    /// `etcd snapshot prune` without an inventory calls no cluster `prune`.
    #[test]
    fn what_is_asked_for_without_a_cluster_is_no_name_of_one() {
        let ui = Ui::new(Settings::default(), io::sink(), io::sink());
        let mut shown = Vec::new();
        let (word, terminal) = (Word::Doing("prune"), &mut shown);
        let answer = confirm_on(&ui, "2 go", word, move || Ok(terminal), true, &b"prune\n"[..]);
        assert_eq!(answer, Ok(()));
        assert_eq!(String::from_utf8(shown).unwrap(), "2 go\nType prune to go on:\n");
    }
}
