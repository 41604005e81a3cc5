//! The few HTTP requests that xtask sends: bench's, as soon as a guest answers at all, and pair's.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Between two tries: a small part of what is measured, and no load for the guest.
const PAUSE: Duration = Duration::from_millis(20);
/// QEMU accepts for a guest that has no address yet, and then tries at ever longer intervals to
/// reach it: such a connection is given up, or it would measure those intervals.
const GET_LIMIT: Duration = Duration::from_millis(300);
/// An answer that takes its time: the first token of an emulated guest.
const POST_LIMIT: Duration = Duration::from_secs(60);

/// A client of one address.
pub struct Client {
    address: SocketAddr,
    authorization: String,
}

impl Client {
    /// A client without any right.
    pub fn new(address: SocketAddr) -> Client {
        Client {
            address,
            authorization: String::new(),
        }
    }

    /// The same with a pairing code.
    pub fn paired(self, code: &str) -> Client {
        Client {
            authorization: format!("Authorization: Bearer {code}\r\n"),
            ..self
        }
    }

    /// Asks until the answer is 200, and returns its body.
    pub fn get(&self, path: &str, limit: Duration) -> Result<String> {
        self.until(path, &format!("GET {path} HTTP/1.1\r\n"), "", None, limit)
    }

    /// Asks until an answer of 200 has begun to say `wanted`.
    pub fn post_until(&self, path: &str, json: &str, wanted: &str, limit: Duration) -> Result<()> {
        let head = format!("POST {path} HTTP/1.1\r\nContent-Type: application/json\r\n");
        self.until(path, &head, json, Some(wanted), limit).map(drop)
    }

    /// Asks once; the result is the answer's status and body, whatever they are.
    pub fn post(&self, path: &str, json: &str) -> Result<(u16, String)> {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\n{}Content-Type: application/json\r\nConnection: \
             close\r\nContent-Length: {}\r\n\r\n{json}",
            self.address,
            self.authorization,
            json.len()
        );
        let mut stream = TcpStream::connect_timeout(&self.address, POST_LIMIT)
            .with_context(|| format!("connect to {}", self.address))?;
        stream.set_read_timeout(Some(POST_LIMIT))?;
        stream.write_all(request.as_bytes()).context("ask")?;
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .context("read the answer")?;
        let parts = answer.split_once("\r\n\r\n").and_then(|(head, body)| {
            let status = head.split(' ').nth(1)?.parse().ok()?;
            Some((status, body.to_owned()))
        });
        parts.context("the answer is not HTTP")
    }

    fn until(
        &self,
        path: &str,
        head: &str,
        body: &str,
        wanted: Option<&str>,
        limit: Duration,
    ) -> Result<String> {
        let request = format!(
            "{head}Host: {}\r\n{}Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            self.authorization,
            body.len()
        );
        let deadline = Instant::now() + limit;
        loop {
            let try_limit = if wanted.is_some() {
                POST_LIMIT
            } else {
                GET_LIMIT
            };
            let problem = match self.ask(&request, wanted, try_limit) {
                Ok(answer) => return Ok(answer),
                Err(problem) => problem,
            };
            if Instant::now() > deadline {
                return Err(problem.context(format!("{path} did not answer in time")));
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn ask(&self, request: &str, wanted: Option<&str>, try_limit: Duration) -> Result<String> {
        let mut stream = TcpStream::connect(self.address).context("connect")?;
        stream.set_read_timeout(Some(try_limit))?;
        stream.write_all(request.as_bytes()).context("ask")?;
        let mut answer = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            let count = stream.read(&mut chunk).context("read the answer")?;
            answer.extend_from_slice(&chunk[..count]);
            let text = String::from_utf8_lossy(&answer);
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                if count == 0 {
                    bail!("the answer ended early");
                }
                continue;
            };
            let status = head.split(' ').nth(1).unwrap_or_default();
            let enough = wanted.is_some_and(|wanted| body.contains(wanted));
            if status == "200" && (enough || (count == 0 && wanted.is_none())) {
                return Ok(body.to_owned());
            }
            if count == 0 {
                bail!("answered {status}: {}", body.trim());
            }
        }
    }
}
