//! Looking on while something happens: a test that is repeated, with the time of each result.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{SystemTime, UNIX_EPOCH},
};

use super::{Check, Fault, Lab, eventually};

/// Repeats a test until its input ends.
const LOOP: &str = r#"
n=0
until read -rt 0.2; ((! $? || $? <= 128)); do
  n=$((n + 1)) from=$EPOCHREALTIME
  if probe > /dev/null 2>&1; then good=1; else good=0; fi
  echo "$n $from $EPOCHREALTIME $good"
done
"#;

/// One result.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Which of them, from 1.
    pub number: u64,
    from: f64,
    to: f64,
    /// Whether the test passed.
    pub good: bool,
}

/// A test that is being repeated.
pub struct Probe {
    name: String,
    child: Child,
    seen: Arc<Mutex<Vec<Sample>>>,
    reader: JoinHandle<()>,
}

/// Now, as the results have their times.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

impl Probe {
    /// A shell command as root on a node; its number is `$n`.
    pub fn on(lab: &Lab, node: &str, test: &str) -> Result<Self, Fault> {
        let script = format!("probe() {{ {test}; }}\n{LOOP}");
        let mut command = lab.command();
        command.args(["root", node, "bash", "-c", &script]);
        Self::start(node, command)
    }

    /// A shell command at the operator's.
    pub fn on_workstation(lab: &Lab, test: &str) -> Result<Self, Fault> {
        let script = format!("probe() {{ {test}; }}\n{LOOP}");
        Self::start("workstation", lab.workstation(&["bash", "-c", &script]))
    }

    fn start(name: &str, mut command: Command) -> Result<Self, Fault> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let stdout = child.stdout.take().ok_or("no output")?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let results = Arc::clone(&seen);
        let reader = thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            for sample in lines.filter_map(|line| Sample::read(&line)) {
                results.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
            }
        });
        Ok(Self { name: name.to_owned(), child, seen, reader })
    }

    /// Waits until a test is good that begins from now on.
    pub fn becomes_good(&self) -> Check {
        let from = now();
        eventually(|| {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            ensure!(seen.iter().any(|s| s.good && s.from >= from), "nothing is good on {}", self.name);
            Ok(())
        })
    }

    /// Ends it: all results in order.
    pub fn end(mut self) -> Result<Samples, Fault> {
        drop(self.child.stdin.take());
        self.child.wait()?;
        self.reader.join().map_err(|_| "the reader panicked")?;
        let all = std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        ensure!(!all.is_empty(), "nothing was seen of {}", self.name);
        Ok(Samples { name: self.name, all })
    }
}

impl Sample {
    fn read(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        Some(Self {
            number: words.next()?.parse().ok()?,
            from: words.next()?.parse().ok()?,
            to: words.next()?.parse().ok()?,
            good: words.next()? == "1",
        })
    }
}

/// The results of a probe.
pub struct Samples {
    name: String,
    /// In order.
    pub all: Vec<Sample>,
}

impl Samples {
    /// Passes where every result was good.
    pub fn were_all_good(&self) -> Check {
        let bad: Vec<&Sample> = self.all.iter().filter(|s| !s.good).collect();
        ensure!(bad.is_empty(), "{} of {} failed on {}: {bad:?}", bad.len(), self.all.len(), self.name);
        Ok(())
    }

    /// How many were good that began and ended in a span.
    pub fn good_within(&self, (from, to): (f64, f64)) -> usize {
        self.all.iter().filter(|s| s.good && from <= s.from && s.to <= to).count()
    }

    /// Those that began at a moment or later.
    pub fn since(&self, moment: f64) -> Self {
        self.only(|s| s.from >= moment)
    }

    /// Those that had ended by a moment.
    pub fn until(&self, moment: f64) -> Self {
        self.only(|s| s.to <= moment)
    }

    fn only(&self, which: impl Fn(&Sample) -> bool) -> Self {
        let all = self.all.iter().filter(|s| which(s)).copied().collect();
        Self { name: self.name.clone(), all }
    }

    /// The longest time in which none was good: between the ends of two that were, one after the other.
    pub fn longest_gap(&self) -> f64 {
        let ends: Vec<f64> = self.all.iter().filter(|s| s.good).map(|s| s.to).collect();
        ends.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max)
    }

    /// Spans in which it was bad for certain: from the end of a first bad result to the start of a last.
    fn outages(&self) -> Vec<(f64, f64)> {
        let bad = self.all.chunk_by(|a, b| a.good == b.good).filter(|run| !run[0].good);
        bad.map(|run| (run[0].to, run[run.len() - 1].from)).filter(|(from, to)| from < to).collect()
    }
}

/// Whether the API server of a node serves, for all that its etcd does: an election is no restart.
pub const API_SERVES: &str =
    "curl -fsSk -m 10 'https://127.0.0.1:6443/readyz?exclude=etcd&exclude=etcd-readiness'";

/// Passes where no two were bad at one moment, and every one of them was bad at some.
pub fn took_turns(probes: &[Samples]) -> Check {
    for one in probes {
        ensure!(one.all.iter().any(|s| !s.good), "{} was never seen away", one.name);
        for other in probes.iter().filter(|other| other.name > one.name) {
            for (a, b) in one.outages() {
                let both = other.outages().into_iter().find(|(c, d)| *c < b && a < *d);
                ensure!(
                    both.is_none(),
                    "{} and {} were away at once: {a}..{b}, {both:?}",
                    one.name,
                    other.name
                );
            }
        }
    }
    Ok(())
}

/// Results a second apart, each a quarter of one long.
#[cfg(test)]
fn samples(name: &str, goods: &str) -> Samples {
    let sample =
        |(n, c): (usize, char)| Sample { number: 1, from: n as f64, to: n as f64 + 0.25, good: c == '1' };
    Samples { name: name.into(), all: goods.chars().enumerate().map(sample).collect() }
}

#[test]
fn gaps_are_measured() {
    let seen = samples("a", "1101000111");
    assert_eq!(seen.longest_gap(), 4.0);
    assert_eq!(seen.good_within((0.0, 1.0)), 1);
    assert_eq!(seen.good_within((3.5, 7.0)), 0);
    assert_eq!((seen.since(7.0).all.len(), seen.until(3.0).all.len()), (3, 3));
}

#[test]
fn overlapping_outages_are_found() {
    let probe = samples;
    assert!(took_turns(&[probe("a", "110001111"), probe("b", "111110001")]).is_ok());
    assert!(took_turns(&[probe("a", "110000111"), probe("b", "111100011")]).is_err());
    assert!(took_turns(&[probe("a", "110000111"), probe("b", "111111111")]).is_err());
}
