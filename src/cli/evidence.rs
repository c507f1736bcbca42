//! What hosts say about a failure: all of it into a file that only the operator can read, the last words of the
//! container concerned onto the screen.

use std::{
    env, fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use time::{OffsetDateTime, macros::format_description};

use crate::event::{Event, Events, Failure};

/// How many lines of a container's log stay on the screen.
const LAST_WORDS: usize = 4;
/// How much of such a line: components log whole objects.
const LONGEST: usize = 180;

/// Events whose failures have their evidence in a file below the operator's state folder.
///
/// Where that cannot be written, the evidence stays in the event as it came.
pub(super) fn kept(events: &Events, cluster: &str) -> Events {
    let (events, folder) = (events.clone(), folder(cluster));
    Events::new(move |event| {
        events.emit(match (event, &folder) {
            (Event::StepFailed(failure), Some(folder)) => Event::StepFailed(keep(failure, folder)),
            (event, _) => event,
        });
    })
}

/// `$XDG_STATE_HOME/rsadm/CLUSTER/TIME`: one folder a run.
fn folder(cluster: &str) -> Option<PathBuf> {
    let state = env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|p| p.is_absolute());
    let state = state.or_else(|| Some(env::home_dir()?.join(".local/state")))?;
    let time = format_description!("[year]-[month]-[day]T[hour]-[minute]-[second]Z");
    let name = OffsetDateTime::now_utc().format(time).ok()?;
    Some(state.join("rsadm").join(cluster).join(name))
}

fn keep(mut failure: Failure, folder: &Path) -> Failure {
    if failure.collected.is_empty() {
        return failure;
    }
    let host = failure.host.as_ref().map_or("cluster", |h| h.as_str());
    let file = folder.join(format!("{host}.log"));
    if write(&file, &failure).is_ok() {
        failure.collected = last_words(&failure.collected);
        failure.log = Some(file);
    }
    failure
}

fn write(file: &Path, failure: &Failure) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut out = fs::OpenOptions::new().append(true).create(true).mode(0o600).open(file)?;
    writeln!(out, "{}\n{}\n", failure.step, failure.cause.as_deref().unwrap_or_default())?;
    writeln!(out, "{}\n", failure.collected.join("\n"))
}

/// The end of a container's log, where the evidence has the log of one container; sections begin with `== `.
fn last_words(collected: &[String]) -> Vec<String> {
    let mut sections: Vec<&[String]> = Vec::new();
    let mut rest = collected;
    while let Some(start) = rest.iter().position(|l| l.starts_with("== /var/log/pods/")) {
        let section = &rest[start..];
        let end = section[1..].iter().position(|l| l.starts_with("== ")).map_or(section.len(), |i| i + 1);
        sections.push(&section[..end]);
        rest = &section[end..];
    }
    // A container that was restarted has several logs; the newest comes last.
    let container = |section: &[String]| section[0].rsplit('/').nth(1).map(str::to_owned);
    let Some(newest) = sections.last().filter(|s| sections.iter().all(|o| container(o) == container(s)))
    else {
        return vec![];
    };
    // It may be running once more and not have come to its end yet: then the one before it tells.
    let ended = |section: &&&[String]| to_the_point(&section[1..]).len() < section.len() - 1;
    let telling = sections.iter().rev().find(ended).unwrap_or(newest);
    let lines = to_the_point(&telling[1..]);
    if lines.is_empty() {
        return vec![];
    }
    let shown = lines[lines.len().saturating_sub(LAST_WORDS)..].iter().map(|l| format!("  {}", shorten(l)));
    let title = format!("last words of {}:", container(newest).unwrap_or_default());
    std::iter::once(title).chain(shown).collect()
}

/// A log up to the words with which Go's runtime ends a program, or up to the usage that a program prints after it was
/// given a flag that it does not know: what follows them means nothing to an operator.
fn to_the_point(lines: &[String]) -> &[String] {
    let fatal =
        |line: &String| ["panic: ", "fatal error: "].iter().any(|words| content(line).starts_with(words));
    let usage = |line: &String| content(line).trim_end() == "Usage:";
    match (lines.iter().rposition(fatal), lines.iter().rposition(usage)) {
        (Some(last), _) => &lines[..=last],
        (None, Some(usage)) if usage > 0 => &lines[..usage],
        (None, _) => lines,
    }
}

