//! One lab: nodes, a workstation, and rsadm run there.

use std::{
    env, fs,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Output, Stdio},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    thread::{self, JoinHandle},
};

use super::{Check, Fault, Inventory, Outcome, eventually, share::Share};

/// What a look at etcd comes to, as it is told while one looks on; the first is that all is well.
const VERDICTS: [&str; 5] =
    [" healthy: ", " degraded: ", " NO QUORUM: ", " cannot be used", " could not connect"];

/// Where rsadm keeps what hosts said of a failure, below the folder of the lab.
const EVIDENCE: &str = "home/state";

/// How often what hosts let in too late is run.
const TRIES: usize = 3;

/// A lab that is up; dropping it takes it down.
pub struct Lab {
    name: String,
    state: PathBuf,
    on_disk: bool,
    _share: Share,
}

impl Lab {
    /// Boots nodes, named as `lab up` wants them, in a lab of this scenario's own, once the machine has enough for it.
    pub fn up(scenario: &str, nodes: &[&str]) -> Result<Self, Fault> {
        Self::up_with(scenario, nodes, false)
    }

    /// The same on a real disk, also where the others are in memory (`LAB_STATE`).
    pub fn up_on_disk(scenario: &str, nodes: &[&str]) -> Result<Self, Fault> {
        Self::up_with(scenario, nodes, true)
    }

    fn up_with(scenario: &str, nodes: &[&str], on_disk: bool) -> Result<Self, Fault> {
        let share = Share::wait_for(scenario);
        // Whoever runs the tests can find what is left of them after a kill.
        let run = env::var("LAB_TESTS").unwrap_or_else(|_| "dev".into());
        let name = format!("test-{run}-{scenario}");
        let mut lab = Self { name, state: PathBuf::new(), on_disk, _share: share };
        lab.state = lab.verb(&["path"])?.text()?.into();
        lab.verb(&[&["up"], nodes].concat())?.ok()?;
        // What OpenSSH prefers takes a tenth of a second of a processor for each login, which would be a sixth of all that the
        // labs compute.
        fs::write(lab.path("home/.ssh/config"), "KexAlgorithms curve25519-sha256\n")?;
        Ok(lab)
    }

    /// Carries out one of the lab's own verbs.
    pub fn verb(&self, args: &[&str]) -> Result<Outcome, Fault> {
        run(self.command().args(args), format!("lab {}", args.join(" ")))
    }

    /// Runs a shell script as root on a node, past its network and sshd.
    pub fn on(&self, node: &str, script: &str) -> Result<Outcome, Fault> {
        run(self.command().args(["root", node, "bash", "-c", script]), format!("{node}: {script}"))
    }

    /// A command as the operator types it, in the repository's folder. What rsadm keeps of its failures it keeps in this lab.
    pub fn workstation(&self, args: &[&str]) -> Command {
        let mut command = self.command();
        command.arg("workstation").args(args).env("XDG_STATE_HOME", self.path(EVIDENCE));
        command
    }

    /// What rsadm has kept of all its failures here, in files of the operator's.
    pub fn evidence(&self) -> Result<String, Fault> {
        let folder = self.path(EVIDENCE);
        let all =
            run(Command::new("find").arg(&folder).args(["-type", "f", "-exec", "cat", "{}", "+"]), "find")?;
        ensure!(all.code == 0 || !folder.exists(), "{}", all.all());
        Ok(all.stdout)
    }

    /// Carries out a command as the operator types it.
    pub fn on_workstation(&self, args: &[&str]) -> Result<Outcome, Fault> {
        run(&mut self.workstation(args), args.join(" "))
    }

    /// Runs a script of `tests/lab` that uses the lab.
    pub fn script(&self, name: &str, args: &[&str]) -> Result<Outcome, Fault> {
        let mut command = self.program(name);
        run(command.args(args), format!("{name} {}", args.join(" ")))
    }

    /// `rsadm COMMAND INVENTORY`. Where all that is in its way is that hosts of a busy machine let it in too late, it is run again,
    /// as its operator would.
    pub fn rsadm_on(&self, command: &str, inventory: &Inventory) -> Result<Outcome, Fault> {
        patiently(|| self.start_rsadm_on(command, inventory)?.end())
    }

