//! `kos-infer`: runs language models and serves them on a Unix socket, in Ollama's HTTP shape.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kos_infer::engine::Engine;
use kos_infer::http::Server;
use kos_infer::kernels::Isa;
use kos_infer::library::Library;
use kos_infer::memory::{Limits, parse_size};
use kos_infer::operator::desk::Desk;
use kos_infer::{cpu, http};
use kos_sdk::stop::Stop;

const HELP: &str = "\
Runs language and embedding models and serves them in Ollama's HTTP shape on a Unix socket.

Usage: kos-infer [OPTIONS]

Options:
  --models DIR          where the *.gguf files are, and directories with *.safetensors
                        [default: /data/models]
  --built-in DIR        models that came with the box, for names that DIR above does not have
  --socket PATH         the socket to serve on [default: /run/kos/infer/infer.sock]
  --memory-limit BYTES  the most memory to take; K, M, G are powers of 1024
                        [default: $KOS_MEMORY_LIMIT, else what the machine has available]
  --threads COUNT       threads that compute [default: the processors this process may use]
  --help                this text
  --version             the version

Exit codes: 0 stopped as asked, 1 failed, 2 wrong usage.";

/// How long open answers may take to end after SIGTERM: each ends after its current pass.
const STOP_TIME: Duration = Duration::from_secs(5);

struct Arguments {
    models: PathBuf,
    built_in: Option<PathBuf>,
    socket: PathBuf,
    limits: Limits,
    threads: Option<usize>,
}

fn main() -> ExitCode {
    kos_sdk::log::init();
    let arguments = match arguments() {
        Ok(Some(arguments)) => arguments,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#} (see kos-infer --help)");
            return ExitCode::from(2);
        }
    };
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<Option<Arguments>> {
    use lexopt::prelude::*;
    let size = |text: &str| parse_size(text).with_context(|| format!("{text:?} is no size"));
    let configured = std::env::var("KOS_MEMORY_LIMIT")
        .ok()
        .filter(|text| !text.is_empty());
    let configured = configured
        .as_deref()
        .map(size)
        .transpose()
        .context("$KOS_MEMORY_LIMIT")?;
    let mut arguments = Arguments {
        models: "/data/models".into(),
        built_in: None,
        socket: "/run/kos/infer/infer.sock".into(),
        limits: Limits { configured },
        threads: None,
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("models") => arguments.models = parser.value()?.into(),
            Long("built-in") => arguments.built_in = Some(parser.value()?.into()),
            Long("socket") => arguments.socket = parser.value()?.into(),
            Long("memory-limit") => {
                arguments.limits.configured = Some(size(&parser.value()?.string()?)?);
            }
            Long("threads") => match parser.value()?.parse()? {
                threads @ 1..=1024 => arguments.threads = Some(threads),
                threads => bail!("--threads is {threads}, allowed: 1 to 1024"),
            },
            Long("help") | Short('h') => {
                println!("{HELP}");
                return Ok(None);
            }
            Long("version") => {
                println!("kos-infer {}", env!("CARGO_PKG_VERSION"));
                return Ok(None);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Some(arguments))
}

fn run(arguments: Arguments) -> Result<()> {
    // Everything that computes has threads of its own: one is enough to speak HTTP.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let outcome = runtime.block_on(serve(arguments));
    // A thread that still reads a file or computes has nothing to finish.
    runtime.shutdown_background();
    outcome
}

async fn serve(arguments: Arguments) -> Result<()> {
    let threads = cpu::threads(arguments.threads);
    let (engine, ended) =
        Engine::start(arguments.limits, threads).context("cannot start the engine")?;
    let engine = Arc::new(engine);
    let server = Arc::new(Server {
        library: Library::new(&arguments.models).with_built_in(arguments.built_in),
        engine: engine.clone(),
        operator: Desk::default(),
    });
    let cleaning = server.clone();
    // Nobody waits for it.
    drop(tokio::task::spawn_blocking(move || {
        cleaning.library.store.clean();
    }));
    let listener = kos_sdk::serve::unix_listener(&arguments.socket)?;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let serving = axum::serve(listener, http::router(server)).with_graceful_shutdown({
        let mut stopped = stopped.clone();
        async move {
            // An error means that the sender is gone: the same.
            let _ = stopped.wait_for(|stopped| *stopped).await;
        }
    });
    let mut serving = tokio::spawn(serving.into_future());
    tracing::info!(
        "serving models of {} on {} with {} threads, {}",
        arguments.models.display(),
        arguments.socket.display(),
        threads,
        Isa::best()
    );
    let mut signals = Stop::listen().context("cannot handle signals")?;
    kos_sdk::notify::ready_with("ready");
    let well = tokio::select! {
        () = signals.requested() => true,
        ended = ended => ended.unwrap_or(false),
        ended = &mut serving => {
            ended.context("the server panicked")?.context("cannot serve")?;
            bail!("the server ended by itself");
        }
    };
    engine.stop();
    stop.send_replace(true);
    if tokio::time::timeout(STOP_TIME, serving).await.is_err() {
        tracing::warn!("some answers did not end in {} s", STOP_TIME.as_secs());
    }
    // Who connects from now on finds nothing rather than a socket that nobody reads.
    let _ = std::fs::remove_file(&arguments.socket);
    if !well {
        bail!("the engine gave up after two panics in a row");
    }
    tracing::info!("stopped");
    Ok(())
}