/// A line of a container's log without what the runtime puts before it (`TIME stderr F `).
fn content(line: &str) -> &str {
    line.splitn(4, ' ').nth(3).filter(|_| line.starts_with("20")).unwrap_or(line)
}

/// The same, no longer than a screen is wide.
fn shorten(line: &str) -> String {
    let text = content(line);
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::inventory::NodeName;

    const LOG: &str = "== /var/log/pods/kube-system_kube-apiserver-m1_0/kube-apiserver";

    fn collected(logs: &[&str]) -> Vec<String> {
        let mut lines = vec!["== kubelet: active".to_owned(), "I1122 started".to_owned()];
        for log in logs {
            lines.push(format!("{log}.log"));
            lines.extend((0..6).map(|i| format!("2026-11-22T17:12:47.80Z stderr F {log} line {i}")));
        }
        lines.push("== disk".into());
        lines
    }

    #[test]
    fn one_container_has_its_last_words() {
        let last = |i| format!("  {LOG}/1 line {i}");
        let wanted = ["last words of kube-apiserver:".into(), last(2), last(3), last(4), last(5)];
        assert_eq!(last_words(&collected(&[&format!("{LOG}/0"), &format!("{LOG}/1")])), wanted);
        let others = [format!("{LOG}/0"), "== /var/log/pods/kube-system_etcd-m1_0/etcd/0".into()];
        assert!(last_words(&collected(&[&others[0], &others[1]])).is_empty(), "whose?");
        assert!(last_words(&collected(&[])).is_empty());
    }

    #[test]
    fn a_trace_is_left_out() {
        let mut lines = collected(&[&format!("{LOG}/0")]);
        let end = lines.len() - 1;
        let trace = [
            "panic: tocommit(17) is out of range",
            "",
            "goroutine 1 [running]:",
            "main.main()",
            "\tmain.go:7",
        ];
        lines.splice(end..end, trace.map(|text| format!("2026-11-22T17:12:47.80Z stderr F {text}")));
        assert_eq!(last_words(&lines).last().unwrap(), "  panic: tocommit(17) is out of range");
    }

    #[test]
    fn a_container_that_was_just_started_again_is_told_by_its_last_end() {
        let mut lines = collected(&[&format!("{LOG}/0")]);
        let end = lines.len() - 1;
        let ended = ["panic: tocommit(17) is out of range", "", "goroutine 1 [running]:"];
        lines.splice(end..end, ended.map(|text| format!("2026-11-22T17:12:47.80Z stderr F {text}")));
        let again = [format!("{LOG}/1.log"), "2026-11-22T17:12:57.80Z stderr F starting".to_owned()];
        lines.splice(end + 3..end + 3, again);
        assert_eq!(last_words(&lines).last().unwrap(), "  panic: tocommit(17) is out of range");
    }

    #[test]
    fn usage_is_left_out() {
        let mut lines = collected(&[&format!("{LOG}/0")]);
        let end = lines.len() - 1;
        let usage = ["flag provided but not defined: -no-such-flag", "Usage:", "", "  etcd [flags]"];
        lines.splice(end..end, usage.map(|text| format!("2026-11-22T17:12:47.80Z stderr F {text}")));
        assert_eq!(last_words(&lines).last().unwrap(), "  flag provided but not defined: -no-such-flag");
    }

    #[test]
    fn long_lines_are_cut() {
        let line = format!("2026-11-22T17:12:47.80Z stderr F {}", "ü".repeat(500));
        assert_eq!(shorten(&line).chars().count(), LONGEST + 1);
        assert_eq!(shorten("panic: no such file"), "panic: no such file");
    }

    #[test]
    fn all_of_it_is_in_a_file_of_the_operators_alone() {
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().join("rsadm/prod/now");
        let failure = Failure {
            phase: "etcd",
            host: Some(NodeName::new("m1")),
            step: "start etcd".into(),
            cause: Some("exit status 1".into()),
            likely: None,
            collected: collected(&[]),
            log: None,
            state: vec![],
            next: String::new(),
        };
        let kept = keep(failure, &folder);
        assert!(kept.collected.is_empty());
        let file = kept.log.unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains("I1122 started") && text.starts_with("start etcd\nexit status 1\n"), "{text}");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&file)), (0o700, 0o600));
    }
}