    /// The same with a variable of its environment; the inventory stands last.
    pub fn rsadm_with(
        &self,
        (variable, value): (&str, &str),
        command: &str,
        inventory: &Inventory,
    ) -> Result<Outcome, Fault> {
        let file = inventory.save(&self.state)?;
        let words: Vec<&str> = command.split(' ').collect();
        patiently(|| {
            let mut program = self.workstation(&[&[rsadm()], words.as_slice(), &[file.as_str()]].concat());
            run(program.env(variable, value), format!("rsadm {command} {file}"))
        })
    }

    /// `rsadm COMMAND INVENTORY`, left running. The inventory stands where the command has a word `{}`, else last.
    pub fn start_rsadm_on(&self, command: &str, inventory: &Inventory) -> Result<Running, Fault> {
        let file = inventory.save(&self.state)?;
        let mut words: Vec<&str> = command.split(' ').collect();
        match words.iter().position(|word| *word == "{}") {
            Some(place) => words[place] = &file,
            None => words.push(&file),
        }
        let mut program = self.workstation(&[&[rsadm()], words.as_slice()].concat());
        Running::start(&mut program, format!("rsadm {}", words.join(" ")))
    }

    /// Lets a node's `etcd`, or who has a `login` there, write so many times a second to etcd's disk, by the kernel's own
    /// throttle from outside the node; 0 is no limit. False where this kernel has no such throttle.
    pub fn slow_disk(&self, who: &str, node: &str, writes: u32) -> Result<bool, Fault> {
        let mut command = Command::new("bash");
        command.args(["-c", include_str!("../slow-disk"), "slow-disk", who]);
        command.arg(format!("rsadm-lab.{}/node-{node}", self.name));
        command.arg(self.path(&format!("nodes/{node}/var/etcd"))).arg(writes.to_string());
        match run(&mut command, format!("slow-disk {who} {node} {writes}"))? {
            Outcome { code: 0, .. } => Ok(true),
            Outcome { code: 3, .. } => Ok(false),
            other => Err(other.all().into()),
        }
    }

    /// A file of this lab's state, which is gone with the lab.
    pub fn path(&self, name: &str) -> PathBuf {
        self.state.join(name)
    }

    /// The folder with `etcdctl`, as `tests/etcd.rs` has it.
    pub fn etcd_programs() -> Result<String, Fault> {
        Ok(env::var("RSADM_ETCD")
            .map_err(|_| "RSADM_ETCD does not name the folder with etcdctl; tests/all sets it")?)
    }

    /// The lab's program.
    pub fn command(&self) -> Command {
        self.program("lab")
    }

    fn program(&self, name: &str) -> Command {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new(repository.join("tests/lab").join(name));
        command.env("LAB_NAME", &self.name).current_dir(repository).stdin(Stdio::null());
        // cargo sets these for this test's own crate. Another cargo below (`lab demo`) would take them for those of every crate
        // that reads them, and compile such crates anew.
        let of_cargo = env::vars_os().map(|(name, _)| name);
        let is_of_crate = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
        of_cargo.filter(|name| is_of_crate(&name.to_string_lossy())).for_each(|name| {
            command.env_remove(name);
        });
        if self.on_disk {
            command.env_remove("LAB_STATE");
        }
        command
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if thread::panicking() && self.path(EVIDENCE).exists() {
            // Else it would go with the lab, and failures are told with the names of these files.
            let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&self.name);
            let copied = Command::new("cp").arg("-rT").arg(self.path(EVIDENCE)).arg(&kept).status();
            println!("[{}] what hosts said of failures is in {}: {copied:?}", self.name, kept.display());
        }
        if env::var_os("LAB_KEEP").is_some() {
            println!("[{}] is kept; LAB_NAME={} tests/lab/lab down ends it", self.name, self.name);
        } else if let Err(fault) = self.verb(&["down"]).and_then(Outcome::ok) {
            println!("[{}] {fault}", self.name);
        }
    }
}

/// rsadm on its way.
pub struct Running {
    /// The process: `lab workstation` becomes what it runs.
    child: Child,
    command: String,
    said: (BufReader<ChildStderr>, String),
    /// Its results so far, and who reads them: each of the two streams may fill its pipe.
    shown: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<io::Result<()>>,
}

