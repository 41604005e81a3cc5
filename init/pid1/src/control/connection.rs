//! One connection: reads calls, has them answered, and writes what the client is to be told.
//!
//! Nothing here grows: a message has a greatest length, a client that does not read is not listened
//! to and in the end let go, and one that asks for too much waits until its uid has earned it.

use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use kos_manifest::control::MAX_MANIFEST;
use kos_manifest::service::ControlGrant;
use tokio::net::UnixStream;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::task::JoinSet;
use tokio::time::Instant;
use zbus::Message;
use zbus::message::{Flags, Type};

use crate::control::account::{MAX_WAITING, Place};
use crate::control::call::{Call, Then, refuse};
use crate::control::error::ControlError;
use crate::control::frame::{self, FrameError};
use crate::control::handshake::{Handshake, HandshakeError};
use crate::control::realm::Realm;
use crate::control::signals;
use crate::control::standard::name_lost;
use crate::news::News;

/// Longest that a client may take to introduce itself.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Longest that a message may take from its first byte to its last.
const WHOLE_MESSAGE: Duration = Duration::from_secs(10);

/// Longest that a client may leave what it is told unread.
const UNREAD: Duration = Duration::from_secs(20);

/// Longest message of a client that may observe. Its longest call says of several hundred logs how
/// far it has read them.
const SHORT_MESSAGE: usize = 32 * 1024;

/// Longest message of a client that may operate: a manifest, and what is around it.
const LONG_MESSAGE: usize = MAX_MANIFEST + SHORT_MESSAGE;

/// Unread bytes beyond which no more signals are taken from the ring for a client. When it comes
/// back too late, the ring has gone over what it missed, and it is let go.
const SIGNALS_UNREAD: usize = 64 * 1024;

/// What is read at once.
const CHUNK: usize = 16 * 1024;

/// Calls that are taken in one turn of the event loop.
const CALLS_PER_TURN: usize = 16;

/// Messages that are written at once.
const MESSAGES_PER_WRITE: usize = 16;

/// How soon a client is listened to again whose other connections have much to read.
const PAUSE: Duration = Duration::from_millis(50);

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The client went away.
    #[error("it went away")]
    Gone,
    /// It does not speak D-Bus.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// It sends what is no message of a client of PID 1.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// It does not come to an end, or does not read.
    #[error("{0}")]
    Slow(&'static str),
    /// Its uid has no place among the services any more.
    #[error("its uid is no service's any more")]
    Nobody,
}

/// A connection, from its handshake to its end.
pub struct Connection<R> {
    stream: UnixStream,
    realm: Arc<R>,
    place: Place,
    received: Vec<u8>,
    /// Since when a message has been coming in.
    partial_since: Option<Instant>,
    unread: VecDeque<Message>,
    unread_bytes: usize,
    /// How much of the first of them has been written.
    written: usize,
    /// Since when the client has read nothing of it.
    stalled_since: Option<Instant>,
    waiting: JoinSet<Option<Message>>,
    news: Option<Receiver<Arc<News>>>,
    deaf_until: Option<Instant>,
}

impl<R: Realm> Connection<R> {
    /// A client that has just come.
    pub fn new(stream: UnixStream, realm: Arc<R>, place: Place) -> Self {
        Connection {
            stream,
            realm,
            place,
            received: Vec::new(),
            partial_since: None,
            unread: VecDeque::new(),
            unread_bytes: 0,
            written: 0,
            stalled_since: None,
            waiting: JoinSet::new(),
            news: None,
            deaf_until: None,
        }
    }

    /// Serves until the client goes or is let go; `guid` is this server's name.
    pub async fn run(mut self, guid: String) {
        let ended = match self.introduce(guid).await {
            Ok(()) => self.converse().await,
            Err(ended) => ended,
        };
        let account = &self.place.account;
        let told = !matches!(ended, Ended::Gone | Ended::Nobody);
        if told && account.may_be_told_of(std::time::Instant::now()) {
            let uid = account.uid;
            self.realm.say(
                4,
                &format!("control: a client of uid {uid} was let go: {ended}"),
            );
        }
    }

    async fn introduce(&mut self, guid: String) -> Result<(), Ended> {
        let mut handshake = Handshake::new(self.place.account.uid, guid);
        let deadline = Instant::now() + HANDSHAKE;
        let mut answer = Vec::new();
        loop {
            let done = handshake.take(&mut self.received, &mut answer)?;
            while !answer.is_empty() {
                before(deadline, self.stream.writable()).await?;
                match self.stream.try_write(&answer) {
                    Ok(written) => drop(answer.drain(..written)),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(_) => return Err(Ended::Gone),
                }
            }
            if done {
                return Ok(());
            }
            before(deadline, self.stream.readable()).await?;
            self.read()?;
        }
    }

