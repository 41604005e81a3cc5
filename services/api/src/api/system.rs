//! `/api/v1/system`: the machine.

use std::path::Path as FilePath;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use kos_sdk::control::{Holdings, PhaseRecord};
use serde::Serialize;

use super::services::seen;
use crate::app::App;
use crate::control::Power;
use crate::error::ApiError;
use crate::memory::Memory;

/// Largest state file of the network service that is passed on.
const MAX_NETWORK_BYTES: u64 = 64 * 1024;

/// Answer of `GET /api/v1/system`.
#[derive(Serialize)]
pub struct System {
    hostname: String,
    version: String,
    uptime_ms: u64,
    ready_ms: u64,
    board: String,
    board_description: String,
    boot_disk: String,
    boot: Boot,
    data: Data,
    setup_problem: String,
    watchdog: Watchdog,
    memory: Option<Memory>,
    processes: Processes,
    init_memory: u64,
    init: Holdings,
    store: StoreCondition,
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<serde_json::Value>,
}

#[derive(Serialize)]
struct Boot {
    phases: Vec<PhaseRecord>,
}

#[derive(Serialize)]
struct Data {
    kind: String,
    detail: String,
    /// A code of PID 1, such as `full`; empty when all is well.
    problem: String,
    advice: String,
    bytes: u64,
    free: u64,
}

#[derive(Serialize)]
struct Watchdog {
    /// Empty when none runs.
    identity: String,
    timeout_ms: u64,
    /// Why none runs.
    problem: String,
}

#[derive(Serialize)]
struct Processes {
    total: u32,
    zombies: u32,
    orphans_reaped: u64,
}

#[derive(Serialize)]
struct StoreCondition {
    warning: Option<String>,
}

/// `GET /api/v1/system`
pub async fn show(State(app): State<Arc<App>>) -> Result<Json<System>, ApiError> {
    let seen = seen(&app).await?;
    let system = seen
        .system
        .clone()
        .ok_or_else(|| ApiError::NotFound("PID 1 has said nothing yet".into()))?;
    Ok(Json(System {
        hostname: system.hostname,
        version: system.version,
        uptime_ms: system.uptime_ms,
        ready_ms: system.ready_ms,
        board: system.board,
        board_description: system.board_description,
        boot_disk: system.boot_disk,
        boot: Boot {
            phases: system.phases,
        },
        data: Data {
            kind: system.data_kind,
            detail: system.data_detail,
            problem: system.data_problem,
            advice: system.data_advice,
            bytes: system.data_bytes,
            free: system.data_free,
        },
        setup_problem: system.setup_problem,
        watchdog: Watchdog {
            identity: system.watchdog,
            timeout_ms: system.watchdog_timeout_ms,
            problem: system.watchdog_problem,
        },
        memory: seen.memory,
        processes: Processes {
            total: system.processes,
            zombies: system.zombies,
            orphans_reaped: system.orphans_reaped,
        },
        init_memory: system.init_memory,
        init: system.holdings,
        store: StoreCondition {
            warning: app.store.condition().await.warning().map(str::to_owned),
        },
        network: network(&app.options.network),
    }))
}

/// `POST /api/v1/system/{reboot|poweroff}`
pub async fn power(
    State(app): State<Arc<App>>,
    Path(act): Path<String>,
) -> Result<StatusCode, ApiError> {
    let power = Power::parse(&act).ok_or_else(|| {
        ApiError::NotFound(format!(
            "no act '{act}'; allowed: reboot, poweroff, factory-reset"
        ))
    })?;
    app.control.power(power).await?;
    Ok(StatusCode::ACCEPTED)
}

/// What the network service says of itself; absent until it has.
pub fn network(file: &FilePath) -> Option<serde_json::Value> {
    let size = std::fs::metadata(file).ok()?.len();
    if size > MAX_NETWORK_BYTES {
        return None;
    }
    serde_json::from_str(&std::fs::read_to_string(file).ok()?).ok()
}
