//! The part of systemd's manager interface that is asked, over its private socket: no broker.

use std::num::NonZeroUsize;

use anyhow::{Context, Result};
use futures_util::StreamExt;
use zbus::{Connection, MessageStream, OwnedObjectPath};

/// Where systemd answers root without a broker.
const SOCKET: &str = "/run/systemd/private";

/// More signals than the jobs of all services make.
const QUEUE: NonZeroUsize = NonZeroUsize::MIN.saturating_add(16_384);

/// A job as `ListJobs` shows it: id, unit, kind, state, its object and the unit's.
type Job = (
    u32,
    String,
    String,
    String,
    OwnedObjectPath,
    OwnedObjectPath,
);

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_path = "/org/freedesktop/systemd1",
    default_service = "org.freedesktop.systemd1"
)]
trait Manager {
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn list_jobs(&self) -> zbus::Result<Vec<Job>>;
}

/// A connection to systemd.
#[derive(Clone)]
pub struct Systemd {
    connection: Connection,
    manager: ManagerProxy<'static>,
}

/// The ends of jobs from a moment on.
pub struct Jobs(MessageStream);

impl Systemd {
    /// Connects.
    pub async fn connect() -> Result<Self> {
        let stream = tokio::net::UnixStream::connect(SOCKET)
            .await
            .with_context(|| format!("connect to {SOCKET}"))?;
        let connection = zbus::connection::Builder::unix_stream(stream.into_std()?)
            .p2p()
            .build()
            .await?;
        let manager = ManagerProxy::builder(&connection)
            .cache_properties(zbus::proxy::CacheProperties::No)
            .build()
            .await?;
        Ok(Systemd {
            connection,
            manager,
        })
    }

    /// Asks for a start.
    pub async fn start(&self, number: u32) -> Result<()> {
        self.manager.start_unit(&unit(number), "replace").await?;
        Ok(())
    }

    /// Asks for a stop.
    pub async fn stop(&self, number: u32) -> Result<()> {
        self.manager.stop_unit(&unit(number), "replace").await?;
        Ok(())
    }

    /// From now on.
    pub fn jobs(&self) -> Jobs {
        let mut stream = MessageStream::from(&self.connection);
        // A full queue would hold back the answers behind it on the same connection.
        stream.set_max_queued(QUEUE);
        Jobs(stream)
    }

    /// Waits until nothing is left to do.
    pub async fn settled(&self) -> Result<()> {
        let mut jobs = self.jobs();
        while !self.manager.list_jobs().await?.is_empty() {
            jobs.next().await?;
        }
        Ok(())
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
        loop {
            let message = self.0.next().await.context("systemd hung up")??;
            let header = message.header();
            if header.member().is_none_or(|name| name != "JobRemoved") {
                continue;
            }
            let body = message.body();
            let (_id, _job, unit, result): (u32, OwnedObjectPath, String, String) =
                body.deserialize()?;
            anyhow::ensure!(result == "done", "the job of {unit} ended as '{result}'");
            return Ok(unit);
        }
    }
}

fn unit(number: u32) -> String {
    format!("probe@{number}.service")
}