    async fn converse(&mut self) -> Ended {
        loop {
            let taken = match self.take_calls().await {
                Ok(taken) => taken,
                Err(ended) => return ended,
            };
            if taken == CALLS_PER_TURN {
                tokio::task::yield_now().await;
                continue;
            }
            let deaf = self.deaf_until.is_some();
            let news_wanted = self.news.is_some() && self.unread_bytes < SIGNALS_UNREAD;
            let deadline = self.next_deadline();
            let done = tokio::select! {
                ready = self.stream.readable(), if !deaf => {
                    ready.map_err(|_| Ended::Gone).and_then(|()| self.read())
                }
                ready = self.stream.writable(), if !self.unread.is_empty() => {
                    ready.map_err(|_| Ended::Gone).and_then(|()| self.write())
                }
                Some(answered) = self.waiting.join_next(), if !self.waiting.is_empty() => {
                    // An answer that could not be given has been told by the panic hook.
                    self.tell(answered.ok().flatten());
                    Ok(())
                }
                news = hear(&mut self.news), if news_wanted => self.pass_on(news),
                () = tokio::time::sleep_until(deadline) => self.time_is_up(),
            };
            if let Err(ended) = done {
                return ended;
            }
        }
    }

    /// Takes what has come in whole, within what this client may ask for now; says how many calls.
    async fn take_calls(&mut self) -> Result<usize, Ended> {
        let mut taken = 0;
        while taken < CALLS_PER_TURN {
            let grant = self
                .realm
                .grant_of(self.place.account.uid)
                .ok_or(Ended::Nobody)?;
            let allowed = if grant >= ControlGrant::Operate {
                LONG_MESSAGE
            } else {
                SHORT_MESSAGE
            };
            let length = frame::length(&self.received, allowed)?;
            let Some(length) = length.filter(|length| *length <= self.received.len()) else {
                self.partial_since = match self.partial_since {
                    _ if self.received.is_empty() => None,
                    None => Some(Instant::now()),
                    since => since,
                };
                return Ok(taken);
            };
            self.partial_since = None;
            if self.must_wait() {
                return Ok(taken);
            }
            let bytes = self.received.drain(..length).collect();
            if self.received.is_empty() {
                // A quiet connection holds no buffer.
                self.received = Vec::new();
            }
            let message = frame::message(bytes).await?;
            self.take_call(message, grant).await;
            taken += 1;
        }
        Ok(taken)
    }

    /// Whether the next call has to wait, as the client owes time, or the reading of answers.
    fn must_wait(&mut self) -> bool {
        let account = &self.place.account;
        let wait = account
            .owes(std::time::Instant::now())
            .or(account.owes_reading().then_some(PAUSE));
        self.deaf_until = wait.map(|wait| Instant::now() + wait);
        wait.is_some()
    }

    async fn take_call(&mut self, message: Message, grant: ControlGrant) {
        let account = self.place.account.clone();
        let now = std::time::Instant::now();
        if message.message_type() != Type::MethodCall {
            // PID 1 calls nobody and listens to no signals: this is an answer to nothing.
            account.charge(1.0, now);
            return;
        }
        let silent = message
            .primary_header()
            .flags()
            .contains(Flags::NO_REPLY_EXPECTED);
        let call = Call {
            realm: self.realm.clone(),
            message,
            uid: self.place.account.uid,
            grant,
            subscribed: self.news.is_some(),
        };
        let route = match call.route() {
            Ok(route) => route,
            Err(error) => {
                account.charge(1.0, now);
                let refused = refuse(&call.message, &error).filter(|_| !silent);
                return self.tell(refused);
            }
        };
        account.charge(route.cost(self.realm.names().len()), now);
        let then = route.then();
        match then {
            Then::Nothing => {}
            Then::BeSilent => self.news = None,
            Then::Listen | Then::Monitor => {
                let realm = &self.realm;
                self.news.get_or_insert_with(|| realm.news());
            }
        }
        let permission = account.wait();
        if route.method.waits && permission.is_none() {
            let most = MAX_WAITING;
            let error = ControlError::LimitsExceeded(format!(
                "{most} calls of this uid wait already, allowed: {most}"
            ));
            let refused = refuse(&call.message, &error).filter(|_| !silent);
            return self.tell(refused);
        }
        let waits = route.method.waits;
        let answering = async move {
            let answer = match call.answer(&route).await {
                Ok(answer) => Some(answer),
                Err(error) => refuse(&call.message, &error),
            };
            answer.filter(|_| !silent)
        };
        if !waits {
            let answer = answering.await;
            self.tell(answer);
            if then == Then::Monitor {
                self.tell(name_lost().ok());
            }
            return;
        }
        self.waiting.spawn(async move {
            let answer = answering.await;
            drop(permission);
            answer
        });
    }

