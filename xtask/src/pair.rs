//! `cargo xtask pair`: a session on a box by its owner's SSH key, without the pairing code.
//!
//! The key stays with `ssh-keygen`, or its agent: all that leaves this machine is a signature over
//! a number that the box made up, for this purpose and no other (the namespace).

use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::http::Client;

/// The namespace of every signature for a box, agreed with the API. A box that asks for another
/// one could be after a signature for something else.
const NAMESPACE: &str = "kos-owner";
/// Where the console is unless told otherwise.
const PORT: u16 = 80;

/// Opens a session on a box with the owner's SSH key.
#[derive(Debug, Args)]
pub struct PairArgs {
    /// The box: a name or address, with a port if it is not 80.
    #[arg(long, value_name = "HOST[:PORT]")]
    host: String,
    /// The key whose public half the box knows (`cargo xtask flash --owner-key`).
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,
    /// Prints the session's token alone, for scripts.
    #[arg(long)]
    token_only: bool,
}

#[derive(Deserialize)]
struct Challenge {
    nonce: String,
    namespace: String,
}

#[derive(Deserialize)]
struct Session {
    token: String,
    valid_s: u64,
}

/// The `pair` command.
pub fn run(args: &PairArgs) -> Result<()> {
    let address = resolve(&args.host)?;
    let session = pair(&Client::new(address), &args.identity)?;
    if args.token_only {
        println!("{}", session.token);
        return Ok(());
    }
    let days = session.valid_s / (24 * 60 * 60);
    println!(
        "paired with {} for {days} days; the session's token:",
        args.host
    );
    println!("\n  {}\n", session.token);
    println!("Programs send it as \"Authorization: Bearer TOKEN\". For a browser: open");
    println!("http://{address}/pair and choose \"Pair with the owner's key\".");
    Ok(())
}

fn pair(client: &Client, identity: &Path) -> Result<Session> {
    let challenge: Challenge = ask(client, "/api/v1/owner/challenge", "{}")?;
    ensure!(
        challenge.namespace == NAMESPACE,
        "the box asks for a signature in the namespace \"{}\", allowed: {NAMESPACE}",
        challenge.namespace
    );
    let signature = sign(&challenge.nonce, identity)?;
    let proof = serde_json::json!({ "nonce": challenge.nonce, "signature": signature });
    ask(client, "/api/v1/owner/session", &proof.to_string())
}

fn ask<T: DeserializeOwned>(client: &Client, path: &str, body: &str) -> Result<T> {
    let (status, answer) = client.post(path, body)?;
    if status != 200 {
        let said: Option<serde_json::Value> = serde_json::from_str(&answer).ok();
        let why = said
            .as_ref()
            .and_then(|said| said["error"].as_str())
            .unwrap_or("it does not say why");
        bail!("the box refused ({status}): {why}");
    }
    serde_json::from_str(&answer).with_context(|| format!("read the answer of {path}"))
}

/// Signs as `ssh-keygen -Y sign` does, which asks on the terminal for a passphrase if it must.
fn sign(nonce: &str, identity: &Path) -> Result<String> {
    ensure!(
        identity.is_file(),
        "--identity {}: there is no such file",
        identity.display()
    );
    let mut child = Command::new("ssh-keygen")
        .args(["-Y", "sign", "-n", NAMESPACE, "-f"])
        .arg(identity)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("start ssh-keygen (Debian's package openssh-client)")?;
    let mut input = child.stdin.take().context("ssh-keygen has no input")?;
    input
        .write_all(nonce.as_bytes())
        .context("tell ssh-keygen")?;
    drop(input);
    let output = child.wait_with_output().context("wait for ssh-keygen")?;
    ensure!(output.status.success(), "ssh-keygen: {}", output.status);
    String::from_utf8(output.stdout).context("read the signature")
}

