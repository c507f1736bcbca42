//! The command line: one file per command, with its `Args` (their doc comments are the help) and its `run`.
//!
//! Nothing else in the crate sees this module. A command gets a [`Context`] and returns how it ended, or a
//! [`CliError`], the only thing that knows exit codes.

use clap::{Parser, Subcommand};

mod agent;
mod args;
mod bug;
mod certs;
mod completions;
mod context;
mod error;
mod etcd;
mod evidence;
mod exit;
mod init;
mod interrupt;
mod kubeconfig;
mod literal;
mod local;
mod mistake;
mod naming;
mod plan;
mod preflight;
mod private_file;
mod prompt;
mod reset;
mod schedule;
mod session;
mod shell;
mod status;
mod token;
mod unreachable;
mod up;
mod validate;

pub use args::{Format, GateArgs, InventoryArg, Options, PhaseArgs};
pub use bug::report_panics;
pub use context::{Context, settings};
pub use error::CliError;
pub use exit::Exit;
pub use interrupt::Interrupt;
pub use mistake::{asks_for_json, meant, mistake};

/// Build and keep highly available Kubernetes and etcd from one inventory file, over plain SSH
#[derive(Debug, Parser)]
#[command(name = "rsadm", version, max_term_width = 100, after_help = exit::help())]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub options: Options,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Args),
    Validate(validate::Args),
    Preflight(preflight::Args),
    Plan(plan::Args),
    Up(up::Args),
    Status(status::Args),
    Etcd(etcd::Args),
    Certs(certs::Args),
    Kubeconfig(kubeconfig::Args),
    Token(token::Args),
    Reset(reset::Args),
    Agent(agent::Args),
    Completions(completions::Args),
}

/// Runs the command.
///
/// # Errors
/// Where it did not do what it was to, in a form that can be shown as it is.
pub async fn run(cli: Cli, context: &Context) -> Result<Exit, CliError> {
    dispatch(cli, context).await.map_err(|error| error.about(context.inventory()))
}

async fn dispatch(cli: Cli, context: &Context) -> Result<Exit, CliError> {
    match cli.command {
        Command::Init(args) => init::run(&args, context),
        Command::Validate(args) => validate::run(&args, context),
        Command::Completions(args) => completions::run(&args, context),
        Command::Plan(args) => plan::run(&args, context).await,
        Command::Up(args) => up::run(&args, context).await,
        Command::Status(args) => status::run(&args, context).await,
        Command::Kubeconfig(args) => kubeconfig::run(&args, context).await,
        Command::Token(args) => token::run(&args, context).await,
        Command::Certs(args) => certs::run(&args, context).await,
        Command::Etcd(args) => etcd::run(&args, context).await,
        Command::Reset(args) => reset::run(&args, context).await,
        Command::Agent(args) => agent::run(&args, context).await,
        Command::Preflight(args) => preflight::run(&args, context).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// First line imperative, upper case, without a full stop; every argument explained.
    #[test]
    fn help_texts_keep_their_form() {
        fn check(command: &clap::Command) {
            let abouts =
                command.get_about().into_iter().chain(command.get_arguments().filter_map(|a| a.get_help()));
            for text in abouts.map(ToString::to_string) {
                assert!(text.starts_with(|c: char| c.is_uppercase()), "{}: {text:?}", command.get_name());
                assert!(!text.ends_with('.'), "{}: {text:?}", command.get_name());
            }
            // Longer ones are broken in the middle, at the width of `max_term_width`.
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let long = after.lines().find(|line| line.chars().count() > 100);
            assert_eq!(long, None, "{} breaks a line of its help", command.get_name());
            for arg in command.get_arguments() {
                assert!(arg.get_help().is_some(), "{} {} has no help", command.get_name(), arg.get_id());
            }
            assert!(command.get_about().is_some(), "{} has no help", command.get_name());
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
