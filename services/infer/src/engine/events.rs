//! The way from the engine to a job's client. Sending never waits, so that no client holds up another;
//! a generation takes no part in passes while its client has much to read.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::Event;

/// Events that may wait for a client before its generation pauses: a second or two of a fast answer. What
/// one pass says of one answer comes on top.
const WAITING: usize = 256;

/// The engine's end.
#[derive(Debug, Clone)]
pub struct Events {
    sender: UnboundedSender<Event>,
    waiting: Arc<AtomicUsize>,
}

/// The client's end.
#[derive(Debug)]
pub struct Heard {
    receiver: UnboundedReceiver<Event>,
    waiting: Arc<AtomicUsize>,
}

/// The client has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// A way for one job's events.
#[must_use]
pub fn events() -> (Events, Heard) {
    let (sender, receiver) = unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let heard = Heard {
        receiver,
        waiting: waiting.clone(),
    };
    (Events { sender, waiting }, heard)
}

impl Events {
    /// Sends an event.
    ///
    /// # Errors
    /// When the client has left.
    pub fn send(&self, event: Event) -> Result<(), Gone> {
        // Counted first: it may be taken before `send` returns.
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.sender.send(event).map_err(|_| Gone)
    }

    /// Whether the client has left.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Whether the client reads: not too much waits for it.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) < WAITING
    }
}

impl Heard {
    /// The next event; None when the engine will send no more.
    pub async fn recv(&mut self) -> Option<Event> {
        let event = self.receiver.recv().await;
        self.count(event)
    }

    /// The next event, on a thread that may wait.
    ///
    /// # Panics
    /// Within an asynchronous task.
    pub fn blocking_recv(&mut self) -> Option<Event> {
        let event = self.receiver.blocking_recv();
        self.count(event)
    }

    fn count(&self, event: Option<Event>) -> Option<Event> {
        if event.is_some() {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_what_the_client_has_read() {
        let (events, mut heard) = events();
        for number in 0..WAITING {
            assert!(events.has_room(), "{number}");
            events.send(Event::Text("x".to_owned())).unwrap();
        }
        assert!(!events.has_room());
        // Nothing is lost all the same.
        events.send(Event::Text("last".to_owned())).unwrap();
        for _ in 0..2 {
            assert!(matches!(heard.blocking_recv(), Some(Event::Text(_))));
        }
        assert!(events.has_room() && !events.is_closed());
        drop(heard);
        assert!(events.is_closed());
        assert_eq!(events.send(Event::Text(String::new())), Err(Gone));
    }
}
