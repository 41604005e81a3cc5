//! What every request handler shares.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::auth::door::Door;
use crate::control::Control;
use crate::error::ApiError;
use crate::journal::shelf::Shelf;
use crate::live::Live;
use crate::options::Options;
use crate::store::database::Store;

/// Open event streams at one time. Each costs a connection and a waiting call to PID 1; a browser
/// tab holds one or two.
const MAX_STREAMS: usize = 64;

/// Searches at one time; more wait for their turn.
const MAX_SEARCHES: usize = 2;

/// Models on their way from or to a registry at one time; the disk is the narrow place.
const MAX_TRANSFERS: usize = 4;

/// The state of the service, handed to handlers behind an [`Arc`].
pub struct App {
    /// The command line.
    pub options: Options,
    /// PID 1.
    pub control: Arc<Control>,
    /// Services and machine, as last seen.
    pub live: Arc<Live>,
    /// Sessions and settings.
    pub store: Store,
    /// Who may come in.
    pub door: Door,
    /// The kept log.
    pub shelf: Arc<Shelf>,
    /// Searches of the kept log at one time: each reads files of some megabytes whole.
    pub searches: Arc<Semaphore>,
    /// Turns true once, when the service has been asked to stop.
    pub stopping: watch::Receiver<bool>,
    streams: Arc<Semaphore>,
    transfers: Arc<Semaphore>,
}

impl App {
    /// Puts the parts together.
    pub fn new(
        options: Options,
        control: Arc<Control>,
        store: Store,
        door: Door,
        shelf: Arc<Shelf>,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        App {
            options,
            live: Arc::new(Live::new(Arc::clone(&control))),
            control,
            store,
            door,
            shelf,
            searches: Arc::new(Semaphore::new(MAX_SEARCHES)),
            stopping,
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            transfers: Arc::new(Semaphore::new(MAX_TRANSFERS)),
        }
    }

    /// A place for one event stream, given back when dropped.
    ///
    /// # Errors
    /// When all places are taken.
    pub fn stream_place(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        Arc::clone(&self.streams)
            .try_acquire_owned()
            .map_err(|_| ApiError::TooManyStreams(MAX_STREAMS))
    }

    /// A place for one model on its way, given back when dropped.
    ///
    /// # Errors
    /// When all places are taken.
    pub fn transfer_place(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        Arc::clone(&self.transfers)
            .try_acquire_owned()
            .map_err(|_| ApiError::TooManyTransfers(MAX_TRANSFERS))
    }
}

/// Resolves when the service has been asked to stop.
pub async fn stopped(mut stopping: watch::Receiver<bool>) {
    // An error means that the sender is gone, which is the end as well.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}