impl Running {
    fn start(command: &mut Command, what: String) -> Result<Self, Fault> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let stderr = child.stderr.take().ok_or("no messages")?;
        let mut stdout = BufReader::new(child.stdout.take().ok_or("no results")?);
        let shown = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&shown);
        let reader = thread::spawn(move || {
            let mut line = Vec::new();
            while stdout.read_until(b'\n', &mut line)? > 0 {
                lines.lock().unwrap_or_else(PoisonError::into_inner).append(&mut line);
            }
            Ok(())
        });
        let said = (BufReader::new(stderr), String::new());
        Ok(Self { child, command: what, said, shown, reader })
    }

    /// Waits until it says that, or ends without.
    pub fn until_it_says(&mut self, text: &str) -> Check {
        while let Some(line) = self.line()? {
            if line.contains(text) {
                return Ok(());
            }
        }
        Err(format!("ended without {text:?}: {}\n{}", self.command, self.said.1).into())
    }

    /// Passes where its results have that by now.
    pub fn has_shown(&self, text: &str) -> Check {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = String::from_utf8_lossy(&shown);
        ensure!(shown.contains(text), "has not shown {text:?}: {}\n{shown}", self.command);
        Ok(())
    }

    /// Waits for its next message; `None` at its end.
    pub fn line(&mut self) -> Result<Option<String>, Fault> {
        let (reader, said) = &mut self.said;
        let start = said.len();
        Ok((reader.read_line(said)? > 0).then(|| said[start..].to_owned()))
    }

    /// Sends a signal to it alone, as `kill` does, not to what it started.
    pub fn signal(&self, name: &str) -> Check {
        run(Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]), "kill")?.ok()?;
        Ok(())
    }

    /// Ends one that looks at etcd as Ctrl-C does, once its results have all of that, and its last look saw that all is well.
    pub fn interrupted_after(self, told: &[&str]) -> Result<Outcome, Fault> {
        let seen = eventually(|| {
            told.iter().try_for_each(|words| self.has_shown(words))?;
            let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
            let shown = String::from_utf8_lossy(&shown);
            let is_verdict = |line: &&str| VERDICTS.iter().any(|words| line.contains(words));
            let last = shown.lines().rev().find(is_verdict);
            ensure!(
                last.is_some_and(|line| line.contains(VERDICTS[0])),
                "its last look saw {last:?}\n{shown}"
            );
            Ok(())
        });
        self.signal("INT")?;
        let outcome = self.end()?;
        println!("{}", outcome.stdout);
        seen.map(|()| outcome)
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end.
    pub fn end(mut self) -> Result<Outcome, Fault> {
        let (mut messages, mut said) = self.said;
        messages.read_to_string(&mut said)?;
        self.reader.join().map_err(|_| "the reader panicked")??;
        let stdout = std::mem::take(&mut *self.shown.lock().unwrap_or_else(PoisonError::into_inner));
        let output = Output { status: self.child.wait()?, stdout, stderr: said.into_bytes() };
        let outcome = Outcome::new(&self.command, &output);
        if env::var_os("LAB_SHOW").is_some() {
            println!("$ {}", outcome.all());
        }
        Ok(outcome)
    }
}

/// Runs rsadm until it does not end for the sake of hosts that are too busy.
fn patiently(run: impl Fn() -> Result<Outcome, Fault>) -> Result<Outcome, Fault> {
    for _ in 1..TRIES {
        let ended = run()?;
        if !ended.found_hosts_busy() {
            return Ok(ended);
        }
        println!("    once more: {}", ended.all());
    }
    run()
}

/// Runs a command to its end.
pub fn run(command: &mut Command, what: impl Into<String>) -> Result<Outcome, Fault> {
    Ok(Outcome::new(what, &command.output()?))
}

/// The program under test. A copy: another checkout that shares the target folder may build its own meanwhile.
fn rsadm() -> &'static str {
    static COPY: OnceLock<(tempfile::TempDir, String)> = OnceLock::new();
    let (_, path) = COPY.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("rsadm");
        fs::copy(env!("CARGO_BIN_EXE_rsadm"), &path).expect("a copy of rsadm");
        let path = path.display().to_string();
        (folder, path)
    });
    path
}

#[test]
fn what_runs_is_heard_on_both_streams_before_its_end() {
    let script = "trap 'echo three; exit 7' TERM; echo one; echo two >&2; while :; do sleep 0.1; done";
    let mut running = Running::start(Command::new("sh").args(["-c", script]), "a loop".into()).unwrap();
    running.until_it_says("two").unwrap();
    super::eventually(|| running.has_shown("one")).unwrap();
    assert!(running.has_shown("three").is_err());
    running.signal("TERM").unwrap();
    let ended = running.end().unwrap().exits(7).unwrap();
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("one\nthree\n", "two\n"));
}
