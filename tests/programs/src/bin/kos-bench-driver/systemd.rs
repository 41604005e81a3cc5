//! The part of systemd's manager interface that is asked, over its private socket: no broker.
//!
//! Requests are zbus's; answers are taken apart here, because systemd signs them on this socket
//! with a name that D-Bus allows to brokers' clients only, and zbus refuses the whole message.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex as AsyncMutex, broadcast, oneshot};
use zbus::Message;

/// Where systemd answers root without a broker.
const SOCKET: &str = "/run/systemd/private";
const OBJECT: &str = "/org/freedesktop/systemd1";
const INTERFACE: &str = "org.freedesktop.systemd1.Manager";
const NAME: &str = "org.freedesktop.systemd1";
/// More signals than the jobs of all services make.
const QUEUE: usize = 16_384;
/// How long the end of a job is waited for before the list is asked for again.
const ASK_AGAIN: Duration = Duration::from_millis(250);
/// How long an answer is waited for before the question is asked again.
const ANSWER: Duration = Duration::from_secs(2);
/// The longest that is waited for what it does by itself.
const SETTLE: Duration = Duration::from_secs(20);
/// Larger than any answer to these questions.
const MAX_MESSAGE: usize = 1 << 20;

/// Answers that are waited for, by the request's serial number; why there will be none any more.
type Waiting = Arc<Mutex<Result<HashMap<u32, oneshot::Sender<Incoming>>, String>>>;

/// A connection to systemd.
#[derive(Clone)]
pub struct Systemd {
    writer: Arc<AsyncMutex<OwnedWriteHalf>>,
    waiting: Waiting,
    jobs: broadcast::Sender<Ended>,
}

/// A job that ended: its unit, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ended {
    unit: String,
    result: String,
}

/// The ends of jobs from a moment on.
pub struct Jobs(broadcast::Receiver<Ended>);

impl Systemd {
    /// Connects.
    pub async fn connect() -> Result<Self> {
        let mut stream = UnixStream::connect(SOCKET)
            .await
            .with_context(|| format!("connect to {SOCKET}"))?;
        // Root's number, in hexadecimal digits of its letters.
        stream.write_all(b"\0AUTH EXTERNAL 30\r\n").await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n") {
            answer.push(stream.read_u8().await?);
        }
        ensure!(
            answer.starts_with(b"OK "),
            "systemd answers {:?}",
            String::from_utf8_lossy(&answer)
        );
        stream.write_all(b"BEGIN\r\n").await?;
        let (reader, writer) = stream.into_split();
        let systemd = Systemd {
            writer: Arc::new(AsyncMutex::new(writer)),
            waiting: Arc::new(Mutex::new(Ok(HashMap::new()))),
            jobs: broadcast::Sender::new(QUEUE),
        };
        tokio::spawn(read(reader, systemd.waiting.clone(), systemd.jobs.clone()));
        Ok(systemd)
    }

    /// Asks for a start.
    pub async fn start(&self, number: u32) -> Result<()> {
        self.call("StartUnit", &(unit(number), "replace"))
            .await
            .map(drop)
    }

    /// Asks for a stop.
    pub async fn stop(&self, number: u32) -> Result<()> {
        self.call("StopUnit", &(unit(number), "replace"))
            .await
            .map(drop)
    }

    /// From now on.
    pub fn jobs(&self) -> Jobs {
        Jobs(self.jobs.subscribe())
    }

    /// Waits until nothing is left to do.
    pub async fn settled(&self) -> Result<()> {
        let mut jobs = self.jobs();
        let ends = Instant::now() + SETTLE;
        while Instant::now() < ends {
            // A first question that systemd reads together with the end of the greeting waits there until
            // more comes.
            let asked = tokio::time::timeout(ANSWER, self.call("ListJobs", &()));
            let Ok(listed) = asked.await else { continue };
            // An array's length comes first: no bytes, no jobs. A job of systemd's own may wait for a
            // device that never comes; it keeps nothing from running.
            if listed?.get(..4) == Some(&[0; 4]) {
                break;
            }
            // Not every job that is listed tells its end: a hundred stops at once left one that did
            // not. This is outside of what is measured.
            if let Ok(ended) = tokio::time::timeout(ASK_AGAIN, jobs.next()).await {
                ended?;
            }
        }
        Ok(())
    }

    async fn call<B>(&self, method: &str, body: &B) -> Result<Vec<u8>>
    where
        B: serde::Serialize + zbus::Type,
    {
        let message = Message::method_call(OBJECT, method)
            .interface(INTERFACE)
            .destination(NAME)
            .build(body)?;
        let serial = message.primary_header().serial_num().get();
        let (tell, told) = oneshot::channel();
        match &mut *lock(&self.waiting) {
            Ok(waiting) => waiting.insert(serial, tell),
            Err(reason) => bail!("{method}: {reason}"),
        };
        self.writer.lock().await.write_all(message.data()).await?;
        let answer = told
            .await
            .with_context(|| format!("{method}: the connection to systemd ended"))?;
        ensure!(
            answer.kind == RETURN,
            "{method}: systemd answers {:?}",
            String::from_utf8_lossy(&answer.body)
        );
        Ok(answer.body)
    }
}

