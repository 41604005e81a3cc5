//! What the probes say of themselves.

use std::io::IoSliceMut;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result};
use nix::sys::socket::UnixAddr;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use tokio::io::Interest;
use tokio::net::UnixDatagram;

/// In a directory that every sandbox shows.
const SOCKET: &str = "/bench/report.sock";

/// A probe's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Which service.
    pub number: u32,
    /// Its first act, in nanoseconds of `CLOCK_MONOTONIC`.
    pub first: u64,
    /// When it had told its supervisor that it is ready.
    pub ready: u64,
    /// Its process as this process sees it, by the kernel's word.
    pub pid: i32,
}

/// The socket at which all probes report.
pub struct Reports {
    socket: std::os::unix::net::UnixDatagram,
}

/// The same once the event loop runs.
pub struct Listening(UnixDatagram);

impl Reports {
    /// Listens, before anything is started that could report.
    pub fn bind() -> Result<Self> {
        let socket = std::os::unix::net::UnixDatagram::bind(SOCKET)
            .with_context(|| format!("listen on {SOCKET}"))?;
        std::fs::set_permissions(SOCKET, std::fs::Permissions::from_mode(0o666))?;
        setsockopt(&socket, sockopt::PassCred, &true)?;
        socket.set_nonblocking(true)?;
        Ok(Reports { socket })
    }

    /// Joins the event loop.
    pub fn listen(self) -> Result<Listening> {
        Ok(Listening(UnixDatagram::from_std(self.socket)?))
    }
}

impl Listening {
    /// The next report.
    pub async fn next(&self) -> Result<Report> {
        let (text, pid) = self
            .0
            .async_io(Interest::READABLE, || self.receive())
            .await?;
        parse(&text, pid).with_context(|| format!("found the report {text:?}"))
    }

    fn receive(&self) -> std::io::Result<(String, i32)> {
        let mut bytes = [0; 128];
        let mut control = nix::cmsg_space!(nix::sys::socket::UnixCredentials);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let message = recvmsg::<UnixAddr>(
            self.0.as_raw_fd(),
            &mut parts,
            Some(&mut control),
            MsgFlags::empty(),
        )?;
        let pid = message
            .cmsgs()?
            .find_map(|part| match part {
                ControlMessageOwned::ScmCredentials(sender) => Some(sender.pid()),
                _ => None,
            })
            .unwrap_or(0);
        let length = message.bytes;
        let text = String::from_utf8_lossy(bytes.get(..length).unwrap_or_default());
        Ok((text.into_owned(), pid))
    }
}

fn parse(text: &str, pid: i32) -> Result<Report> {
    let mut words = text.split(' ');
    let mut word = || words.next().context("too few words");
    Ok(Report {
        number: word()?.parse()?,
        first: word()?.parse()?,
        ready: word()?.parse()?,
        pid,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_three_numbers() {
        let report = parse("2001 12 15", 7).unwrap();
        assert_eq!(
            report,
            Report {
                number: 2001,
                first: 12,
                ready: 15,
                pid: 7
            }
        );
        assert!(parse("2001 12", 7).is_err() && parse("x 1 2", 7).is_err());
    }
}
