//! A client of the guest's HTTP API: small and synchronous, every request with a time limit.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;
use ureq::http::{Method, Request};

/// For one whole request and answer. Under TCG a page takes tenths of a second, the tiny model
/// some seconds.
const REQUEST_LIMIT: Duration = Duration::from_secs(90);
/// An answer larger than this is a bug of the guest.
const BODY_LIMIT: u64 = 16 * 1024 * 1024;

/// The API at one address, with or without the right to use it.
#[derive(Clone)]
pub struct Api {
    agent: ureq::Agent,
    address: SocketAddr,
    headers: Vec<(String, String)>,
}

impl Api {
    /// A client without any right.
    pub fn new(address: SocketAddr) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(REQUEST_LIMIT))
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .build();
        Api {
            agent: ureq::Agent::new_with_config(config),
            address,
            headers: Vec::new(),
        }
    }

    /// The same with this pairing code.
    pub fn paired(&self, code: &str) -> Self {
        self.without("authorization")
            .with("authorization", &format!("Bearer {code}"))
    }

    /// The same with one more header on every request.
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut other = self.clone();
        other.headers.push((name.to_string(), value.to_string()));
        other
    }

    /// The same without this header.
    pub fn without(&self, name: &str) -> Self {
        let mut other = self.clone();
        other
            .headers
            .retain(|(present, _)| !present.eq_ignore_ascii_case(name));
        other
    }

    /// Asks with any method, with JSON or nothing, and returns whatever the answer is.
    pub fn request(&self, method: &str, path: &str, body: Option<Value>) -> Result<Answer> {
        match body {
            Some(body) => self.with("content-type", "application/json").read(
                method,
                path,
                Some(body.to_string()),
            ),
            None => self.read(method, path, None::<String>),
        }
    }

    fn read(&self, method: &str, path: &str, body: Option<impl Into<Vec<u8>>>) -> Result<Answer> {
        let mut response = self.send(method, path, body)?;
        let text = response
            .body_mut()
            .with_config()
            .limit(BODY_LIMIT)
            .read_to_string()
            .with_context(|| format!("{method} {path}: the answer's body broke off"))?;
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| {
                (
                    name.to_string(),
                    String::from_utf8_lossy(value.as_bytes()).into_owned(),
                )
            })
            .collect();
        let request = format!("{method} {path}");
        Ok(Answer {
            request,
            status: response.status().as_u16(),
            headers,
            text,
        })
    }

    /// GETs JSON; an answer other than 200 is an error.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.request("GET", path, None)?.success()?.json()
    }

    /// POSTs without a body; an answer other than 2xx is an error.
    pub fn post(&self, path: &str) -> Result<Answer> {
        self.request("POST", path, None)?.success()
    }

    /// POSTs JSON; an answer other than 2xx is an error.
    pub fn post_json(&self, path: &str, body: Value) -> Result<Answer> {
        self.request("POST", path, Some(body))?.success()
    }

    /// PUTs a text, and returns whatever the answer is.
    pub fn put_text(&self, path: &str, text: &str) -> Result<Answer> {
        let typed = self.with("content-type", "application/toml");
        typed.read("PUT", path, Some(text.to_string()))
    }

    /// POSTs bytes, and returns whatever the answer is.
    pub fn post_bytes(&self, path: &str, bytes: Vec<u8>) -> Result<Answer> {
        let typed = self.with("content-type", "application/octet-stream");
        typed.read("POST", path, Some(bytes))
    }

    /// POSTs a form as a browser does, and returns whatever the answer is.
    pub fn post_form(&self, path: &str, form: &str) -> Result<Answer> {
        let typed = self.with("content-type", "application/x-www-form-urlencoded");
        typed.read("POST", path, Some(form.to_string()))
    }

    /// POSTs JSON and returns the answer's lines one by one as they arrive.
    pub fn stream(&self, path: &str, body: Value) -> Result<Lines> {
        self.with("content-type", "application/json").open_stream(
            "POST",
            path,
            Some(body.to_string()),
        )
    }

    /// GETs and returns the answer's lines one by one as they arrive.
    pub fn follow(&self, path: &str) -> Result<Lines> {
        self.open_stream("GET", path, None)
    }

    /// One service as the API shows it.
    pub fn service(&self, name: &str) -> Result<ServiceView> {
        let path = format!("/api/v1/services/{name}");
        let value = self.get(&path)?;
        serde_json::from_value(value.clone())
            .with_context(|| format!("GET {path}: not a service: {value}"))
    }

    /// All services as the API shows them.
    pub fn services(&self) -> Result<Vec<ServiceView>> {
        let value = self.get("/api/v1/services")?;
        serde_json::from_value(value["services"].clone())
            .with_context(|| format!("GET /api/v1/services: not a list of services: {value}"))
    }

    /// Starts a service.
    pub fn start(&self, name: &str) -> Result<()> {
        self.post(&format!("/api/v1/services/{name}/start"))
            .map(drop)
    }

    /// Stops a service.
    pub fn stop(&self, name: &str) -> Result<()> {
        self.post(&format!("/api/v1/services/{name}/stop"))
            .map(drop)
    }

    /// The messages in a service's log.
    pub fn log(&self, name: &str) -> Result<Vec<String>> {
        let value = self.get(&format!("/api/v1/services/{name}/log?tail=1000"))?;
        let entries = value["entries"]
            .as_array()
            .with_context(|| format!("no log: {value}"))?;
        Ok(entries
            .iter()
            .map(|entry| text(&entry["message"]))
            .collect())
    }

    fn open_stream(&self, method: &str, path: &str, body: Option<String>) -> Result<Lines> {
        let response = self.send(method, path, body)?;
        let status = response.status().as_u16();
        let mut reader: Box<dyn BufRead> =
            Box::new(BufReader::new(response.into_body().into_reader()));
        if status != 200 {
            let mut text = String::new();
            reader.by_ref().take(BODY_LIMIT).read_to_string(&mut text)?;
            bail!("{method} {path}: status {status}: {text}");
        }
        Ok(Lines { reader })
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<impl Into<Vec<u8>>>,
    ) -> Result<ureq::http::Response<ureq::Body>> {
        let mut request = Request::builder()
            .method(Method::from_bytes(method.as_bytes())?)
            .uri(format!("http://{}{path}", self.address));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let sent = match body {
            Some(body) => self.agent.run(request.body(body.into())?),
            None if method == "POST" => self.agent.run(request.body(Vec::new())?),
            None => self.agent.run(request.body(())?),
        };
        sent.with_context(|| format!("{method} {path}: no answer"))
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    request: String,
    /// The HTTP status.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub text: String,
}

