//! What a run comes to, for a program that reads one document.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{
    cli::{CliError, Context},
    event::Events,
    report::{Outcome, Report},
};

/// What a run comes to, as it is told.
pub(in crate::cli) struct Recording(Arc<Mutex<Report>>);

impl Recording {
    /// Prints it where a program reads; people were told as it happened.
    pub(in crate::cli) fn print(&self, context: &Context) -> Result<(), CliError> {
        if !context.ui.settings().json {
            return Ok(());
        }
        let report = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        context.print(&report, |_| String::new())
    }

    /// The same of a run that looked at hosts, and compared them with nothing.
    pub(in crate::cli) fn print_checked(&self, context: &Context) -> Result<(), CliError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).outcome = Outcome::Checked;
        self.print(context)
    }
}

/// The same as [`recorded`], unless only a plan is shown: then there is nothing to tell of a run.
pub(in crate::cli) fn recorded_unless(plan_only: bool, context: &Context) -> (Events, Option<Recording>) {
    if plan_only {
        return (Events::none(), None);
    }
    let (events, report) = recorded(context);
    (events, Some(report))
}

/// The events of a run, and the report they fold into.
pub(in crate::cli) fn recorded(context: &Context) -> (Events, Recording) {
    let report = Arc::new(Mutex::new(Report::default()));
    let sink = report.clone();
    let events = context.ui.events().tee(move |event| {
        sink.lock().unwrap_or_else(PoisonError::into_inner).apply(event);
    });
    (events, Recording(report))
}
