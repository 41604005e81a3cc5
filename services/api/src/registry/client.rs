//! Requests to the outside: one connection each, over TLS unless a request may go without.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue, LOCATION, USER_AGENT};
use hyper::http::response::Parts;
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use super::error::Error;
use super::names;

/// Time for a connection, with its TLS.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
/// Time for an answer to begin, and for a body to go on.
pub const STALL_LIMIT: Duration = Duration::from_secs(60);
/// Ways from one place to another: registries send to their stores, these to a copy nearby.
const MAX_REDIRECTS: usize = 5;
/// Most that is read of an answer that is a text.
const MAX_TEXT: usize = 256 * 1024;
/// What is shown of an answer that is an error.
const SHOWN: usize = 200;
/// Who asks; registries answer programs that they know, and say to others what to send.
const AGENT: &str = concat!("kos/", env!("CARGO_PKG_VERSION"));

/// What connects.
pub struct Client {
    tls: TlsConnector,
    /// The network service's state file, which names the name servers.
    network: PathBuf,
    /// Whether plain connections are allowed.
    insecure: bool,
}

/// An answer whose body is still to come.
pub struct Fetched {
    /// Status and headers.
    pub parts: Parts,
    /// The rest.
    pub body: Incoming,
    /// Who answered.
    pub host: String,
    _connection: Connection,
}

/// The task that drives a connection; ends with this value.
struct Connection(AbortHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Fetched {
    /// All of the body, which is a text.
    pub async fn text(self) -> Result<Bytes, Error> {
        let host = self.host;
        let read = timeout(STALL_LIMIT, Limited::new(self.body, MAX_TEXT).collect()).await;
        match read {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Error::Answer {
                host,
                problem: format!("more than {MAX_TEXT} bytes"),
            }),
            Ok(Err(error)) => Err(Error::Broken {
                host,
                reason: error.to_string(),
            }),
            Err(_) => Err(stalled(host)),
        }
    }

    /// This answer as an error, with the beginning of its words.
    pub async fn refused(self) -> Error {
        let (status, host) = (self.parts.status, self.host.clone());
        let text = self.text().await.unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        // Neither another's control characters nor another's pages.
        let text: String = text
            .chars()
            .filter(|c| !c.is_control())
            .take(SHOWN)
            .collect();
        Error::Refused { host, status, text }
    }

    /// This answer, when it is a good one.
    pub async fn success(self) -> Result<Self, Error> {
        match self.parts.status.is_success() {
            true => Ok(self),
            false => Err(self.refused().await),
        }
    }

    /// A header that is a text.
    pub fn header(&self, name: impl hyper::header::AsHeaderName) -> Option<&str> {
        self.parts.headers.get(name)?.to_str().ok()
    }

    /// How long the body will be.
    pub fn length(&self) -> Option<u64> {
        self.header(hyper::header::CONTENT_LENGTH)?.parse().ok()
    }
}

/// Nothing came for too long.
pub fn stalled(host: String) -> Error {
    let reason = format!("nothing came for {} s", STALL_LIMIT.as_secs());
    Error::Broken { host, reason }
}

