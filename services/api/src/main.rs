//! `kos-api`: the only process of a kOS box with a listening TCP port. It serves the console and
//! `/api/v1`, and passes Ollama's routes through to the inference service.
//!
//! It decides nothing about services: PID 1 does, and is asked over its control socket. It starts
//! and becomes ready without PID 1, the inference service or the network, and says what is missing.

mod api;
mod app;
mod assets;
mod auth;
mod console;
mod control;
mod error;
mod guard;
mod journal;
mod live;
mod manifest_problem;
mod memory;
mod options;
mod proxy;
mod registry;
mod routes;
mod serve;
mod store;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use kos_sdk::stop::Stop;
use tokio::sync::{mpsc, watch};

use crate::app::App;
use crate::auth::code::PairingCode;
use crate::auth::door::Door;
use crate::auth::owner::OwnerKey;
use crate::control::Control;
use crate::journal::collector::{self, Collector};
use crate::journal::keeper::Keeper;
use crate::journal::shelf::Shelf;
use crate::options::{Command, HELP, Options};
use crate::store::database::Store;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(Command::Serve(options)) => options,
        Ok(Command::Help) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("kos-api: {error:#}");
            return ExitCode::from(2);
        }
    };
    kos_sdk::log::init();
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<()> {
    // One thread: the work is waiting, and SQLite has a thread of its own.
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(serve(options))
}

async fn serve(options: Options) -> Result<()> {
    let mut listeners = Vec::new();
    for address in &options.listen {
        listeners.push((serve::bind(*address).await?, true));
    }
    for address in &options.ollama_listen {
        listeners.push((serve::bind(*address).await?, false));
    }
    let code = match kos_sdk::credentials::read("pairing-code") {
        Ok(text) => PairingCode::new(&text),
        Err(error) => {
            tracing::warn!("{error:#}");
            None
        }
    };
    let owner = owner_key();
    if code.is_none() && owner.is_none() {
        tracing::warn!(
            "neither a pairing code nor an owner's key: only browsers that have paired before can \
             come in"
        );
    }
    let store = Store::open(&options.state)
        .await
        .context("cannot open a database, not even in memory")?;
    let (stop, stopping) = watch::channel(false);
    let control = Arc::new(Control::new(options.control.clone()));
    let shelf = Arc::new(Shelf::default());
    let keeper = {
        let (directory, shelf) = (options.log.clone(), Arc::clone(&shelf));
        let opened = tokio::task::spawn_blocking(move || Keeper::open(&directory, shelf));
        opened.await.context("cannot open the log")?
    };
    let (batches, kept) = mpsc::channel(collector::QUEUE);
    let collector = Collector::new(Arc::clone(&control), batches, keeper.resume());
    let app = Arc::new(App::new(
        options,
        control,
        store,
        Door::new(code, owner),
        shelf,
        stopping.clone(),
    ));

    let console = routes::console(Arc::clone(&app));
    let ollama = routes::ollama(Arc::clone(&app));
    let mut served = Vec::new();
    for (listener, is_console) in listeners {
        let address = listener
            .local_addr()
            .context("cannot ask for the address")?;
        let (router, what) = if is_console {
            (console.clone(), "console")
        } else {
            (ollama.clone(), "ollama")
        };
        tracing::info!("{what} on http://{address}");
        served.push((listener, router));
    }

    let collecting = tokio::spawn(collector.run(stopping.clone()));
    let keeping = tokio::spawn(keeper.run(kept));
    let live = Arc::clone(&app.live);
    let following = tokio::spawn({
        let stopping = stopping.clone();
        async move { live.run(stopping).await }
    });
    let mut signals = Stop::listen().context("cannot handle signals")?;
    let stop_requested = tokio::spawn(async move {
        signals.requested().await;
        stop.send_replace(true);
    });
    kos_sdk::notify::ready_with("serving");
    serve::serve(served, stopping).await;
    // They have ended by now, or end when the log is synced; a panic in them was logged by the runtime.
    let _ = tokio::join!(following, stop_requested, collecting, keeping);
    app.store.close().await;
    Ok(())
}

/// The owner's key, when `kos-box.toml` has one that can be used. A wrong one costs only itself.
fn owner_key() -> Option<OwnerKey> {
    let line = kos_sdk::credentials::read_optional("owner-key")
        .inspect_err(|error| tracing::warn!("{error:#}"))
        .ok()??;
    let key = OwnerKey::parse(&line)
        .inspect_err(|error| tracing::warn!("{error}"))
        .ok()?;
    tracing::info!("the owner's key is {}", key.fingerprint());
    Some(key)
}
