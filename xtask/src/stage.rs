//! Long work made visible: a named stage, the time it has taken, and what is running now.
//!
//! On a terminal one line is rewritten in place; elsewhere a line comes every quarter of a minute.
//! The whole output of every program is kept in a log file, and its end is shown when it fails.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Fast enough to look alive, slow enough to cost nothing.
const TERMINAL_INTERVAL: Duration = Duration::from_millis(500);
/// A CI log stays readable, and nobody thinks that it hangs.
const LOG_INTERVAL: Duration = Duration::from_secs(15);
/// How much of a failed program's output is shown: more than a compiler's longest usual error.
const TAIL_LINES: usize = 60;

/// Runs stages one after the other and remembers what each took.
pub struct Stages {
    logs: PathBuf,
    terminal: bool,
    done: Vec<Done>,
}

/// A stage that ended.
pub struct Done {
    /// Its name.
    pub name: String,
    /// Wall time.
    pub wall: Duration,
    /// User and system time of the programs that it ran.
    pub cpu: Duration,
}

impl Stages {
    /// Logs go to the directory `logs`, one file per stage.
    pub fn new(logs: PathBuf) -> Stages {
        Stages {
            logs,
            terminal: std::io::stderr().is_terminal(),
            done: Vec::new(),
        }
    }

    /// Does `work` under a name that is shown while it lasts.
    pub fn run<T>(&mut self, name: &str, work: impl FnOnce(&Stage) -> Result<T>) -> Result<T> {
        let log_path = self.logs.join(format!(
            "{}.log",
            name.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-")
        ));
        let started = Instant::now();
        let cpu_before = children_cpu_time();
        let shown = Arc::new(Shown {
            name: name.to_owned(),
            started,
            terminal: self.terminal,
            state: Mutex::default(),
            ended: Condvar::new(),
        });
        if !self.terminal {
            eprintln!("{name}: started");
        }
        let ticker = Ticker::start(Arc::clone(&shown));
        let stage = Stage {
            shown,
            log: Mutex::default(),
            log_path,
        };
        let outcome = work(&stage);
        drop(ticker);
        let done = Done {
            name: name.to_owned(),
            wall: started.elapsed(),
            cpu: children_cpu_time().saturating_sub(cpu_before),
        };
        let summary = stage.shown.lock().summary.take();
        match &outcome {
            Ok(_) => eprintln!(
                "{name}: {} in {}",
                summary.as_deref().unwrap_or("done"),
                duration(done.wall)
            ),
            Err(_) => eprintln!("{name}: FAILED after {}", duration(done.wall)),
        }
        self.done.push(done);
        outcome
    }

    /// The stages that ended, in order.
    pub fn done(&self) -> &[Done] {
        &self.done
    }
}

/// The stage that is running.
pub struct Stage {
    shown: Arc<Shown>,
    /// Opened by the first program that runs: a stage with nothing to do keeps the last log.
    log: Mutex<Option<File>>,
    log_path: PathBuf,
}

impl Stage {
    /// Says what is going on now.
    pub fn note(&self, text: impl Into<String>) {
        self.shown.lock().now = text.into();
    }

    /// Replaces the word "done" in the line that ends the stage.
    pub fn summary(&self, text: impl Into<String>) {
        self.shown.lock().summary = Some(text.into());
    }

    /// Runs a program to its end; its output goes to the log, its last line is shown while it
    /// runs, and the end of the output when it fails.
    pub fn run(&self, command: &mut Command) -> Result<()> {
        let mut tail = VecDeque::new();
        let outcome = self.run_lines(command, |line| {
            if tail.len() == TAIL_LINES {
                tail.pop_front();
            }
            tail.push_back(line.to_owned());
        });
        if outcome.is_err() {
            for line in tail {
                self.say(&format!("    {line}"));
            }
        }
        outcome
    }

