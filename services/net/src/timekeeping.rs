//! What is known about the clock, for the state file and the log.

use tokio::time::Instant;

use crate::clock::News;
use crate::interface::unix_seconds;
use crate::state::Ntp;

/// The last news of the clock.
#[derive(Default)]
pub struct Timekeeping {
    ntp: Ntp,
    synced: Option<Instant>,
}

impl Timekeeping {
    /// The clock's task told something.
    pub fn take(&mut self, news: News, is_online: bool) {
        match news {
            News::NoServer => {
                let status = if is_online {
                    "no time server"
                } else {
                    "waiting for the network"
                };
                self.ntp.status = status.into();
            }
            News::Trouble(text) => {
                if self.ntp.status != text {
                    tracing::warn!("clock: {text}");
                }
                self.ntp.status = text;
            }
            News::Told(reading) => {
                let server = reading.server.to_string();
                let offset_ms = (reading.offset_seconds * 1e6).round() / 1e3;
                if reading.stepped {
                    tracing::info!("clock: set by {server}, it was {offset_ms} ms behind");
                } else if self.ntp.server.as_ref() != Some(&server) {
                    tracing::info!("clock: {offset_ms} ms behind {server}");
                }
                self.ntp = Ntp {
                    server: Some(server),
                    source: Some(reading.server.source),
                    offset_ms: Some(offset_ms),
                    stepped: reading.stepped,
                    synced_at: None,
                    status: "synchronised".into(),
                };
                self.synced = Some(Instant::now());
            }
        }
    }

    /// For the state file, by the clock as it is now.
    pub fn state(&self) -> Ntp {
        let mut ntp = self.ntp.clone();
        ntp.synced_at = self.synced.map(unix_seconds);
        ntp
    }
}
