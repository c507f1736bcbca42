//! What every command gets: the options, both output streams, the inventory, and what the operator says on the way.

use std::{
    env,
    io::{self, IsTerminal},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde::Serialize;
use tokio::sync::watch;

use crate::{
    cli::{
        CliError, Exit, Format, GateArgs, Interrupt, InventoryArg, Options,
        interrupt::Connecting,
        literal::typed,
        prompt::{self, Word},
        schedule,
        shell::quoted,
    },
    exec,
    inventory::{self, Cluster, Loaded, Problems},
    plan::quorum::OVERRIDE,
    secret::Secret,
    ui::{Settings, Ui},
};

mod inventories;

use inventories::Inventories;

/// What every command gets.
#[derive(Clone)]
pub struct Context {
    /// The options that all commands have.
    pub options: Options,
    /// The only way to stdout and stderr.
    pub ui: Ui,
    interrupt: Interrupt,
    /// The inventory's warnings were told.
    warned: Arc<AtomicBool>,
    /// The inventory that was read, as it has to be typed.
    inventory: Arc<OnceLock<String>>,
    /// What was in it.
    inventories: Inventories,
    /// What was answered to the question for sudo's password: some commands connect more than once.
    sudo_password: Arc<Mutex<Option<Secret>>>,
}

impl Context {
    /// A context; `interrupt` is what the caller waits on to end at once.
    pub fn new(options: Options, ui: Ui, interrupt: Interrupt) -> Self {
        let (warned, inventory, sudo_password) = (Arc::default(), Arc::default(), Arc::default());
        let inventories = Inventories::default();
        Self { options, ui, interrupt, warned, inventory, inventories, sudo_password }
    }

    /// Reads the inventory of a cluster that is there and tells its warnings, once.
    ///
    /// # Errors
    /// All problems of the file at once, or why there is no file.
    pub fn load(&self, arg: &InventoryArg) -> Result<Loaded, CliError> {
        self.load_by(arg, inventory::load_built)
    }

    /// The same for a cluster that is to be built, or to become what the inventory says.
    ///
    /// # Errors
    /// As [`Context::load`]; and where no such cluster should be built.
    pub fn load_to_build(&self, arg: &InventoryArg) -> Result<Loaded, CliError> {
        self.load_by(arg, inventory::load_bytes)
    }

    /// The same for hosts that are to be taken down, which may be some of a cluster.
    ///
    /// # Errors
    /// As [`Context::load`].
    pub fn load_part(&self, arg: &InventoryArg) -> Result<Loaded, CliError> {
        self.load_by(arg, inventory::load_part)
    }

    fn load_by(
        &self,
        arg: &InventoryArg,
        load: impl Fn(&[u8], &str, Option<&Path>) -> Result<Loaded, Problems>,
    ) -> Result<Loaded, CliError> {
        let file = arg.file_name();
        let _ = self.inventory.set(arg.as_typed());
        let bytes = self.inventories.read(arg)?;
        let loaded = load(&bytes, &file, env::home_dir().as_deref())?;
        let mut loaded = loaded.with_missing(Path::exists);
        loaded.warnings.extend(schedule::doubt(&loaded));
        let events = typed(&self.ui.events(), self.inventory());
        // Some commands read it again to connect.
        let untold = match self.warned.swap(true, Ordering::Relaxed) {
            true => &[][..],
            false => &loaded.warnings,
        };
        for warning in untold {
            let place = format!("{file}:{}:{} {}", warning.line, warning.column, warning.path);
            events.warn(format!("{}: {}", place.trim_end(), warning.message), warning.help.clone());
        }
        Ok(loaded)
    }

    /// The file as the command goes by it: what was loaded.
    ///
    /// # Errors
    /// Why there is no file.
    pub fn inventory_file(&self, arg: &InventoryArg) -> Result<Vec<u8>, CliError> {
        self.inventories.loaded(arg)
    }

    /// What stands behind a command that is suggested: empty for the default inventory, and where none was read.
    pub fn inventory(&self) -> &str {
        self.inventory.get().map_or("", String::as_str)
    }

    /// The cluster of a command that passes the quorum gate.
    ///
    /// # Errors
    /// As [`Context::load`]; and where the name that was typed beside the gate's option is another, which is known before any
    /// host is dialled.
    pub fn load_gated(&self, arg: &InventoryArg, gate: &GateArgs) -> Result<Cluster, CliError> {
        let cluster = self.load(arg)?.cluster;
        names_the_cluster(gate, &cluster.name)?;
        Ok(cluster)
    }

    /// Prints the command's result on stdout: as JSON where that is wanted, else as `text` puts it.
    ///
    /// # Errors
    /// Where stdout cannot be written.
    pub fn print<T: Serialize>(&self, result: &T, text: impl FnOnce(&T) -> String) -> Result<(), CliError> {
        self.ui.result(result, text).map_err(CliError::output)
    }

    /// Asks for the cluster's name before something that cannot be undone, unless `--yes` was given. `what` says what
    /// will happen.
    ///
    /// # Errors
    /// Where it was not confirmed, or nobody can be asked.
    pub fn confirm(&self, what: &str, cluster: &str) -> Result<(), CliError> {
        self.confirm_by(what, Word::Cluster(cluster))
    }

    /// The same by another word, where there may be no inventory.
    ///
    /// # Errors
    /// As [`Context::confirm`].
    pub fn confirm_by(&self, what: &str, word: Word<'_>) -> Result<(), CliError> {
        match self.options.yes {
            true => Ok(()),
            false => self.interrupt.asking(|| prompt::confirm(&self.ui, what, word)),
        }
    }

    /// Whether the operator accepts that etcd may lose its quorum. `--yes` is no answer to that: it is the cluster's name,
    /// typed beside the option or when asked.
    ///
    /// # Errors
    /// Where another name was typed, or nobody can be asked.
    pub fn accepts_quorum_loss(&self, args: &GateArgs, cluster: &str) -> Result<bool, CliError> {
        names_the_cluster(args, cluster)?;
        match args.accept_quorum_loss.as_deref() {
            None => Ok(false),
            Some("") => self.interrupt.asking(|| prompt::quorum_loss(&self.ui, cluster)).map(|()| true),
            Some(_) => Ok(true),
        }
    }

    /// The password for sudo on the hosts, where there is one: from the environment, or asked for, once.
    ///
    /// # Errors
    /// Where it was to be asked for and could not.
    pub fn sudo_password(&self) -> Result<Option<Secret>, CliError> {
        let mut known = self.known_password();
        if known.is_none() {
            *known = prompt::sudo_password(self.options.ask_sudo_password)?;
        }
        Ok(known.clone())
    }

    /// Asks for the password anew the next time: no host took this one.
    pub fn forget_sudo_password(&self) {
        *self.known_password() = None;
    }

    fn known_password(&self) -> MutexGuard<'_, Option<Secret>> {
        self.sudo_password.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long one step may take, beside what grows with a database.
    pub fn limit(&self) -> Duration {
        self.options.timeout.unwrap_or(exec::LIMIT)
    }

    /// The same for an API server to be ready.
    pub fn api_limit(&self) -> Duration {
        self.options.timeout.unwrap_or(exec::API_LIMIT)
    }

    /// What becomes true at the first Ctrl-C after [`Context::stop_signal`].
    pub fn asked_to_stop(&self) -> watch::Receiver<bool> {
        self.interrupt.asked()
    }

    /// Until what it returns is dropped, Ctrl-C ends the command with the word that nothing was changed.
    ///
    /// # Errors
    /// Where the system lets us handle no signals.
    pub fn connecting(&self) -> Result<Connecting, CliError> {
        self.interrupt.connecting(&self.ui).map_err(|e| CliError::new(Exit::Bug, e))
    }

    /// The command minds Ctrl-C and SIGTERM itself: what it returns ends at the first of them.
    ///
    /// # Errors
    /// Where the system lets us handle no signals.
    pub fn minds_interrupts(&self) -> Result<impl Future<Output = ()> + use<>, CliError> {
        self.interrupt.minded().map_err(|e| CliError::new(Exit::Bug, e))
    }

    /// From now on Ctrl-C asks for an orderly end, which becomes true here, and only the second ends the process.
    /// To be called after all questions and before the first change.
    ///
    /// # Errors
    /// Where the system lets us handle no signals.
    pub fn stop_signal(&self) -> Result<watch::Receiver<bool>, CliError> {
        self.interrupt.listen(&self.ui).map_err(|e| CliError::new(Exit::Bug, e))
    }
}

impl InventoryArg {
    /// What the operator calls the file.
    pub fn file_name(&self) -> String {
        let path = &self.inventory;
        match path.strip_prefix("./") {
            _ if self.is_stdin() => "standard input".to_owned(),
            Ok(name) if name != Path::new("") => name.display().to_string(),
            _ => path.display().to_string(),
        }
    }

    /// The argument as it has to be typed again in a command that is suggested: empty for the default.
    pub fn as_typed(&self) -> String {
        match self.inventory.to_str() {
            Some("./inventory.yaml" | "inventory.yaml") => String::new(),
            _ => format!(" {}", quoted(self.inventory.display())),
        }
    }

    /// True where none was named, and there is none by the usual name.
    pub fn is_missing_default(&self) -> bool {
        self.as_typed().is_empty() && !self.inventory.exists()
    }

    fn is_stdin(&self) -> bool {
        self.inventory == Path::new("-")
    }
}

/// What the streams are and what is wanted on them, from the options and the environment.
pub fn settings(options: &Options) -> Settings {
    let variable = |name| env::var_os(name).unwrap_or_default();
    Settings {
        json: options.output == Format::Json,
        verbosity: options.verbosity(),
        terminal: io::stderr().is_terminal(),
        no_color: !variable("NO_COLOR").is_empty(),
        dumb: variable("TERM") == "dumb",
    }
}

/// Whether a name that was typed beside the option is the cluster's.
pub(super) fn names_the_cluster(args: &GateArgs, cluster: &str) -> Result<(), CliError> {
    match args.accept_quorum_loss.as_deref() {
        None | Some("") => Ok(()),
        Some(name) if name == cluster => Ok(()),
        Some(name) => Err(CliError::new(
            Exit::Refused,
            format!("{OVERRIDE} names {name}, and this is the cluster {cluster}; nothing was changed"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn a_suggested_command_names_the_inventory_as_a_shell_takes_it() {
        for (path, typed) in [
            ("./inventory.yaml", ""),
            ("inventory.yaml", ""),
            ("prod/inventory.yaml", " prod/inventory.yaml"),
            ("my clusters/prod.yaml", " 'my clusters/prod.yaml'"),
            ("-", " -"),
        ] {
            assert_eq!(InventoryArg { inventory: path.into() }.as_typed(), typed);
        }
    }

    #[test]
    fn a_password_is_asked_for_once_unless_nobody_took_it() {
        let options = Cli::parse_from(["rsadm", "--ask-sudo-password", "up"]).options;
        let ui = Ui::new(Settings::default(), io::sink(), io::sink());
        let context = Context::new(options, ui, Interrupt::default());
        *context.known_password() = Some(Secret::new("typed"));
        assert_eq!(context.clone().sudo_password().unwrap(), Some(Secret::new("typed")));
        context.forget_sudo_password();
        assert_eq!(*context.known_password(), None);
    }

    /// A test has no terminal, so that a question ends in a mistake on the command line.
    #[test]
    fn the_loss_of_the_quorum_takes_the_clusters_name_and_yes_is_none() {
        let options = Cli::parse_from(["rsadm", "--yes", "up"]).options;
        let ui = Ui::new(Settings::default(), io::sink(), io::sink());
        let context = Context::new(options, ui, Interrupt::default());
        for (typed, answer) in [
            (None, Ok(false)),
            (Some("prod"), Ok(true)),
            (Some("test"), Err(Exit::Refused)),
            (Some("yes"), Err(Exit::Refused)),
            (Some(""), Err(Exit::Usage)),
        ] {
            let args = GateArgs { accept_quorum_loss: typed.map(Into::into) };
            let said = context.accepts_quorum_loss(&args, "prod").map_err(|e| e.kind());
            assert_eq!(said, answer, "{typed:?}");
        }
    }
}