    /// Puts a message behind those that the client has to read.
    fn tell(&mut self, message: Option<Message>) {
        let Some(message) = message else {
            return;
        };
        let bytes = message.data().len();
        self.place.account.told(bytes);
        self.unread_bytes += bytes;
        self.unread.push_back(message);
        self.stalled_since.get_or_insert_with(Instant::now);
    }

    fn pass_on(&mut self, news: Result<Arc<News>, RecvError>) -> Result<(), Ended> {
        let news = news.map_err(|_| Ended::Slow("it was told more than the ring of news holds"))?;
        match signals::of(&news, &*self.realm) {
            Ok(signals) => {
                for signal in signals {
                    self.tell(Some(signal));
                }
            }
            Err(error) => self
                .realm
                .say(4, &format!("control: a signal is lost: {error}")),
        }
        Ok(())
    }

    fn read(&mut self) -> Result<(), Ended> {
        let mut chunk = [0; CHUNK];
        match self.stream.try_read(&mut chunk) {
            Ok(0) => Err(Ended::Gone),
            Ok(read) => {
                let read = chunk.get(..read).unwrap_or_default();
                self.received.extend_from_slice(read);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(_) => Err(Ended::Gone),
        }
    }

    fn write(&mut self) -> Result<(), Ended> {
        let mut slices = [IoSlice::new(&[]); MESSAGES_PER_WRITE];
        let mut skip = self.written;
        for (slice, message) in slices.iter_mut().zip(&self.unread) {
            *slice = IoSlice::new(message.data().get(skip..).unwrap_or_default());
            skip = 0;
        }
        let written = match self.stream.try_write_vectored(&slices) {
            Ok(written) => written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(_) => return Err(Ended::Gone),
        };
        self.written += written;
        while let Some(first) = self.unread.front() {
            let length = first.data().len();
            if self.written < length {
                break;
            }
            self.written -= length;
            self.unread_bytes -= length;
            self.place.account.read(length);
            self.unread.pop_front();
        }
        self.stalled_since = (!self.unread.is_empty()).then(Instant::now);
        Ok(())
    }

    fn next_deadline(&self) -> Instant {
        // An hour is as good as never; there is always something to wait for.
        let never = Instant::now() + Duration::from_secs(3600);
        [
            self.deaf_until,
            self.partial_since.map(|since| since + WHOLE_MESSAGE),
            self.stalled_since.map(|since| since + UNREAD),
        ]
        .into_iter()
        .flatten()
        .fold(never, Instant::min)
    }

    fn time_is_up(&mut self) -> Result<(), Ended> {
        let now = Instant::now();
        let over = |since: Option<Instant>, limit| since.is_some_and(|since| now >= since + limit);
        if over(self.partial_since, WHOLE_MESSAGE) {
            return Err(Ended::Slow("it did not end its message"));
        }
        if over(self.stalled_since, UNREAD) {
            return Err(Ended::Slow("it did not read what it was told"));
        }
        if self.deaf_until.is_some_and(|until| now >= until) {
            self.deaf_until = None;
        }
        Ok(())
    }
}

impl<R> Drop for Connection<R> {
    fn drop(&mut self) {
        self.place.account.read(self.unread_bytes);
    }
}

/// The next piece of news; for ever when none was asked for.
async fn hear(news: &mut Option<Receiver<Arc<News>>>) -> Result<Arc<News>, RecvError> {
    match news {
        Some(news) => news.recv().await,
        None => std::future::pending().await,
    }
}

async fn before(
    deadline: Instant,
    ready: impl Future<Output = std::io::Result<()>>,
) -> Result<(), Ended> {
    match tokio::time::timeout_at(deadline, ready).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Ended::Gone),
        Err(_) => Err(Ended::Slow("it did not introduce itself")),
    }
}