/// An address of `HOST[:PORT]`; an IPv6 address with a port stands in brackets.
fn resolve(host: &str) -> Result<SocketAddr> {
    let plain = host.trim_start_matches('[').trim_end_matches(']');
    let found = match plain.parse() {
        Ok(address) => Ok(Some(SocketAddr::new(address, PORT))),
        Err(_) if host.contains(':') => host.to_socket_addrs().map(|mut all| all.next()),
        Err(_) => (host, PORT).to_socket_addrs().map(|mut all| all.next()),
    };
    found
        .with_context(|| format!("--host {host}: find its address"))?
        .with_context(|| format!("--host {host}: it has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Read};
    use std::net::TcpListener;

    fn key(directory: &Path) -> PathBuf {
        let path = directory.join("id");
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "me", "-f"])
            .arg(&path)
            .status()
            .unwrap();
        assert!(made.success());
        path
    }

    /// Answers one request after the other, and returns what was sent.
    fn answer(listener: TcpListener, answers: &[(u16, &str)]) -> Vec<String> {
        let mut bodies = Vec::new();
        for (status, answer) in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if let Some(value) = line.strip_prefix("Content-Length: ") {
                    length = value.trim().parse().unwrap();
                }
                if line.trim().is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            bodies.push(String::from_utf8(body).unwrap());
            write!(
                stream,
                "HTTP/1.1 {status} x\r\nContent-Length: {}\r\n\r\n{answer}",
                answer.len()
            )
            .unwrap();
        }
        bodies
    }

    fn pair_with(
        answers: &'static [(u16, &str)],
        identity: &Path,
    ) -> (Result<Session>, Vec<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Client::new(listener.local_addr().unwrap());
        std::thread::scope(|scope| {
            let server = scope.spawn(|| answer(listener, answers));
            let session = pair(&client, identity);
            (session, server.join().unwrap())
        })
    }

    #[test]
    fn the_nonce_comes_back_signed_by_the_key() {
        let directory = tempfile::tempdir().unwrap();
        let identity = key(directory.path());
        let (session, bodies) = pair_with(
            &[
                (
                    200,
                    r#"{"nonce": "n0nce", "namespace": "kos-owner", "valid_s": 120}"#,
                ),
                (200, r#"{"token": "t0ken", "valid_s": 2592000}"#),
            ],
            &identity,
        );
        assert_eq!(session.unwrap().token, "t0ken");
        let proof: serde_json::Value = serde_json::from_str(&bodies[1]).unwrap();
        assert_eq!(proof["nonce"], "n0nce");
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("signature"), proof["signature"].as_str().unwrap()).unwrap();
        let public = std::fs::read_to_string(at("id.pub")).unwrap();
        std::fs::write(at("signers"), format!("me {public}")).unwrap();
        let mut check = Command::new("ssh-keygen")
            .args(["-Y", "verify", "-I", "me", "-n", "kos-owner", "-f"])
            .arg(at("signers"))
            .arg("-s")
            .arg(at("signature"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        check.stdin.take().unwrap().write_all(b"n0nce").unwrap();
        assert!(check.wait().unwrap().success());
    }

    #[test]
    fn a_refusal_says_why_and_another_namespace_is_not_signed() {
        let directory = tempfile::tempdir().unwrap();
        let identity = key(directory.path());
        let (session, _) = pair_with(&[(404, r#"{"error": "no owner's key"}"#)], &identity);
        let error = session.map(drop).unwrap_err().to_string();
        assert_eq!(error, "the box refused (404): no owner's key");
        let (session, _) = pair_with(
            &[(
                200,
                r#"{"nonce": "a tag", "namespace": "git", "valid_s": 1}"#,
            )],
            &identity,
        );
        let error = session.map(drop).unwrap_err().to_string();
        assert!(error.contains("allowed: kos-owner"), "{error}");
        let error = sign("n", &directory.path().join("none"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("there is no such file"), "{error}");
    }

    #[test]
    fn hosts_are_names_and_addresses_with_and_without_a_port() {
        let port = |host: &str| resolve(host).unwrap().to_string();
        assert_eq!(port("192.168.1.20"), "192.168.1.20:80");
        assert_eq!(port("192.168.1.20:8080"), "192.168.1.20:8080");
        assert_eq!(port("[fe80::1]:8080"), "[fe80::1]:8080");
        assert_eq!(port("fe80::1"), "[fe80::1]:80");
        assert_eq!(port("[fe80::1]"), "[fe80::1]:80");
        assert!(resolve("no such host").is_err());
    }
}
