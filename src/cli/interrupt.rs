//! Ctrl-C, once and twice.
//!
//! The first asks: what runs on the hosts is finished, nothing new is started, and what remains is said. The second
//! insists: the process ends at once. Either way nothing is lost, since the next run goes by what it finds.
//!
//! Before a command calls [`Interrupt::listen`] nothing is under way on the hosts that had to be finished: there the first
//! already ends the command, with a word and the exit code of all interruptions. Until it dials the first host, Ctrl-C has
//! its usual meaning.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

use crate::{
    cli::{CliError, Exit},
    ui::Ui,
};

const ONCE: &str = "interrupted: what runs on the hosts is being finished, nothing new is started; \
                    again to stop at once";
const TWICE: &str = "stopped; steps that were under way on hosts may be half done: \
                     run the same command again and it goes on from there";

const EARLY: &str = "interrupted";
const UNCHANGED: &str = "interrupted; nothing was changed";

/// How far a command is, for what the first Ctrl-C means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// No host was dialled.
    #[default]
    Before,
    /// The first connections are made: nothing can be different yet.
    Connecting,
    /// Some commands write a file or a token now, without a lock.
    Connected,
    /// A question waits: its reader holds the thread that would end the command.
    Asking,
    /// Locks are held, or are about to be.
    Orderly,
    /// The same as [`Stage::Asking`] once something was done under the locks.
    AskingLate,
}

/// How often the operator asked to stop. Clones share it.
#[derive(Clone, Debug)]
pub struct Interrupt {
    stop: Arc<watch::Sender<bool>>,
    kill: Arc<watch::Sender<bool>>,
    early: Arc<watch::Sender<Option<&'static str>>>,
    stage: Arc<watch::Sender<Stage>>,
    listening: Arc<AtomicBool>,
}

impl Default for Interrupt {
    fn default() -> Self {
        let (stop, kill) = (Arc::new(watch::Sender::new(false)), Arc::new(watch::Sender::new(false)));
        let (early, stage) = (Arc::default(), Arc::default());
        Self { stop, kill, early, stage, listening: Arc::default() }
    }
}

impl Interrupt {
    /// What becomes true at the first Ctrl-C after [`Interrupt::listen`].
    pub fn asked(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Takes Ctrl-C (and SIGTERM, which a CI system sends for the same reason) over from now on. What it returns
    /// becomes true at the first. A command may call it for each of its parts.
    ///
    /// # Errors
    /// Where the system lets us handle no signals.
    pub fn listen(&self, ui: &Ui) -> io::Result<watch::Receiver<bool>> {
        self.take_over(ui)?;
        self.stage.send_replace(Stage::Orderly);
        Ok(self.asked())
    }

    /// Hosts are being dialled, until what it returns is dropped. Only the first time is it certain that the command changed
    /// nothing before.
    ///
    /// # Errors
    /// Where the system lets us handle no signals.
    pub fn connecting(&self, ui: &Ui) -> io::Result<Connecting> {
        self.take_over(ui)?;
        self.passes(Stage::Before, Stage::Connecting);
        Ok(Connecting(self.clone()))
    }

    /// The command minds Ctrl-C and SIGTERM itself, from beginning to end: what it returns ends at the first of them.
    ///
    /// # Errors
    /// Where the system lets us handle no signals.
    pub fn minded(&self) -> io::Result<impl Future<Output = ()> + use<>> {
        let mut signals = signals()?;
        self.listening.store(true, Ordering::Relaxed);
        Ok(async move { next(&mut signals).await })
    }

    /// Asks the operator something. Ctrl-C is an answer too, and changes nothing.
    pub fn asking<T>(&self, ask: impl FnOnce() -> T) -> T {
        self.passes(Stage::Connected, Stage::Asking);
        self.passes(Stage::Orderly, Stage::AskingLate);
        let answer = ask();
        self.passes(Stage::Asking, Stage::Connected);
        self.passes(Stage::AskingLate, Stage::Orderly);
        answer
    }

    fn passes(&self, from: Stage, to: Stage) {
        self.stage.send_if_modified(|stage| {
            let passes = *stage == from;
            if passes {
                *stage = to;
            }
            passes
        });
    }

    fn take_over(&self, ui: &Ui) -> io::Result<()> {
        if !self.listening.swap(true, Ordering::Relaxed) {
            tokio::spawn(self.clone().count(signals()?, ui.clone()));
        }
        Ok(())
    }

    /// Ends at a Ctrl-C that comes before there is anything to finish, with what is then to be said; never, where there
    /// is none.
    pub async fn ended_early(&self) -> CliError {
        let mut early = self.early.subscribe();
        // The sender lives as long as `self`, so this cannot fail.
        let text = early.wait_for(Option::is_some).await.ok().and_then(|text| *text);
        interrupted(text.unwrap_or(EARLY))
    }

    /// Ends at the second Ctrl-C, with what is then to be said; never, where there is none.
    pub async fn killed(&self) -> CliError {
        // The sender lives as long as `self`, so this cannot fail.
        let _ = self.kill.subscribe().wait_for(|killed| *killed).await;
        interrupted(TWICE)
    }

    async fn count(self, mut signals: [Signal; 2], ui: Ui) {
        next(&mut signals).await;
        let is_orderly = self.first(&ui);
        next(&mut signals).await;
        // Whoever was asked to stop may still have a question.
        match is_orderly && self.answer_to_a_question().is_none() {
            true => self.second(),
            false => leave(&ui, EARLY),
        }
    }

    /// True where there is something to finish.
    fn first(&self, ui: &Ui) -> bool {
        if let Some(text) = self.answer_to_a_question() {
            leave(ui, text);
        }
        let stage = *self.stage.borrow();
        let text = match stage {
            Stage::Connecting => UNCHANGED,
            Stage::Before | Stage::Connected | Stage::Asking => EARLY,
            Stage::Orderly | Stage::AskingLate => {
                ui.say(ONCE);
                self.stop.send_replace(true);
                return true;
            }
        };
        self.early.send_replace(Some(text));
        false
    }

    /// What a Ctrl-C comes to that answers a question; none where nobody is asked.
    fn answer_to_a_question(&self) -> Option<&'static str> {
        match *self.stage.borrow() {
            Stage::Asking => Some(UNCHANGED),
            Stage::AskingLate => Some(EARLY),
            _ => None,
        }
    }