impl Client {
    /// A client that knows the name servers by the network service's state file.
    pub fn new(network: PathBuf, insecure: bool) -> Result<Self, Error> {
        let roots = RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Away(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            tls: TlsConnector::from(Arc::new(config)),
            network,
            insecure,
        })
    }

    /// Gets something, from wherever the way leads. `Authorization` goes to the first host alone.
    pub async fn get(
        &self,
        method: Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Fetched, Error> {
        let (mut uri, mut headers) = (uri.clone(), headers.clone());
        for _ in 0..=MAX_REDIRECTS {
            let asked = self.send(method.clone(), &uri, &headers, Body::empty());
            let answer = timeout(STALL_LIMIT, asked)
                .await
                .unwrap_or_else(|_| Err(stalled(host_of(&uri))))?;
            if !answer.parts.status.is_redirection() {
                return Ok(answer);
            }
            let next = answer.header(LOCATION).unwrap_or_default();
            let next = follow(&uri, next).ok_or_else(|| Error::Answer {
                host: answer.host.clone(),
                problem: "a redirection to nowhere".to_owned(),
            })?;
            if origin(&next) != origin(&uri) {
                headers.remove(AUTHORIZATION);
            }
            uri = next;
        }
        Err(Error::Answer {
            host: host_of(&uri),
            problem: format!("more than {MAX_REDIRECTS} redirections"),
        })
    }

    /// One request to one place. The answer may come after all of the body has gone.
    pub async fn send(
        &self,
        method: Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Fetched, Error> {
        let secure = uri.scheme_str() == Some("https");
        if !secure && !self.insecure {
            return Err(Error::Insecure);
        }
        let host = host_of(uri);
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|_| unusable(&host))?;
        *request.headers_mut() = headers.clone();
        // What stands before the '@' of an address is for nobody.
        let authority = authority.rsplit('@').next().unwrap_or_default();
        let authority = HeaderValue::from_str(authority).map_err(|_| unusable(&host))?;
        request.headers_mut().insert(HOST, authority);
        let agent = HeaderValue::from_static(AGENT);
        request.headers_mut().insert(USER_AGENT, agent);
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let connecting = timeout(CONNECT_LIMIT, self.connect(&host, port, secure)).await;
        let stream = connecting.unwrap_or_else(|_| {
            let reason = format!("not within {} s", CONNECT_LIMIT.as_secs());
            Err(Error::Connect {
                host: host.clone(),
                port,
                reason,
            })
        })?;
        match stream {
            Stream::Plain(stream) => exchange(stream, host, request).await,
            Stream::Secure(stream) => exchange(*stream, host, request).await,
        }
    }

    async fn connect(&self, host: &str, port: u16, secure: bool) -> Result<Stream, Error> {
        let servers = names::servers(&self.network);
        let found = names::resolve(host, &servers).await;
        let addresses = found.map_err(|source| Error::Resolve {
            host: host.to_owned(),
            source,
        })?;
        let error = |reason: String| Error::Connect {
            host: host.to_owned(),
            port,
            reason,
        };
        let mut last = error("it has no address".to_owned());
        for address in addresses {
            let stream = match TcpStream::connect((address, port)).await {
                Ok(stream) => stream,
                // What the sandbox refuses looks as if the file system did.
                Err(refused) if refused.kind() == std::io::ErrorKind::PermissionDenied => {
                    return Err(error(format!(
                        "this box may not connect to port {port}; 'connect' in the manifest of \
                         the service 'api' says to which it may"
                    )));
                }
                Err(refused) => {
                    last = error(refused.to_string());
                    continue;
                }
            };
            if !secure {
                return Ok(Stream::Plain(stream));
            }
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            let name = ServerName::try_from(bare.to_owned());
            let name = name.map_err(|invalid| error(invalid.to_string()))?;
            let connected = self.tls.connect(name, stream).await;
            let stream = connected.map_err(|refused| error(refused.to_string()))?;
            return Ok(Stream::Secure(Box::new(stream)));
        }
        Err(last)
    }
}

enum Stream {
    Plain(TcpStream),
    Secure(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

/// One request and the beginning of its answer, on a connection of its own.
pub async fn exchange<I>(stream: I, host: String, request: Request<Body>) -> Result<Fetched, Error>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: &hyper::Error| {
        let reason = match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        Error::Broken {
            host: host.clone(),
            reason,
        }
    };
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| broken(&error))?;
    let driving = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!("connection: {error}");
        }
    });
    let connection = Connection(driving.abort_handle());
    let answer = sender.send_request(request).await;
    let (parts, body) = answer.map_err(|error| broken(&error))?.into_parts();
    Ok(Fetched {
        parts,
        body,
        host,
        _connection: connection,
    })
}

fn host_of(uri: &Uri) -> String {
    uri.host().unwrap_or_default().to_owned()
}

fn unusable(host: &str) -> Error {
    Error::Name(format!("the address of {host:?} cannot be used"))
}

fn origin(uri: &Uri) -> (Option<&str>, Option<&str>, Option<u16>) {
    (uri.scheme_str(), uri.host(), uri.port_u16())
}

/// Where a `Location` leads: a whole address, or a path on the same host.
pub fn follow(from: &Uri, location: &str) -> Option<Uri> {
    let next: Uri = match location.starts_with('/') && !location.starts_with("//") {
        true => {
            let (scheme, authority) = (from.scheme_str()?, from.authority()?);
            format!("{scheme}://{authority}{location}").parse().ok()?
        }
        false => location.parse().ok()?,
    };
    let known = matches!(next.scheme_str(), Some("http" | "https"));
    (known && next.host().is_some()).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_lead_to_hosts() {
        let from: Uri = "https://a:5000/v2/x?y".parse().unwrap();
        for (location, to) in [
            ("/b/c?d=e", Some("https://a:5000/b/c?d=e")),
            ("https://b/c", Some("https://b/c")),
            ("http://b/c", Some("http://b/c")),
            ("//b/c", None),
            ("ftp://b/c", None),
            ("", None),
            ("c", None),
        ] {
            let found = follow(&from, location).map(|uri| uri.to_string());
            assert_eq!(found.as_deref(), to, "{location}");
        }
        let same: Uri = "https://a:5000/other".parse().unwrap();
        let plain: Uri = "http://a:5000/other".parse().unwrap();
        assert!(origin(&from) == origin(&same) && origin(&from) != origin(&plain));
    }
}
