//! `rsadm completions`.

use clap::CommandFactory;
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
    generate(args.shell, &mut Cli::command(), "rsadm", &mut script);
    context.ui.data(&String::from_utf8_lossy(&script)).map_err(CliError::output)?;
    Ok(Exit::Done)
}