impl Answer {
    /// The first header of this name, given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(present, _)| present == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.text).with_context(|| format!("{self}: not JSON"))
    }

    /// This answer, unless its status is other than 2xx.
    pub fn success(self) -> Result<Self> {
        if (200..300).contains(&self.status) {
            Ok(self)
        } else {
            bail!("{self}")
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body: String = self.text.chars().take(2000).collect();
        write!(
            formatter,
            "{}: status {}: {body}",
            self.request, self.status
        )
    }
}

/// The lines of a streamed answer. Reading fails when the stream breaks off, which an answer
/// that ended in order does not.
pub struct Lines {
    reader: Box<dyn BufRead>,
}

impl Lines {
    /// The next line that is not empty, as JSON; `None` at the end in order.
    pub fn next_json(&mut self) -> Result<Option<Value>> {
        while let Some(line) = self.next_line()? {
            if !line.is_empty() {
                let value = serde_json::from_str(&line);
                return value.map(Some).with_context(|| format!("not JSON: {line}"));
            }
        }
        Ok(None)
    }

    /// The next line; `None` at the end in order.
    pub fn next_line(&mut self) -> Result<Option<String>> {
        let mut line = String::new();
        match self
            .reader
            .read_line(&mut line)
            .context("the stream broke off")?
        {
            0 => Ok(None),
            _ => Ok(Some(line.trim_end_matches(['\r', '\n']).to_string())),
        }
    }
}

/// A service as the API shows it; what a test does not ask for may be absent.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ServiceView {
    /// Its name.
    pub name: String,
    /// stopped, starting, ready, stopping, backoff, failed, frozen or quarantined.
    pub state: String,
    /// Why it is in that state.
    pub reason: String,
    /// Why it last ended by itself; empty when it never did.
    pub last_failure: String,
    /// What it said about itself.
    pub status_text: String,
    /// When it came into that state, in milliseconds since boot.
    pub since_ms: u64,
    /// How long its process has been running.
    pub uptime_ms: u64,
    /// Its process; 0 when there is none.
    pub pid: u32,
    /// How often it was started again by itself.
    pub restarts: u32,
    /// Bytes of memory in its cgroup.
    pub memory: u64,
    /// Microseconds of processor time that its cgroup used.
    pub cpu_usec: u64,
    /// Processes and threads in its cgroup.
    pub tasks: u32,
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_string)
}
