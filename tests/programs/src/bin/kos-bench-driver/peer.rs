//! The supervisors, and how each is asked to start and to stop a service: over its own socket or
//! pipe, as its own client does it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use kos_manifest::control::{SOCKET, ServiceStatus, State, SystemStatus};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use tokio::task::JoinSet;

use crate::now;
use crate::systemd::Systemd;

/// Where the services of s6 and runit are.
const SERVICES: &str = "/srv/services";
const FINIT_SOCKET: &str = "/run/finit/socket";
/// Requests under way at once: PID 1 of kOS refuses a caller of which 64 wait.
const UNDER_WAY: usize = 32;
/// Longest wait that PID 1 of kOS takes, in milliseconds.
const WAIT_MS: u32 = 30_000;

/// Which supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Ours.
    Kos,
    /// systemd.
    Systemd,
    /// finit.
    Finit,
    /// runit.
    Runit,
    /// s6.
    S6,
}

impl FromStr for Kind {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        Ok(match name {
            "kos" => Kind::Kos,
            "systemd" => Kind::Systemd,
            "finit" => Kind::Finit,
            "runit" => Kind::Runit,
            "s6" => Kind::S6,
            _ => bail!("found {name}, allowed: kos, systemd, finit, runit, s6"),
        })
    }
}

impl Kind {
    /// What becomes PID 1.
    pub fn init(self) -> &'static [&'static str] {
        match self {
            Kind::Kos => &["/init"],
            Kind::Systemd => &["/usr/lib/systemd/systemd"],
            Kind::Finit => &["/usr/sbin/finit"],
            Kind::Runit => &["/usr/sbin/runit"],
            Kind::S6 => &["/usr/bin/s6-svscan", "-c", "1100", SERVICES],
        }
    }

    /// Whether it mounts the kernel's file systems. The others leave that to scripts; this program
    /// does it for them before their time begins.
    pub fn mounts_by_itself(self) -> bool {
        !matches!(self, Kind::Runit | Kind::S6)
    }

    /// A connection, once the supervisor has started services.
    pub async fn connect(self) -> Result<Peer> {
        Ok(match self {
            Kind::Kos => Peer::Kos(kos().await?),
            Kind::Systemd => Peer::Systemd(Systemd::connect().await?),
            Kind::Finit => Peer::Finit,
            Kind::Runit | Kind::S6 => Peer::Pipes,
        })
    }
}

/// PID 1's manager object, as far as it is needed here.
#[zbus::proxy(
    interface = "org.kos.Init1",
    default_path = "/org/kos/Init1",
    default_service = "org.kos.Init1"
)]
pub trait Init1 {
    /// One service.
    fn service(&self, name: &str) -> zbus::Result<ServiceStatus>;
    /// Starts a service.
    fn start(&self, name: &str) -> zbus::Result<()>;
    /// Stops a service.
    fn stop(&self, name: &str) -> zbus::Result<()>;
    /// The machine.
    fn system(&self) -> zbus::Result<SystemStatus>;
    /// Waits for news.
    fn wait_change(&self, generation: u64, wait_ms: u32) -> zbus::Result<u64>;
}

async fn kos() -> Result<Init1Proxy<'static>> {
    let stream = tokio::net::UnixStream::connect(SOCKET)
        .await
        .with_context(|| format!("connect to {SOCKET}"))?;
    let connection = zbus::connection::Builder::unix_stream(stream.into_std()?)
        .p2p()
        .build()
        .await?;
    Ok(Init1Proxy::builder(&connection)
        .cache_properties(zbus::proxy::CacheProperties::No)
        .build()
        .await?)
}

/// A supervisor that can be asked.
pub enum Peer {
    /// D-Bus.
    Kos(Init1Proxy<'static>),
    /// D-Bus.
    Systemd(Systemd),
    /// A socket with requests of fixed size.
    Finit,
    /// A pipe for each service: s6 and runit.
    Pipes,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Run.
    Start,
    /// End.
    Stop,
}

impl Peer {
    /// Asks for all of them, without waiting for one answer before the next request, up to
    /// [`UNDER_WAY`].
    pub async fn ask_all(&self, request: Request, numbers: &[u32]) -> Result<()> {
        let mut answers: JoinSet<Result<()>> = JoinSet::new();
        for &number in numbers {
            if answers.len() >= UNDER_WAY
                && let Some(answer) = answers.join_next().await
            {
                answer??;
            }
            match self {
                Peer::Kos(init) => {
                    let init = init.clone();
                    answers.spawn(async move { Ok(ask_kos(&init, request, number).await?) });
                }
                Peer::Systemd(systemd) => {
                    let systemd = systemd.clone();
                    answers.spawn(async move { ask_systemd(&systemd, request, number).await });
                }
                Peer::Finit => ask_finit(request, number)?,
                Peer::Pipes => ask_pipe(request, number)?,
            }
        }
        while let Some(answer) = answers.join_next().await {
            answer??;
        }
        Ok(())
    }

