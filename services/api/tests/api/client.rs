//! A small HTTP client that hides nothing: one connection per request, every header as given.

use std::net::SocketAddr;

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// A request in the making.
pub struct Ask {
    address: SocketAddr,
    request: axum::http::request::Builder,
    host: bool,
    body: String,
}

/// Its answer, whose body is read as it comes.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    body: Incoming,
    rest: String,
    /// Dropped with the answer, which closes the connection.
    connection: JoinHandle<()>,
}

impl Ask {
    pub fn new(address: SocketAddr, method: &str, path: &str) -> Self {
        Ask {
            address,
            request: Request::builder().method(method).uri(path),
            host: false,
            body: String::new(),
        }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.host |= name == "host";
        self.request = self.request.header(name, value);
        self
    }

    pub fn code(self) -> Self {
        self.header("authorization", "Bearer ab12cd34")
    }

    pub fn cookie(self, token: &str) -> Self {
        self.header("cookie", &format!("kos_session={token}"))
    }

    pub fn json(mut self, body: &Value) -> Self {
        self.body = body.to_string();
        self.header("content-type", "application/json")
    }

    pub fn form(mut self, body: &str) -> Self {
        self.body = body.to_owned();
        self.header("content-type", "application/x-www-form-urlencoded")
    }

    pub async fn send(mut self) -> Answer {
        if !self.host {
            let host = self.address.to_string();
            self = self.header("host", &host);
        }
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        let connection = tokio::spawn(async move {
            // An answer that breaks off is the test's business.
            let _ = connection.await;
        });
        let request = self.request.body(Body::from(self.body)).unwrap();
        let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body,
            rest: String::new(),
            connection,
        }
    }

    pub async fn status(self) -> u16 {
        self.send().await.status.as_u16()
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }

    pub async fn text(mut self) -> String {
        let mut text = String::new();
        while let Some(line) = self.line().await {
            text.push_str(&line);
            text.push('\n');
        }
        text
    }

    pub async fn json(self) -> Value {
        serde_json::from_str(&self.text().await).unwrap()
    }

    /// The next line, without its end; `None` when the body is over.
    pub async fn line(&mut self) -> Option<String> {
        loop {
            if let Some((line, rest)) = self.rest.split_once('\n') {
                let (line, rest) = (line.to_owned(), rest.to_owned());
                self.rest = rest;
                return Some(line);
            }
            let Some(frame) = self.body.frame().await else {
                let rest = std::mem::take(&mut self.rest);
                return (!rest.is_empty()).then_some(rest);
            };
            let data = frame.unwrap().into_data().unwrap();
            self.rest.push_str(std::str::from_utf8(&data).unwrap());
        }
    }

    /// The next server-sent event that is not a comment: its name, id and data.
    pub async fn event(&mut self) -> Option<(String, String, Value)> {
        let (mut name, mut id, mut data) = (String::new(), String::new(), String::new());
        loop {
            let line = self.line().await?;
            match line.split_once(':') {
                Some(("event", value)) => value.trim().clone_into(&mut name),
                Some(("id", value)) => value.trim().clone_into(&mut id),
                Some(("data", value)) => value.trim().clone_into(&mut data),
                _ if line.is_empty() && !name.is_empty() => {
                    return Some((name, id, serde_json::from_str(&data).unwrap()));
                }
                _ => {}
            }
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