    /// As [`Stage::run`], but hands every line to `on_line` and shows nothing of a failure.
    pub fn run_lines(&self, command: &mut Command, mut on_line: impl FnMut(&str)) -> Result<()> {
        let called = shown_command(command);
        self.write_log(&format!("$ {called}"))?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("start {called}"))?;
        let (sender, lines) = mpsc::channel();
        if let Some(output) = child.stdout.take() {
            forward_lines(output, sender.clone());
        }
        if let Some(output) = child.stderr.take() {
            forward_lines(output, sender);
        }
        for line in lines {
            self.write_log(&line)?;
            on_line(&line);
            if !line.trim().is_empty() {
                let mut state = self.shown.lock();
                state.lines += 1;
                state.now = line.trim().to_owned();
            }
        }
        let status = child.wait().with_context(|| format!("wait for {called}"))?;
        if !status.success() {
            bail!(
                "{called}: {status} (whole output: {})",
                self.log_path.display()
            );
        }
        Ok(())
    }

    /// Prints a line that stays.
    pub fn say(&self, line: &str) {
        // Under the lock, so that the ticker does not write into it.
        let _state = self.shown.lock();
        self.shown.clear_line();
        eprintln!("{line}");
    }

    fn write_log(&self, line: &str) -> Result<()> {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let write = |log: &mut Option<File>| {
            if log.is_none() {
                *log = Some(File::create(&self.log_path)?);
            }
            log.as_mut().map_or(Ok(()), |file| writeln!(file, "{line}"))
        };
        write(&mut log).with_context(|| format!("write the log {}", self.log_path.display()))
    }
}

/// A duration as people read it: `0.4 s`, `12 s`, `3 min 08 s`.
pub fn duration(time: Duration) -> String {
    match time.as_secs() {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        seconds @ 10..60 => format!("{seconds} s"),
        seconds => format!("{} min {:02} s", seconds / 60, seconds % 60),
    }
}

struct Shown {
    name: String,
    started: Instant,
    terminal: bool,
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    now: String,
    lines: usize,
    summary: Option<String>,
    over: bool,
}

impl Shown {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, state: &State) {
        let elapsed = duration(self.started.elapsed());
        let count = if state.lines > 1 {
            format!(" [{}]", state.lines)
        } else {
            String::new()
        };
        let text = format!(
            "{}: {elapsed}{count}  {}",
            self.name,
            state.now.replace('\t', " ")
        );
        if self.terminal {
            // Without automatic wrapping (7l … 7h) a long line is cut at the window's edge.
            eprint!("\r\x1b[?7l{text}\x1b[K\x1b[?7h");
        } else {
            eprintln!("{text}");
        }
    }

    fn clear_line(&self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }
}

/// Shows the stage at intervals until it is dropped.
struct Ticker {
    shown: Arc<Shown>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    fn start(shown: Arc<Shown>) -> Ticker {
        let interval = if shown.terminal {
            TERMINAL_INTERVAL
        } else {
            LOG_INTERVAL
        };
        let of_thread = Arc::clone(&shown);
        let thread = std::thread::spawn(move || {
            let mut state = of_thread.lock();
            while !state.over {
                let (next, timeout) = of_thread
                    .ended
                    .wait_timeout(state, interval)
                    .unwrap_or_else(PoisonError::into_inner);
                state = next;
                if timeout.timed_out() && !state.over {
                    of_thread.show(&state);
                }
            }
        });
        Ticker {
            shown,
            thread: Some(thread),
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shown.lock().over = true;
        self.shown.ended.notify_all();
        if let Some(thread) = self.thread.take() {
            // A ticker that panicked has nothing left to show.
            let _ = thread.join();
        }
        self.shown.clear_line();
    }
}

fn forward_lines(output: impl Read + Send + 'static, sender: mpsc::Sender<String>) {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(output);
        let mut bytes = Vec::new();
        while matches!(reader.read_until(b'\n', &mut bytes), Ok(count) if count > 0) {
            let line = String::from_utf8_lossy(&bytes)
                .trim_end_matches(['\n', '\r'])
                .to_owned();
            bytes.clear();
            if sender.send(line).is_err() {
                return;
            }
        }
    });
}

fn shown_command(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

/// User and system time of the children that ended: fields 16 and 17 of proc_pid_stat(5), in
/// USER_HZ, which is 100 on every Linux that Rust runs on.
pub fn children_cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = after_name
        .split_whitespace()
        .skip(13)
        .take(2)
        .filter_map(|t| t.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 10)
}
