//! The command line of `kos-api`.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// What `--help` prints.
pub const HELP: &str = "\
kos-api: the only TCP door of a kOS box: console, /api/v1 and Ollama's routes

Usage: kos-api [OPTIONS]

  --listen ADDR          console, /api/v1 and Ollama's routes (repeatable) [[::]:80]
  --ollama-listen ADDR   Ollama's routes only (repeatable) [[::]:11434]
  --control PATH         PID 1's control socket [/run/kos/init.sock]
  --infer PATH           the inference service's socket [/run/kos/infer/infer.sock]
  --network PATH         what the network service says of itself [/run/kos/net/state.json]
  --state DIR            where the database lives [$STATE_DIRECTORY, or /data/api]
  --log DIR              where the log is kept [/data/log]
  --help                 this text

The pairing code is the credential 'pairing-code' ($CREDENTIALS_DIRECTORY/pairing-code), the
owner's key, if there is one, the credential 'owner-key' (a line of OpenSSH, ssh-ed25519).
";

/// Everything that the command line decides.
#[derive(Debug, Clone)]
pub struct Options {
    /// Addresses of the console.
    pub listen: Vec<SocketAddr>,
    /// Addresses that serve Ollama's routes only.
    pub ollama_listen: Vec<SocketAddr>,
    /// PID 1's control socket.
    pub control: PathBuf,
    /// The inference service's socket.
    pub infer: PathBuf,
    /// The network service's state file.
    pub network: PathBuf,
    /// Where the database lives.
    pub state: PathBuf,
    /// Where the log is kept.
    pub log: PathBuf,
}

/// What the command line asks for.
pub enum Command {
    /// Serve.
    Serve(Options),
    /// Print [`HELP`].
    Help,
}

impl Options {
    /// Reads the arguments after the program's name.
    ///
    /// # Errors
    /// When an argument is unknown, lacks its value, or is no address.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Command> {
        let mut options = Options {
            listen: Vec::new(),
            ollama_listen: Vec::new(),
            control: kos_sdk::control::SOCKET.into(),
            infer: "/run/kos/infer/infer.sock".into(),
            network: "/run/kos/net/state.json".into(),
            state: std::env::var_os("STATE_DIRECTORY")
                .map_or_else(|| PathBuf::from("/data/api"), PathBuf::from),
            log: "/data/log".into(),
        };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let (flag, inline) = match argument.split_once('=') {
                Some((flag, value)) => (flag.to_owned(), Some(value.to_owned())),
                None => (argument, None),
            };
            if flag == "--help" || flag == "-h" {
                return Ok(Command::Help);
            }
            let mut value = || {
                inline
                    .clone()
                    .or_else(|| arguments.next())
                    .with_context(|| format!("'{flag}' needs a value"))
            };
            match flag.as_str() {
                "--listen" => options.listen.push(address(&value()?)?),
                "--ollama-listen" => options.ollama_listen.push(address(&value()?)?),
                "--control" => options.control = value()?.into(),
                "--infer" => options.infer = value()?.into(),
                "--network" => options.network = value()?.into(),
                "--state" => options.state = value()?.into(),
                "--log" => options.log = value()?.into(),
                _ => bail!("unknown argument '{flag}'; see --help"),
            }
        }
        // One socket on [::] takes IPv4 too; the listener falls back to 0.0.0.0 without IPv6.
        if options.listen.is_empty() {
            options.listen.push((Ipv6Addr::UNSPECIFIED, 80).into());
        }
        if options.ollama_listen.is_empty() {
            options
                .ollama_listen
                .push((Ipv6Addr::UNSPECIFIED, 11434).into());
        }
        Ok(Command::Serve(options))
    }
}

fn address(text: &str) -> Result<SocketAddr> {
    text.parse()
        .with_context(|| format!("'{text}' is no address; allowed: IP:PORT or [IPV6]:PORT"))
}
