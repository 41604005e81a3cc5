//! Listening: sockets, connections and their limits, and ending them all in time.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt;

use crate::app::stopped;

/// Connections at one time, on all ports together. Each costs some 20 KiB and a descriptor.
const MAX_CONNECTIONS: usize = 256;
/// Time for a request's headers to arrive, and for which an idle connection is kept.
const HEADER_LIMIT: Duration = Duration::from_secs(20);
/// Headers of one request. Browsers send one or two KiB.
const MAX_HEADER_BYTES: usize = 32 * 1024;
/// Time for requests under way when the service stops; PID 1 would wait longer, people would not.
const STOP_LIMIT: Duration = Duration::from_secs(3);
/// Pause after a failed accept: out of descriptors is the likely cause, and it passes.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Address of the client, as a request extension.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// Binds an address; `[::]` becomes `0.0.0.0` where there is no IPv6.
///
/// # Errors
/// When the address is taken, is not one of this machine, or may not be bound.
pub async fn bind(address: SocketAddr) -> Result<TcpListener> {
    // On Linux a socket on [::] takes IPv4 as well, unless the machine was told otherwise.
    match TcpListener::bind(address).await {
        Err(_) if address.is_ipv6() && address.ip().is_unspecified() => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    }
    .with_context(|| format!("cannot listen on {address}"))
}

/// Serves every listener with its router until the service is asked to stop.
pub async fn serve(listeners: Vec<(TcpListener, Router)>, stopping: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = Arc::new(GracefulShutdown::new());
    let accepting: Vec<_> = listeners
        .into_iter()
        .map(|(listener, router)| {
            tokio::spawn(accept(
                listener,
                router,
                Arc::clone(&places),
                Arc::clone(&graceful),
            ))
        })
        .collect();
    stopped(stopping).await;
    for task in accepting {
        task.abort();
        // Its listener and its share of the connections' watcher are gone after this.
        let _ = task.await;
    }
    if let Ok(graceful) = Arc::try_unwrap(graceful)
        && tokio::time::timeout(STOP_LIMIT, graceful.shutdown())
            .await
            .is_err()
    {
        tracing::warn!("some requests were cut off");
    }
}

async fn accept(
    listener: TcpListener,
    router: Router,
    places: Arc<Semaphore>,
    graceful: Arc<GracefulShutdown>,
) {
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                if !is_of_one_connection(&error) {
                    tracing::warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                continue;
            }
        };
        let connection = connection(stream, peer, router.clone(), &graceful);
        tokio::spawn(async move {
            connection.await;
            drop(place);
        });
    }
}

fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    graceful: &GracefulShutdown,
) -> impl Future<Output = ()> + use<> {
    // Streams are written line by line; waiting to fill packets would make them stutter.
    let _ = stream.set_nodelay(true);
    let peer = Peer(peer.ip().to_canonical());
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        router.clone().oneshot(request.map(Body::new))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_LIMIT)
        .max_header_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let connection = graceful.watch(connection);
    async move {
        if let Err(error) = connection.await {
            tracing::debug!("connection from {}: {error}", peer.0);
        }
    }
}

/// Errors that belong to the one connection that was about to be accepted.
fn is_of_one_connection(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused
    )
}