    fn second(&self) {
        self.kill.send_replace(true);
    }
}

/// Both by which one is asked to stop.
fn signals() -> io::Result<[Signal; 2]> {
    Ok([signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?])
}

async fn next([interrupt, terminate]: &mut [Signal; 2]) {
    tokio::select! {
        _ = interrupt.recv() => (),
        _ = terminate.recv() => (),
    }
}

/// While it is there, hosts are being dialled.
#[derive(Debug)]
pub struct Connecting(Interrupt);

impl Drop for Connecting {
    fn drop(&mut self) {
        self.0.passes(Stage::Connecting, Stage::Connected);
    }
}

fn interrupted(text: &'static str) -> CliError {
    CliError::new(Exit::Interrupted, text)
}

/// How a command ends that minds Ctrl-C itself, where it has nothing else to tell.
pub(super) fn before_anything() -> CliError {
    interrupted(EARLY)
}

/// Ends the process from beside the thread that waits for an answer, which nothing else could wake.
#[expect(clippy::exit, reason = "the thread that would return the code reads the terminal")]
fn leave(ui: &Ui, text: &'static str) -> ! {
    let error = interrupted(text);
    ui.message(&error.text(ui.style()), &error.json());
    ui.finish();
    std::process::exit(Exit::Interrupted.code().into())
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::ui::Settings;

    /// With real signals. They reach this process only, and only after it took them over.
    #[tokio::test]
    async fn signals_arrive() {
        let ui = Ui::new(Settings::default(), io::sink(), io::sink());
        let interrupt = Interrupt::default();
        let mut stop = interrupt.listen(&ui).unwrap();
        kill("INT");
        stop.wait_for(|stop| *stop).await.unwrap();
        kill("TERM");
        interrupt.killed().await;
    }

    fn kill(signal: &str) {
        let me = std::process::id().to_string();
        assert!(std::process::Command::new("kill").args(["-s", signal, &me]).status().unwrap().success());
    }

    /// Nothing is claimed of what a command did between its first connections and its locks.
    #[tokio::test]
    async fn before_the_locks_the_first_ends_it() {
        let ui = Ui::new(Settings::default(), io::sink(), io::sink());
        let interrupt = Interrupt::default();
        for (was, text) in [(Stage::Connecting, UNCHANGED), (Stage::Connected, EARLY)] {
            interrupt.stage.send_replace(was);
            interrupt.first(&ui);
            let error = interrupt.ended_early().now_or_never().unwrap();
            assert_eq!((error.kind(), error.message().as_str()), (Exit::Interrupted, text));
        }
        interrupt.stage.send_replace(Stage::Before);
        drop(interrupt.connecting(&ui).unwrap());
        let again = interrupt.connecting(&ui).unwrap();
        assert_eq!(*interrupt.stage.borrow(), Stage::Connected, "the second time others came before");
        interrupt.listen(&ui).unwrap();
        drop(again);
        assert_eq!(*interrupt.stage.borrow(), Stage::Orderly);
    }

    /// Some ask after they have tidied up under the locks.
    #[tokio::test]
    async fn a_question_is_answered_before_the_locks_and_under_them() {
        let interrupt = Interrupt::default();
        for (was, text) in [(Stage::Connected, UNCHANGED), (Stage::Orderly, EARLY)] {
            interrupt.stage.send_replace(was);
            assert_eq!(interrupt.answer_to_a_question(), None);
            interrupt.asking(|| assert_eq!(interrupt.answer_to_a_question(), Some(text)));
            assert_eq!(*interrupt.stage.borrow(), was);
        }
    }

    #[tokio::test]
    async fn the_first_asks_and_the_second_insists() {
        let ui = Ui::new(Settings::default(), io::sink(), io::sink());
        let interrupt = Interrupt::default();
        let stop = interrupt.stop.subscribe();
        assert!(!*stop.borrow());
        interrupt.stage.send_replace(Stage::Orderly);

        interrupt.first(&ui);
        assert!(*stop.borrow());
        assert!(interrupt.killed().now_or_never().is_none(), "one Ctrl-C must not kill");

        interrupt.second();
        let error = interrupt.killed().now_or_never().unwrap();
        assert_eq!((error.kind(), error.message().as_str()), (Exit::Interrupted, TWICE));
    }
}
