//! `kos-infer`: runs language models and serves them on a Unix socket, in Ollama's HTTP shape.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kos_infer::engine::{Engine, Setup};
use kos_infer::http::Server;
use kos_infer::kernels::{Isa, Keep};
use kos_infer::library::Library;
use kos_infer::memory::{Limits, parse_size};
use kos_infer::operator::desk::Desk;
use kos_infer::pressure::Watch;
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
  --threads COUNT       threads that compute [default: the processors this process may use, and
                        of their time no more than its control group or $KOS_CPU_LIMIT, in
                        processors, gives it]
  --kv-cache KIND       how keys and values are kept: f16, or q8_0 in a little over half the memory
                        [default: $KOS_KV_CACHE, else f16]
  --patience SECONDS    how long a client may not read before its answer is given up [default: 30]
  --help                this text
  --version             the version

Exit codes: 0 stopped as asked, 1 failed, 2 wrong usage.";

/// How long open answers may take to end after SIGTERM: each ends after its current pass.
const STOP_TIME: Duration = Duration::from_secs(5);

struct Arguments {
    models: PathBuf,
    built_in: Option<PathBuf>,
    socket: PathBuf,
    threads: Option<usize>,
    /// Its threads are only found when it starts.
    setup: Setup,
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

/// A variable of the environment. An empty one is none.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

fn keep(kind: &str) -> Result<Keep> {
    match kind {
        "f16" => Ok(Keep::Halves),
        "q8_0" => Ok(Keep::Bytes),
        kind => bail!("found {kind:?}, allowed: f16, q8_0"),
    }
}

fn arguments() -> Result<Option<Arguments>> {
    use lexopt::prelude::*;
    let size = |text: &str| parse_size(text).with_context(|| format!("{text:?} is no size"));
    let configured = variable("KOS_MEMORY_LIMIT");
    let configured = configured
        .as_deref()
        .map(size)
        .transpose()
        .context("$KOS_MEMORY_LIMIT")?;
    let mut arguments = Arguments {
        models: "/data/models".into(),
        built_in: None,
        socket: "/run/kos/infer/infer.sock".into(),
        threads: None,
        setup: Setup {
            limits: Limits {
                configured,
                ..Limits::default()
            },
            keep: match variable("KOS_KV_CACHE") {
                Some(kind) => keep(&kind).context("$KOS_KV_CACHE")?,
                None => Keep::Halves,
            },
            ..Setup::default()
        },
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("models") => arguments.models = parser.value()?.into(),
            Long("built-in") => arguments.built_in = Some(parser.value()?.into()),
            Long("socket") => arguments.socket = parser.value()?.into(),
            Long("memory-limit") => {
                arguments.setup.limits.configured = Some(size(&parser.value()?.string()?)?);
            }
            Long("threads") => match parser.value()?.parse()? {
                threads @ 1..=1024 => arguments.threads = Some(threads),
                threads => bail!("--threads is {threads}, allowed: 1 to 1024"),
            },
            Long("kv-cache") => {
                let kind = parser.value()?.string()?;
                arguments.setup.keep = keep(&kind).context("--kv-cache")?;
            }
            Long("patience") => match parser.value()?.parse()? {
                seconds @ 1..=86_400 => arguments.setup.patience = Duration::from_secs(seconds),
                seconds => bail!("--patience is {seconds}, allowed: 1 to 86400"),
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
    let told = variable("KOS_CPU_LIMIT");
    let told = told.map(|text| {
        text.parse()
            .with_context(|| format!("$KOS_CPU_LIMIT is {text:?}"))
    });
    let threads = cpu::threads(arguments.threads, told.transpose()?);
    let setup = Setup {
        threads,
        ..arguments.setup
    };
    let watch = Watch::new(&setup.limits);
    let (engine, ended) = Engine::start(setup).context("cannot start the engine")?;
    let engine = Arc::new(engine);
    if let Some(of) = watch.of() {
        tracing::info!("hears when memory is short from {of} PSI");
        let engine = engine.clone();
        watch
            .start(move || engine.relieve())
            .context("cannot start a thread")?;
    }
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