    /// Asks, and says when the supervisor itself knows that it is done, in nanoseconds; 0 for
    /// supervisors that do not tell.
    pub async fn ask_and_hear(&self, request: Request, number: u32) -> Result<u64> {
        match self {
            Peer::Kos(init) => {
                ask_kos(init, request, number).await?;
                let wanted = match request {
                    Request::Start => State::Ready,
                    Request::Stop => State::Stopped,
                };
                let name = kos_name(number);
                let mut generation = init.wait_change(0, WAIT_MS).await?;
                while init.service(&name).await?.state != wanted.as_str() {
                    generation = init.wait_change(generation, WAIT_MS).await?;
                }
                now()
            }
            Peer::Systemd(systemd) => {
                let mut jobs = systemd.jobs();
                ask_systemd(systemd, request, number).await?;
                jobs.done(number).await?;
                now()
            }
            Peer::Finit => ask_finit(request, number).map(|()| 0),
            Peer::Pipes => ask_pipe(request, number).map(|()| 0),
        }
    }

    /// Waits until the supervisor has nothing left to do of its own start.
    pub async fn settled(&self) -> Result<()> {
        match self {
            Peer::Kos(init) => {
                let mut generation = init.wait_change(0, WAIT_MS).await?;
                while init.system().await?.ready_ms == 0 {
                    generation = init.wait_change(generation, WAIT_MS).await?;
                }
                Ok(())
            }
            Peer::Systemd(systemd) => systemd.settled().await,
            Peer::Finit | Peer::Pipes => Ok(()),
        }
    }
}

async fn ask_kos(init: &Init1Proxy<'_>, request: Request, number: u32) -> zbus::Result<()> {
    match request {
        Request::Start => init.start(&kos_name(number)).await,
        Request::Stop => init.stop(&kos_name(number)).await,
    }
}

async fn ask_systemd(systemd: &Systemd, request: Request, number: u32) -> Result<()> {
    match request {
        Request::Start => systemd.start(number).await,
        Request::Stop => systemd.stop(number).await,
    }
}

fn kos_name(number: u32) -> String {
    format!("probe-{number}")
}

/// `u` and `d` on the pipe of the service's supervisor: s6-supervise's and runsv's are the same.
fn ask_pipe(request: Request, number: u32) -> Result<()> {
    let path = format!("{SERVICES}/probe-{number}/supervise/control");
    let letter = match request {
        Request::Start => b"u",
        Request::Stop => b"d",
    };
    let mut pipe = File::options()
        .write(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(&path)
        .with_context(|| format!("open {path}"))?;
    Ok(pipe.write_all(letter)?)
}

/// One request of finit's `struct init_request` (finit.h): magic, command, two numbers, 368 bytes.
fn ask_finit(request: Request, number: u32) -> Result<()> {
    const MAGIC: u32 = 0x0309_1969;
    const START: u32 = 10;
    const STOP: u32 = 11;
    const ACK: u32 = 255;
    let command = match request {
        Request::Start => START,
        Request::Stop => STOP,
    };
    let mut message = Vec::with_capacity(384);
    for word in [MAGIC, command, 0, 0] {
        message.extend_from_slice(&word.to_ne_bytes());
    }
    message.extend_from_slice(format!("probe:{number}").as_bytes());
    message.resize(384, 0);
    let channel = socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    connect(channel.as_raw_fd(), &UnixAddr::new(FINIT_SOCKET)?)
        .with_context(|| format!("connect to {FINIT_SOCKET}"))?;
    let mut channel = File::from(channel);
    channel.write_all(&message)?;
    let mut answer = [0; 384];
    channel.read_exact(&mut answer)?;
    let word = |index: usize| answer.get(index..index + 4).map(<[u8]>::to_vec);
    ensure!(
        word(4) == Some(ACK.to_ne_bytes().to_vec()),
        "finit refused {request:?} of probe:{number}"
    );
    Ok(())
}
