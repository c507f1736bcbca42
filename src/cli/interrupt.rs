//! Ctrl-C, once and twice.
//!
//! The first asks: what runs on the hosts is finished, nothing new is started, and what remains is said. The second
//! insists: the process ends at once. Either way nothing is lost, since the next run goes by what it finds.
//!
//! Until a command calls [`Interrupt::listen`], Ctrl-C has its usual meaning, which is right wherever nothing changes
//! and while a question waits for its answer.

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

use crate::ui::Ui;

const ONCE: &str = "interrupted: what runs on the hosts is being finished, nothing new is started; \
                    again to stop at once";
const TWICE: &str = "stopped; steps that were under way on hosts may be half done: \
                     run the same command again and it goes on from there";

/// How often the operator asked to stop. Clones share it.
#[derive(Clone, Debug)]
pub struct Interrupt {
    stop: Arc<watch::Sender<bool>>,
    kill: Arc<watch::Sender<bool>>,
    listening: Arc<AtomicBool>,
}

impl Default for Interrupt {
    fn default() -> Self {
        let (stop, kill) = (Arc::new(watch::Sender::new(false)), Arc::new(watch::Sender::new(false)));
        Self { stop, kill, listening: Arc::default() }
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
        let signals = [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?];
        if !self.listening.swap(true, Ordering::Relaxed) {
            tokio::spawn(self.clone().count(signals, ui.clone()));
        }
        Ok(self.asked())
    }

    /// Ends at the second Ctrl-C; never, where there is none.
    pub async fn killed(&self) {
        // The sender lives as long as `self`, so this cannot fail.
        let _ = self.kill.subscribe().wait_for(|killed| *killed).await;
    }

    async fn count(self, [mut interrupt, mut terminate]: [Signal; 2], ui: Ui) {
        let mut next = async || {
            tokio::select! {
                _ = interrupt.recv() => (),
                _ = terminate.recv() => (),
            }
        };
        next().await;
        self.first(&ui);
        next().await;
        self.second(&ui);
    }

    fn first(&self, ui: &Ui) {
        ui.say(ONCE);
        self.stop.send_replace(true);
    }

    fn second(&self, ui: &Ui) {
        ui.say(TWICE);
        self.kill.send_replace(true);
    }
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

    #[tokio::test]
    async fn the_first_asks_and_the_second_insists() {
        let ui = Ui::new(Settings::default(), io::sink(), io::sink());
        let interrupt = Interrupt::default();
        let stop = interrupt.stop.subscribe();
        assert!(!*stop.borrow());

        interrupt.first(&ui);
        assert!(*stop.borrow());
        assert!(interrupt.killed().now_or_never().is_none(), "one Ctrl-C must not kill");

        interrupt.second(&ui);
        assert!(interrupt.killed().now_or_never().is_some());
    }
}
