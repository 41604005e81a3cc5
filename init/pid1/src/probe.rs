//! Whether a service answers at its address: the readiness of programs that do not say so
//! themselves.
//!
//! Nothing of an answer is believed or kept but its first line's number.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use kos_manifest::service::{Address, Readiness, ReadinessKind};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{sleep, timeout};

/// The first question comes as soon as the program runs; most are ready within some of these.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// A program that needs minutes is not to be bothered more often than this.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// A listener that takes a connection and does not answer is asked anew.
const PATIENCE: Duration = Duration::from_secs(5);
/// `HTTP/1.1 200`: all that is read of an answer.
const STATUS_BYTES: usize = 12;

/// Waits until the service answers. Whoever waits says for how long.
pub async fn answered(readiness: &Readiness) {
    let mut pause = FIRST_PAUSE;
    loop {
        if let Ok(Ok(())) = timeout(PATIENCE, ask(readiness)).await {
            return;
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn ask(readiness: &Readiness) -> Result<()> {
    let request = (readiness.kind == ReadinessKind::Http)
        .then(|| format!("GET {} HTTP/1.0\r\nHost: localhost\r\n\r\n", readiness.path));
    match &readiness.address {
        Some(Address::Tcp(address)) => ask_tcp(*address, request.as_deref()).await,
        Some(Address::Unix(path)) => ask_unix(path, request.as_deref()).await,
        // The manifest allows no other.
        Some(Address::Udp(_)) | None => std::future::pending().await,
    }
}

/// One question and the beginning of its answer, over either kind of stream.
macro_rules! converse {
    ($stream:expr, $request:expr) => {{
        let mut sent = 0;
        while sent < $request.len() {
            $stream.writable().await?;
            match $stream.try_write($request.get(sent..).unwrap_or_default()) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut status = [0u8; STATUS_BYTES];
        let mut read = 0;
        while read < STATUS_BYTES {
            $stream.readable().await?;
            match $stream.try_read(status.get_mut(read..).unwrap_or_default()) {
                Ok(0) => break,
                Ok(count) => read += count,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        ensure!(is_success(&status), "it does not answer with 2xx");
        Ok(())
    }};
}

async fn ask_tcp(address: SocketAddr, request: Option<&str>) -> Result<()> {
    let stream = TcpStream::connect(address).await?;
    match request.map(str::as_bytes) {
        Some(request) => converse!(stream, request),
        None => Ok(()),
    }
}

async fn ask_unix(path: &Path, request: Option<&str>) -> Result<()> {
    // The directory is the service's own: a link in it could lead PID 1 to another's socket.
    let socket = kos_sys::tree::open_source(path)?;
    let exactly = format!("/proc/self/fd/{}", socket.as_raw_fd());
    let stream = UnixStream::connect(exactly).await?;
    match request.map(str::as_bytes) {
        Some(request) => converse!(stream, request),
        None => Ok(()),
    }
}

/// `HTTP/1.0 2xx`.
fn is_success(status: &[u8; STATUS_BYTES]) -> bool {
    let number = status.get(9..).unwrap_or_default();
    status.starts_with(b"HTTP/1.") && number.first() == Some(&b'2')
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn readiness(kind: ReadinessKind, address: Address) -> Readiness {
        Readiness {
            kind,
            address: Some(address),
            path: "/health".to_owned(),
            timeout: Duration::from_secs(60),
        }
    }

    /// Answers each connection with the next of some texts.
    fn serve(answers: Vec<&'static str>) -> SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 25];
                stream.read_exact(&mut request).unwrap();
                assert!(request.starts_with(b"GET /health HTTP/1.0\r\n"));
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn only_2xx_is_ready() {
        let address = serve(vec![
            "HTTP/1.1 503 Not yet\r\n\r\n",
            "garbage",
            "",
            "HTTP/1.0 204 No Content\r\n\r\n",
        ]);
        let http = readiness(ReadinessKind::Http, Address::Tcp(address));
        for _ in 0..3 {
            assert!(ask(&http).await.is_err());
        }
        ask(&http).await.unwrap();
    }

    #[tokio::test]
    async fn an_answer_is_waited_for() {
        let address = serve(vec!["HTTP/1.1 404 No\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"]);
        let http = readiness(ReadinessKind::Http, Address::Tcp(address));
        timeout(Duration::from_secs(60), answered(&http))
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_socket_is_ready_when_it_listens_and_is_no_link() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let path = root.join("door");
        let socket = readiness(ReadinessKind::Socket, Address::Unix(path.clone()));
        assert!(ask(&socket).await.is_err());
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        ask(&socket).await.unwrap();
        std::os::unix::fs::symlink(&path, root.join("link")).unwrap();
        let link = readiness(ReadinessKind::Socket, Address::Unix(root.join("link")));
        assert!(ask(&link).await.is_err());
    }
}