impl Jobs {
    /// Waits until this service's job is done.
    pub async fn done(&mut self, number: u32) -> Result<()> {
        while self.next().await? != unit(number) {}
        Ok(())
    }

    /// The unit of the next job that ends.
    async fn next(&mut self) -> Result<String> {
        let Ended { unit, result } = self.0.recv().await.context("systemd hung up")?;
        ensure!(result == "done", "the job of {unit} ended as '{result}'");
        Ok(unit)
    }
}

fn unit(number: u32) -> String {
    format!("probe@{number}.service")
}

/// Hands out what comes in until the connection ends; then everybody who waits, or asks later, is
/// told so instead of waiting for ever.
async fn read(mut reader: OwnedReadHalf, waiting: Waiting, jobs: broadcast::Sender<Ended>) {
    let Err(error) = hand_out(&mut reader, &waiting, &jobs).await else {
        return;
    };
    let reason = format!("the connection to systemd ended: {error:#}");
    *lock(&waiting) = Err(reason.clone());
    let _ = jobs.send(Ended {
        unit: "every unit".to_owned(),
        result: reason,
    });
}

/// Returns only errors.
async fn hand_out(
    reader: &mut OwnedReadHalf,
    waiting: &Waiting,
    jobs: &broadcast::Sender<Ended>,
) -> Result<()> {
    loop {
        let message = Incoming::read(reader).await?;
        if message.member == "JobRemoved" {
            let _ = jobs.send(message.job_removed()?);
            continue;
        }
        let asked = match &mut *lock(waiting) {
            Ok(waiting) => waiting.remove(&message.reply_to),
            Err(_) => None,
        };
        if let Some(asked) = asked {
            let _ = asked.send(message);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The message type of an answer without an error.
const RETURN: u8 = 2;

/// What of a message is looked at.
#[derive(Debug, Default)]
struct Incoming {
    kind: u8,
    member: String,
    reply_to: u32,
    body: Vec<u8>,
}

impl Incoming {
    /// Reads one message (D-Bus specification, "Message Format"; little-endian, as systemd sends
    /// on this processor).
    async fn read(reader: &mut OwnedReadHalf) -> Result<Self> {
        let mut fixed = [0; 16];
        reader.read_exact(&mut fixed).await?;
        let mut head = Cursor {
            bytes: &fixed,
            place: 4,
        };
        ensure!(fixed.first() == Some(&b'l'), "not little-endian");
        let body_length = head.number()? as usize;
        let _serial = head.number()?;
        let fields_length = head.number()? as usize;
        ensure!(
            body_length + fields_length <= MAX_MESSAGE,
            "a message of {body_length} bytes"
        );
        let mut fields = vec![0; fields_length.next_multiple_of(8)];
        reader.read_exact(&mut fields).await?;
        fields.truncate(fields_length);
        let mut body = vec![0; body_length];
        reader.read_exact(&mut body).await?;
        let mut message = Incoming {
            kind: fixed.get(1).copied().unwrap_or(0),
            body,
            ..Incoming::default()
        };
        message.take_fields(&fields)?;
        Ok(message)
    }

    fn take_fields(&mut self, bytes: &[u8]) -> Result<()> {
        const MEMBER: u8 = 3;
        const REPLY_SERIAL: u8 = 5;
        let mut fields = Cursor { bytes, place: 0 };
        while fields.place < bytes.len() {
            fields.align(8);
            let code = fields.byte()?;
            let signature = fields.short_text()?;
            match signature.as_str() {
                "s" | "o" => {
                    let text = fields.text()?;
                    if code == MEMBER {
                        self.member = text;
                    }
                }
                "g" => drop(fields.short_text()?),
                "u" => {
                    let number = fields.number()?;
                    if code == REPLY_SERIAL {
                        self.reply_to = number;
                    }
                }
                other => bail!("a header field of type {other}"),
            }
        }
        Ok(())
    }

    /// `JobRemoved`: id, job, unit, result.
    fn job_removed(&self) -> Result<Ended> {
        let mut body = Cursor {
            bytes: &self.body,
            place: 0,
        };
        body.number()?;
        body.text()?;
        Ok(Ended {
            unit: body.text()?,
            result: body.text()?,
        })
    }
}

/// A place in D-Bus's encoding.
struct Cursor<'a> {
    bytes: &'a [u8],
    place: usize,
}

impl Cursor<'_> {
    fn align(&mut self, to: usize) {
        self.place = self.place.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> Result<&[u8]> {
        let end = self.place + count;
        let taken = self.bytes.get(self.place..end).context("it is cut off")?;
        self.place = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(*self.take(1)?.first().context("it is cut off")?)
    }

    fn number(&mut self) -> Result<u32> {
        self.align(4);
        Ok(u32::from_le_bytes(self.take(4)?.try_into()?))
    }

    fn text(&mut self) -> Result<String> {
        let length = self.number()? as usize;
        self.terminated(length)
    }

    fn short_text(&mut self) -> Result<String> {
        let length = usize::from(self.byte()?);
        self.terminated(length)
    }

    fn terminated(&mut self, length: usize) -> Result<String> {
        let text = String::from_utf8(self.take(length)?.to_vec())?;
        self.take(1)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_signal_under_a_brokers_name_is_understood() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let object = zbus::ObjectPath::try_from("/org/freedesktop/systemd1/job/7").unwrap();
        let body = (7u32, object, "probe@2001.service", "done");
        let message = Message::signal(OBJECT, INTERFACE, "JobRemoved")
            .build(&body)
            .unwrap();
        let (mut reader, _keep) = ours.into_split();
        let (_other, mut writer) = theirs.into_split();
        writer.write_all(message.data()).await.unwrap();
        let message = Incoming::read(&mut reader).await.unwrap();
        let ended = Ended {
            unit: unit(2001),
            result: "done".to_owned(),
        };
        assert_eq!(message.member, "JobRemoved");
        assert_eq!(message.job_removed().unwrap(), ended);
        drop(writer);
        assert!(Incoming::read(&mut reader).await.is_err());
    }

    #[tokio::test]
    async fn nobody_waits_for_a_connection_that_ended() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (reader, writer) = ours.into_split();
        let systemd = Systemd {
            writer: Arc::new(AsyncMutex::new(writer)),
            waiting: Arc::new(Mutex::new(Ok(HashMap::new()))),
            jobs: broadcast::Sender::new(4),
        };
        let mut jobs = systemd.jobs();
        let reading = tokio::spawn(read(reader, systemd.waiting.clone(), systemd.jobs.clone()));
        drop(theirs);
        reading.await.unwrap();
        let limit = Duration::from_secs(10);
        let asked = tokio::time::timeout(limit, systemd.start(2001));
        let error = asked.await.unwrap().unwrap_err();
        assert!(format!("{error:#}").contains("ended"), "{error:#}");
        let ended = tokio::time::timeout(limit, jobs.done(2001)).await.unwrap();
        assert!(ended.is_err());
    }
}
