//! QEMU's machine protocol: one JSON object a line. A thread reads replies and events, so that
//! no caller ever blocks on the socket without a time limit.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::error::{Error, Result};

/// Events kept: a guest raises a handful in its life (RESET, SHUTDOWN, WATCHDOG, POWERDOWN).
const EVENTS_KEPT: usize = 1_000;
/// QEMU answers within milliseconds; a host that runs two guests under TCG may be slow.
const REPLY_LIMIT: Duration = Duration::from_secs(20);

/// Something that QEMU reports by itself, such as `SHUTDOWN` or `WATCHDOG`.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// QMP's name of the event.
    pub name: String,
    /// What belongs to it; an empty object where QEMU sends nothing.
    pub data: Value,
}

/// One line from QEMU.
#[derive(Debug, PartialEq)]
enum Message {
    Greeting,
    Event(Event),
    Reply {
        id: u64,
        outcome: std::result::Result<Value, Refusal>,
    },
}

#[derive(Debug, PartialEq)]
struct Refusal {
    class: String,
    description: String,
}

/// The control channel of one QEMU.
pub(crate) struct Qmp {
    shared: Arc<Shared>,
    writer: Mutex<Writer>,
}

struct Writer {
    stream: UnixStream,
    next_id: u64,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    greeted: bool,
    closed: bool,
    replies: Vec<(u64, std::result::Result<Value, Refusal>)>,
    events: Vec<Event>,
    problem: Option<Error>,
}

/// Why a wait on the channel ended without what was waited for.
#[derive(Debug)]
pub(crate) enum Failure {
    Timeout(Duration),
    Closed,
    Error(Error),
}

impl Qmp {
    /// Waits for QEMU's greeting and leaves the negotiation mode.
    pub(crate) fn connect(stream: UnixStream) -> std::result::Result<Self, Failure> {
        let plumbing = |act| move |source| Failure::Error(Error::Plumbing { act, source });
        let reading = stream
            .try_clone()
            .map_err(plumbing("clone the QMP socket"))?;
        stream
            .set_write_timeout(Some(REPLY_LIMIT))
            .map_err(plumbing("set the QMP socket's time limit"))?;
        let shared = Arc::new(Shared::default());
        let qmp = Qmp {
            shared: Arc::clone(&shared),
            writer: Mutex::new(Writer { stream, next_id: 1 }),
        };
        thread::Builder::new()
            .name("qmp".to_string())
            .spawn(move || shared.read(reading))
            .map_err(plumbing("start the QMP thread"))?;
        qmp.shared
            .wait(REPLY_LIMIT, |state| state.greeted.then_some(()))?;
        qmp.command("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs one command and returns what it answers.
    pub(crate) fn command(
        &self,
        command: &str,
        arguments: Value,
    ) -> std::result::Result<Value, Failure> {
        let id = self.send(command, &arguments)?;
        let outcome = self.shared.wait(REPLY_LIMIT, |state| {
            let index = state.replies.iter().position(|(of, _)| *of == id)?;
            Some(state.replies.swap_remove(index).1)
        })?;
        outcome.map_err(|refusal| {
            Failure::Error(Error::Refused {
                command: command.to_string(),
                class: refusal.class,
                description: refusal.description,
            })
        })
    }

    fn send(&self, command: &str, arguments: &Value) -> std::result::Result<u64, Failure> {
        let mut writer = self
            .writer
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let id = writer.next_id;
        writer.next_id += 1;
        let line = format!(
            "{}\n",
            json!({ "execute": command, "arguments": arguments, "id": id })
        );
        match writer.stream.write_all(line.as_bytes()) {
            Ok(()) => Ok(id),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                Err(Failure::Timeout(REPLY_LIMIT))
            }
            // The other end is gone.
            Err(_) => Err(Failure::Closed),
        }
    }

    /// The first event, past or to come, that `wanted` accepts.
    pub(crate) fn wait_event(
        &self,
        wanted: &dyn Fn(&Event) -> bool,
        limit: Duration,
    ) -> std::result::Result<Event, Failure> {
        self.shared.wait(limit, |state| {
            state.events.iter().find(|event| wanted(event)).cloned()
        })
    }

    /// All events so far.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.shared.lock().events.clone()
    }
}

