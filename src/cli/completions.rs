//! `rsadm completions`.

use clap::{Command, CommandFactory};
use clap_complete::{Shell, generate};

use crate::cli::{Cli, CliError, Context, Exit};

/// Print the completion script of a shell
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  rsadm completions bash > /etc/bash_completion.d/rsadm
  rsadm completions zsh > ~/.zfunc/_rsadm
  rsadm completions fish > ~/.config/fish/completions/rsadm.fish")]
pub(super) struct Args {
    /// The shell
    shell: Shell,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    let mut script = Vec::new();
    generate(args.shell, &mut for_people(), "rsadm", &mut script);
    context.ui.data(&String::from_utf8_lossy(&script)).map_err(CliError::output)?;
    Ok(Exit::Done)
}

/// The command line without what is hidden, which some shells would offer too.
fn for_people() -> Command {
    let all = Cli::command();
    let shown = all.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    let bare = Command::new("rsadm").version(env!("CARGO_PKG_VERSION"));
    bare.args(all.get_arguments().cloned()).subcommands(shown)
}
