//! Spinners on a terminal: one line per running stage, which collapses to the line that plain output has.
//!
//! Only this file knows `indicatif`.

use std::{collections::BTreeMap, fmt, io::Write, time::Duration};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::{
    event::Event,
    inventory::NodeName,
    ui::{
        Consumer,
        lines::{Lines, one_line, tag},
        text,
    },
};

/// How many hosts a running stage names with what they are at.
const NAMED_HOSTS: usize = 3;
const TICK: Duration = Duration::from_millis(100);

/// Draws running stages at the bottom of the terminal and writes finished ones above.
pub struct Spinner<W> {
    lines: Lines,
    out: W,
    bars: MultiProgress,
    stages: BTreeMap<&'static str, Running>,
}

struct Running {
    bar: ProgressBar,
    title: String,
    hosts: BTreeMap<NodeName, String>,
}

impl<W: Write + Send> Spinner<W> {
    /// Draws on the terminal behind stderr; finished lines go to `out`, which leads there too.
    pub fn new(lines: Lines, out: W) -> Self {
        Self::on(ProgressDrawTarget::stderr(), lines, out)
    }

    fn on(target: ProgressDrawTarget, lines: Lines, out: W) -> Self {
        Self { lines, out, bars: MultiProgress::with_draw_target(target), stages: BTreeMap::new() }
    }

    fn start(&mut self, phase: &'static str, title: &str) {
        self.stop(phase);
        let title = one_line(title);
        let bar = ProgressBar::new_spinner()
            .with_style(style())
            .with_prefix(tag(phase))
            .with_message(title.clone());
        let bar = self.bars.add(bar);
        bar.enable_steady_tick(TICK);
        let stage = Running { bar, title, hosts: BTreeMap::new() };
        self.stages.insert(phase, stage);
    }

    fn stop(&mut self, phase: &str) {
        if let Some(stage) = self.stages.remove(phase) {
            stage.bar.finish_and_clear();
            self.bars.remove(&stage.bar);
        }
    }

    fn stop_all(&mut self) {
        while let Some(phase) = self.stages.keys().next().copied() {
            self.stop(phase);
        }
    }

    fn update(&mut self, phase: &str, change: impl FnOnce(&mut BTreeMap<NodeName, String>)) {
        if let Some(stage) = self.stages.get_mut(phase) {
            change(&mut stage.hosts);
            stage.draw();
        }
    }
}

impl<W: Write + Send> Consumer for Spinner<W> {
    fn event(&mut self, event: &Event) {
        match event {
            Event::StageStarted { phase, title, .. } => self.start(phase, title),
            Event::StepStarted { phase, host, text } => {
                self.update(phase, |hosts| drop(hosts.insert(host.clone(), one_line(text))));
            }
            Event::StepDone { phase, host, .. } => self.update(phase, |hosts| drop(hosts.remove(host))),
            Event::StepFailed(failure) => {
                if let Some(host) = &failure.host {
                    self.update(failure.phase, |hosts| drop(hosts.remove(host)));
                }
            }
            Event::StageDone { phase, .. } => self.stop(phase),
            Event::Finished { .. } => self.stop_all(),
            Event::RunStarted { .. } | Event::Warning { .. } => {}
        }
        let text = self.lines.render(event);
        self.write(&text);
    }

    /// As with plain lines, a closed terminal is no reason to stop.
    fn write(&mut self, text: &str) {
        if !text.is_empty() {
            let out = &mut self.out;
            self.bars.suspend(|| {
                let _ = out.write_all(text.as_bytes());
                let _ = out.flush();
            });
        }
    }

    fn finish(&mut self) {
        self.stop_all();
        let text = self.lines.release(None);
        self.write(&text);
    }
}

impl Running {
    fn draw(&self) {
        self.bar.set_message(message(&self.title, &self.hosts));
    }
}

/// "starting 3 members  m1: write manifest · m2: pull image · 3 more".
fn message(title: &str, hosts: &BTreeMap<NodeName, String>) -> String {
    let mut parts: Vec<String> =
        hosts.iter().take(NAMED_HOSTS).map(|(h, text)| format!("{h}: {text}")).collect();
    if hosts.len() > NAMED_HOSTS {
        parts.push(format!("{} more", hosts.len() - NAMED_HOSTS));
    }
    match parts.is_empty() {
        true => title.to_owned(),
        false => format!("{title}  {}", parts.join(" · ")),
    }
}

fn style() -> ProgressStyle {
    let time = |state: &ProgressState, out: &mut dyn fmt::Write| {
        let _ = out.write_str(&text::elapsed(state.elapsed()));
    };
    ProgressStyle::with_template("{prefix} {spinner} {wide_msg} {time}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
        .with_key("time", time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::{Verbosity, lines::Style, plain::Plain, sample};

    #[test]
    fn finished_stages_are_the_lines_of_plain_output() {
        let lines = || Lines::new(Style { color: false }, Verbosity::Normal);
        let (mut spun, mut plain) = (Vec::new(), Vec::new());
        let mut spinner = Spinner::on(ProgressDrawTarget::hidden(), lines(), &mut spun);
        let mut lines_only = Plain::new(lines(), &mut plain);
        for event in sample::run() {
            spinner.event(&event);
            lines_only.event(&event);
        }
        assert!(spinner.stages.is_empty(), "a spinner outlives its run");
        assert!(!plain.is_empty());
        assert_eq!(String::from_utf8(spun).unwrap(), String::from_utf8(plain).unwrap());
    }

    #[test]
    fn a_running_stage_names_few_hosts() {
        let hosts = |n: usize| (1..=n).map(|i| (NodeName::new(format!("m{i}")), "pull".into())).collect();
        assert_eq!(message("images", &hosts(0)), "images");
        assert_eq!(message("images", &hosts(2)), "images  m1: pull · m2: pull");
        assert_eq!(message("images", &hosts(5)), "images  m1: pull · m2: pull · m3: pull · 2 more");
    }

    #[test]
    fn the_template_is_valid() {
        assert!(ProgressStyle::with_template("{prefix} {spinner} {wide_msg} {time}").is_ok());
    }
}
