//! The machine's name, as DHCP gives it: PID 1 is asked once per name, and again after a failure
//! when a lease is renewed.

use anyhow::Result;
use tokio::sync::mpsc;

use crate::hostname::{self, Hostname};

/// A name that PID 1 was asked for, and what it said.
pub type Answer = (Hostname, Result<()>);

/// The name, and how far it is.
pub struct Naming {
    /// The name that the machine has from DHCP.
    pub hostname: Option<Hostname>,
    /// Why it has not the one that it should have.
    pub error: Option<String>,
    asked: Option<Hostname>,
    answers: mpsc::Sender<Answer>,
}

impl Naming {
    /// No name yet; what PID 1 says comes through the channel, for [`Naming::answered`].
    pub fn new(answers: mpsc::Sender<Answer>) -> Self {
        Naming {
            hostname: None,
            error: None,
            asked: None,
            answers,
        }
    }

    /// The machine should have this name.
    pub fn choose(&mut self, name: Hostname) {
        if self.asked.as_ref() == Some(&name) {
            return;
        }
        self.asked = Some(name.clone());
        if self.hostname.is_none() && hostname::current().as_ref() == Some(&name) {
            // Many servers repeat the name that they were told.
            self.hostname = Some(name);
            return;
        }
        let answers = self.answers.clone();
        tokio::spawn(async move {
            let result = hostname::apply(&name).await;
            // Only an owner that has ended does not listen.
            let _ = answers.send((name, result)).await;
        });
    }

    /// PID 1 has answered.
    pub fn answered(&mut self, (name, result): Answer) {
        match result {
            Ok(()) => {
                tracing::info!("host name: {name}");
                self.hostname = Some(name);
                self.error = None;
            }
            Err(error) => {
                let text = format!("cannot set the host name {name}: {error:#}");
                tracing::warn!("{text}");
                self.error = Some(text);
                self.asked = None;
            }
        }
    }
}
