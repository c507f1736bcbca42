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
    use std::time::Duration;

    use super::*;
    use crate::{event::Failure, inventory::NodeName};

    #[test]
    fn every_event_is_one_line() {
        let m1 = NodeName::new("m1");
        let mut out = Vec::new();
        let mut json = Json::new(&mut out);
        for event in [
            Event::RunStarted { cluster: "prod".into(), summary: "1 host".into() },
            Event::StageStarted { phase: "etcd", title: "starting".into(), hosts: vec![m1.clone()] },
            Event::Warning { phase: None, host: None, text: "two\nlines".into(), help: None },
            Event::StepFailed(Failure {
                phase: "etcd",
                host: Some(m1),
                step: "no answer".into(),
                cause: None,
                likely: None,
                collected: vec!["exited 1".into()],
                log: None,
                state: vec![],
                next: "rsadm up".into(),
            }),
            Event::Finished {
                text: "over".into(),
                changed: 1,
                elapsed: Duration::from_secs(2),
                next: vec![],
            },
        ] {
            json.event(&event);
        }
        insta::assert_snapshot!(String::from_utf8(out).unwrap());
    }
}
