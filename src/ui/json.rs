//! Events as newline-delimited JSON, for programs that drive rsadm.

use std::io::Write;

use serde::Serialize;

use crate::{event::Event, ui::Consumer};

/// Writes one JSON object a line.
pub struct Json<W> {
    out: W,
}

impl<W: Write + Send> Json<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Self { out }
    }
}

impl<W: Write + Send> Consumer for Json<W> {
    fn event(&mut self, event: &Event) {
        self.write(&line(event));
    }

    /// As with plain lines, nobody listening is no reason to stop.
    fn write(&mut self, text: &str) {
        let _ = self.out.write_all(text.as_bytes());
        let _ = self.out.flush();
    }

    fn finish(&mut self) {}
}

/// A value as one line of JSON. Our own types always serialize; what does not is left out rather than half written.
pub fn line(value: &impl Serialize) -> String {
    serde_json::to_string(value).map(|json| json + "\n").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{report::Report, ui::sample};

    /// Programs read these names: a line may get more of them, and loses none.
    #[test]
    fn every_event_is_one_line() {
        let mut out = Vec::new();
        let mut json = Json::new(&mut out);
        let early = Event::Warning { phase: None, host: None, text: "two\nlines".into(), help: None };
        for event in sample::run().into_iter().chain([early, sample::failure(), sample::in_sync()]) {
            json.event(&event);
        }
        insta::assert_snapshot!(String::from_utf8(out).unwrap());
    }

    #[test]
    fn a_report_is_one_line() {
        let mut report = Report::default();
        sample::run().iter().chain([&sample::failure()]).for_each(|event| report.apply(event));
        insta::assert_snapshot!(line(&report));
    }
}
