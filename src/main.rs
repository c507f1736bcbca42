//! The `rsadm` program: parse, run, print one error chain, exit with its code.

use std::{
    io,
    panic::{self, AssertUnwindSafe},
    process::ExitCode,
};

use clap::Parser;
use rsadm::{
    cli::{self, Cli, CliError, Context, Exit, Interrupt},
    log,
    ui::{Settings, Ui, Verbosity},
};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    cli::report_panics(cli::asks_for_json(std::env::args_os()));
    match panic::catch_unwind(AssertUnwindSafe(parse_and_run)) {
        Ok(exit) => exit,
        // The hook has reported it.
        Err(_) => Exit::Bug.into(),
    }
}

fn parse_and_run() -> ExitCode {
    let cli = match Cli::try_parse().map_err(cli::meant) {
        Ok(cli) => cli,
        Err(mistake) if mistake.use_stderr() && cli::asks_for_json(std::env::args_os()) => {
            let ui = Ui::new(Settings { json: true, ..Settings::default() }, io::stdout(), io::stderr());
            return failed(&cli::mistake(&mistake), &ui);
        }
        Err(help_or_mistake) => {
            // As with all output, nobody reading it is no reason to fail differently.
            let _ = help_or_mistake.print();
            return if help_or_mistake.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() };
        }
    };
    let settings = cli::settings(&cli.options);
    start_log(settings);
    let ui = Ui::new(settings, io::stdout(), io::stderr());
    let result = run(cli, &ui);
    ui.finish();
    match result {
        Ok(exit) => exit.into(),
        Err(error) => failed(&error, &ui),
    }
}

/// The last that is said, and the exit code.
fn failed(error: &CliError, ui: &Ui) -> ExitCode {
    ui.message(&error.text(ui.style()), &error.json());
    error.kind().into()
}

/// Runs the command, until it ends or the operator insists on an end.
fn run(cli: Cli, ui: &Ui) -> Result<Exit, CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| CliError::new(Exit::Bug, e))?;
    let interrupt = Interrupt::default();
    let context = Context::new(cli.options.clone(), ui.clone(), interrupt.clone());
    let result = runtime.block_on(async {
        tokio::select! {
            // A terminal's Ctrl-C reaches ssh as well, and that connections broke is no news then.
            biased;
            error = interrupt.ended_early() => Err(error),
            error = interrupt.killed() => Err(error),
            result = cli::run(cli, &context) => result,
        }
    });
    // Not waiting for threads that still read something is what the second Ctrl-C is for.
    runtime.shutdown_background();
    result
}

/// rsadm's own log, for those who look for a fault in it: `-vv`, or a filter in `RSADM_LOG`. A program that reads events reads
/// no log beside them, unless it asks for one.
fn start_log(settings: Settings) {
    let is_wanted = settings.verbosity == Verbosity::Debug && !settings.json;
    let filter = EnvFilter::try_from_env("RSADM_LOG")
        .unwrap_or_else(|_| EnvFilter::new(if is_wanted { "rsadm=debug" } else { "off" }));
    log::start(filter, settings.style().color);
}
