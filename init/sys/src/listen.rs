//! Sockets that listen before there is a program to answer.

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, ResolveFlags, Uid, chownat, openat2, unlinkat};
use rustix::io::Errno;
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};

use crate::error::{SysError, Told};

/// A TCP socket that listens at `address`; close-on-exec, and blocking, as programs expect it.
///
/// # Errors
/// The address is taken, or none of the machine's.
pub fn tcp(address: SocketAddr, backlog: u32) -> Result<OwnedFd, SysError> {
    let socket = internet(address, SocketType::STREAM)?;
    // A connection of a former run, in its last minutes, does not keep the port from this one.
    set_socket_reuseaddr(&socket, true).told("share the address of", address)?;
    bind(&socket, &address).told("bind", address)?;
    listen(&socket, length(backlog)).told("listen at", address)?;
    Ok(socket)
}

/// A UDP socket at `address`, as [`tcp`].
///
/// # Errors
/// As [`tcp`].
pub fn udp(address: SocketAddr) -> Result<OwnedFd, SysError> {
    let socket = internet(address, SocketType::DGRAM)?;
    bind(&socket, &address).told("bind", address)?;
    Ok(socket)
}

/// A stream socket that listens at `path` and belongs to `owner`, who alone can connect beside
/// root. What is there by that name is replaced. No symbolic link on the way is followed: the
/// directory may be writable by somebody who would choose where the socket goes.
///
/// # Errors
/// The directory is missing or a link, or there is a directory by that name.
pub fn unix(path: &Path, owner: u32, backlog: u32) -> Result<OwnedFd, SysError> {
    let about = || path.display();
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(SysError::refused("listen at", about(), "it is no file"));
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat2(
        rustix::fs::CWD,
        parent,
        flags,
        Mode::empty(),
        ResolveFlags::NO_SYMLINKS,
    )
    .told("open", parent.display())?;
    match unlinkat(&directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error).told("replace", about()),
    }
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .told("make", "a socket")?;
    // `bind` takes a path only; this one is the directory that was opened, whatever is renamed.
    let at = format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd());
    let address = SocketAddrUnix::new(Path::new(&at).join(name)).told("name", about())?;
    bind(&socket, &address).told("bind", about())?;
    let (uid, gid) = (Uid::from_raw(owner), Gid::from_raw(owner));
    chownat(
        &directory,
        name,
        Some(uid),
        Some(gid),
        AtFlags::SYMLINK_NOFOLLOW,
    )
    .told("give away", about())?;
    listen(&socket, length(backlog)).told("listen at", about())?;
    Ok(socket)
}

fn internet(address: SocketAddr, kind: SocketType) -> Result<OwnedFd, SysError> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None).told("make", "a socket")?;
    if address.is_ipv6() {
        // What is written is what is bound: `[::]` does not take the IPv4 port along.
        set_ipv6_v6only(&socket, true).told("restrict", address)?;
    }
    Ok(socket)
}

fn length(backlog: u32) -> i32 {
    i32::try_from(backlog).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpStream;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn somebody_can_connect_before_anybody_accepts() {
        let socket = tcp("127.0.0.1:0".parse().unwrap(), 4).unwrap();
        let listener = std::net::TcpListener::from(socket);
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"early").unwrap();
        drop(client);
        listener.accept().unwrap();
        // The port of a connection that has just ended is free for the next run.
        drop(listener);
        drop(tcp(address, 4).unwrap());
        udp(address).unwrap();
    }

    #[test]
    fn a_unix_socket_replaces_its_former_self_and_follows_no_link() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let own = rustix::process::getuid().as_raw();
        let path = root.join("door");
        drop(unix(&path, own, 4).unwrap());
        let socket = unix(&path, own, 4).unwrap();
        let mut client = UnixStream::connect(&path).unwrap();
        client.write_all(b"early").unwrap();
        drop(socket);
        std::os::unix::fs::symlink(&root, root.join("link")).unwrap();
        let error = unix(&root.join("link/door"), own, 4).unwrap_err();
        assert_eq!(error.errno(), Some(libc::ELOOP));
    }
}