impl Shared {
    fn read(&self, stream: UnixStream) {
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { break };
            if line.trim().is_empty() {
                continue;
            }
            let parsed = parse(&line);
            let mut state = self.lock();
            match parsed {
                Ok(Message::Greeting) => state.greeted = true,
                Ok(Message::Event(event)) => {
                    if state.events.len() < EVENTS_KEPT {
                        state.events.push(event);
                    }
                }
                Ok(Message::Reply { id, outcome }) => state.replies.push((id, outcome)),
                Err(error) => state.problem = Some(error),
            }
            drop(state);
            self.changed.notify_all();
        }
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn wait<T>(
        &self,
        limit: Duration,
        mut found: impl FnMut(&mut State) -> Option<T>,
    ) -> std::result::Result<T, Failure> {
        let deadline = Instant::now() + limit;
        let mut state = self.lock();
        loop {
            if let Some(value) = found(&mut state) {
                return Ok(value);
            }
            if let Some(problem) = state.problem.take() {
                return Err(Failure::Error(problem));
            }
            if state.closed {
                return Err(Failure::Closed);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Failure::Timeout(limit));
            }
            (state, _) = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Reads one line of the protocol.
fn parse(line: &str) -> Result<Message> {
    let protocol = |problem: String| Error::Protocol {
        problem,
        text: line.to_string(),
    };
    let value: Value = serde_json::from_str(line).map_err(|error| protocol(error.to_string()))?;
    if value.get("QMP").is_some() {
        return Ok(Message::Greeting);
    }
    if let Some(name) = value.get("event").and_then(Value::as_str) {
        let data = value.get("data").cloned().unwrap_or_else(|| json!({}));
        return Ok(Message::Event(Event {
            name: name.to_string(),
            data,
        }));
    }
    let id = value.get("id").and_then(Value::as_u64);
    if let (Some(id), Some(answer)) = (id, value.get("return")) {
        return Ok(Message::Reply {
            id,
            outcome: Ok(answer.clone()),
        });
    }
    if let (Some(id), Some(error)) = (id, value.get("error")) {
        let text = |key| {
            error
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_string()
        };
        let refusal = Refusal {
            class: text("class"),
            description: text("desc"),
        };
        return Ok(Message::Reply {
            id,
            outcome: Err(refusal),
        });
    }
    Err(protocol("neither greeting, event nor reply".to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_kinds_of_line_are_told_apart() {
        assert_eq!(
            parse(r#"{"QMP": {"version": {}, "capabilities": []}}"#).unwrap(),
            Message::Greeting
        );
        assert_eq!(
            parse(r#"{"timestamp": {"seconds": 1}, "event": "SHUTDOWN", "data": {"guest": true}}"#)
                .unwrap(),
            Message::Event(Event {
                name: "SHUTDOWN".into(),
                data: json!({"guest": true})
            })
        );
        assert_eq!(
            parse(r#"{"return": "text", "id": 7}"#).unwrap(),
            Message::Reply {
                id: 7,
                outcome: Ok(json!("text"))
            }
        );
        assert_eq!(
            parse(r#"{"id": 8, "error": {"class": "GenericError", "desc": "no"}}"#).unwrap(),
            Message::Reply {
                id: 8,
                outcome: Err(Refusal {
                    class: "GenericError".into(),
                    description: "no".into()
                })
            }
        );
    }

    #[test]
    fn nonsense_is_an_error_that_shows_it() {
        let error = parse("hello").unwrap_err().to_string();
        assert!(error.contains("hello"), "{error}");
        let error = parse(r#"{"return": 1}"#).unwrap_err().to_string();
        assert!(error.contains("neither greeting"), "{error}");
    }

    #[test]
    fn replies_find_their_command_and_events_are_kept() {
        let (host, emulator) = UnixStream::pair().unwrap();
        let script = thread::spawn(move || {
            let mut writer = emulator.try_clone().unwrap();
            let mut lines = BufReader::new(emulator).lines();
            writeln!(writer, r#"{{"QMP": {{}}}}"#).unwrap();
            for answer in [r#""return": {}"#, r#""return": {"running": true}"#] {
                let request: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
                writeln!(writer, r#"{{"event": "RESUME"}}"#).unwrap();
                writeln!(writer, r#"{{{answer}, "id": {}}}"#, request["id"]).unwrap();
            }
        });
        let qmp = Qmp::connect(host).unwrap();
        assert_eq!(
            qmp.command("query-status", json!({})).unwrap(),
            json!({"running": true})
        );
        script.join().unwrap();
        let event = qmp
            .wait_event(&|event| event.name == "RESUME", REPLY_LIMIT)
            .unwrap();
        assert_eq!(event.data, json!({}));
        assert!(matches!(
            qmp.command("stop", json!({})),
            Err(Failure::Closed)
        ));
    }
}
