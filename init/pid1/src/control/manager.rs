//! `org.kos.Init1`: the interface of the manager, `/org/kos/Init1`.

use std::time::Duration;

use kos_manifest::control::{
    BootRecord, INTERFACE, LogBatch, LogCursor, LogPage, MAX_MANIFEST, MAX_REASON,
    MAX_RESET_REASON, ReloadReport, ServiceStatus, SystemStatus,
};
use kos_manifest::service::ControlGrant::{Name, Observe, Operate};
use zbus::{Message, OwnedObjectPath};

use crate::control::call::{Call, arguments_of, done, give, path_of};
use crate::control::error::ControlError;
use crate::control::interface::{Interface, Method, Signal, arguments, property};
use crate::control::realm::{Act, Down, Realm};

/// Longest that a call may wait for news, so that a client that is gone is noticed.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// Most lines in one answer, whatever was asked for.
const MAX_LINES: u32 = 1000;

/// Services that are described in one turn of the event loop; the others of PID 1 have theirs.
const SERVICES_PER_TURN: usize = 32;

/// What the manager's properties are read from.
pub struct Facts {
    /// The machine.
    pub system: SystemStatus,
    /// How often anything has changed.
    pub generation: u64,
    /// How many services there are.
    pub services: u32,
    /// Whether this connection is told signals.
    pub subscribed: bool,
}

const fn method(
    name: &'static str,
    takes: &'static [crate::control::interface::Argument],
    gives: &'static [crate::control::interface::Argument],
    grant: kos_manifest::service::ControlGrant,
) -> Method {
    Method {
        name,
        takes,
        gives,
        grant,
        waits: false,
    }
}

const fn waiting(
    name: &'static str,
    takes: &'static [crate::control::interface::Argument],
    gives: &'static [crate::control::interface::Argument],
    grant: kos_manifest::service::ControlGrant,
) -> Method {
    Method {
        waits: true,
        ..method(name, takes, gives, grant)
    }
}

/// The interface.
pub static MANAGER: Interface<Facts> = Interface {
    name: INTERFACE,
    methods: &[
        waiting(
            "Services",
            arguments![],
            arguments![services: Vec<ServiceStatus>],
            Observe,
        ),
        method(
            "Service",
            arguments![name: &str],
            arguments![service: ServiceStatus],
            Observe,
        ),
        method(
            "GetService",
            arguments![name: &str],
            arguments![path: OwnedObjectPath],
            Observe,
        ),
        waiting("Start", arguments![name: &str], arguments![], Operate),
        waiting("Stop", arguments![name: &str], arguments![], Operate),
        waiting("Restart", arguments![name: &str], arguments![], Operate),
        waiting(
            "Kill",
            arguments![name: &str, signal: i32],
            arguments![],
            Operate,
        ),
        waiting("Freeze", arguments![name: &str], arguments![], Operate),
        waiting("Thaw", arguments![name: &str], arguments![], Operate),
        waiting(
            "Quarantine",
            arguments![name: &str, reason: &str],
            arguments![],
            Operate,
        ),
        waiting("Release", arguments![name: &str], arguments![], Operate),
        waiting(
            "Reload",
            arguments![],
            arguments![report: ReloadReport],
            Operate,
        ),
        waiting(
            "SetManifest",
            arguments![name: &str, text: &str],
            arguments![report: ReloadReport],
            Operate,
        ),
        waiting(
            "RemoveManifest",
            arguments![name: &str],
            arguments![report: ReloadReport],
            Operate,
        ),
        waiting(
            "Manifest",
            arguments![name: &str],
            arguments![text: &str],
            Observe,
        ),
        method(
            "System",
            arguments![],
            arguments![system: SystemStatus],
            Observe,
        ),
        method(
            "Boots",
            arguments![],
            arguments![boots: Vec<BootRecord>],
            Observe,
        ),
        waiting(
            "ReadLog",
            arguments![name: &str, cursor: u64, max: u32, wait_ms: u32],
            arguments![page: LogPage],
            Observe,
        ),
        waiting(
            "ReadLogs",
            arguments![boot: &str, cursors: Vec<LogCursor>, max: u32, wait_ms: u32],
            arguments![batch: LogBatch],
            Observe,
        ),
        waiting(
            "WaitChange",
            arguments![generation: u64, wait_ms: u32],
            arguments![generation: u64],
            Observe,
        ),
        method("Subscribe", arguments![], arguments![], Observe),
        method("Unsubscribe", arguments![], arguments![], Observe),
        method("Reboot", arguments![reason: &str], arguments![], Operate),
        method("PowerOff", arguments![reason: &str], arguments![], Operate),
        method(
            "FactoryReset",
            arguments![reason: &str],
            arguments![],
            Operate,
        ),
        method("SetHostname", arguments![name: &str], arguments![], Name),
    ],
    properties: &[
        property!("Version", Const, String, |facts| facts
            .system
            .version
            .clone()),
        property!("Hostname", False, String, |facts| facts
            .system
            .hostname
            .clone()),
        property!("UptimeMs", False, u64, |facts| facts.system.uptime_ms),
        property!("ReadyMs", False, u64, |facts| facts.system.ready_ms),
        property!("Generation", False, u64, |facts| facts.generation),
        property!("ServiceCount", False, u32, |facts| facts.services),
        property!("Subscribed", False, bool, |facts| facts.subscribed),
    ],
    signals: &[
        Signal {
            name: "ServiceStateChanged",
            carries: arguments![name: &str, state: &str, reason: &str],
        },
        Signal {
            name: "Reloaded",
            carries: arguments![report: ReloadReport],
        },
        Signal {
            name: "GoingDown",
            carries: arguments![end: &str, reason: &str],
        },
    ],
};

/// What the properties are read from, now.
pub fn facts<R: Realm>(call: &Call<R>) -> Facts {
    Facts {
        system: call.realm.system(),
        generation: call.realm.generation(),
        services: u32::try_from(call.realm.names().len()).unwrap_or(u32::MAX),
        subscribed: call.subscribed,
    }
}

/// Answers a call of a method of [`MANAGER`]; grant and existence have been seen to.
pub async fn answer<R: Realm>(call: &Call<R>, method: &str) -> Result<Message, ControlError> {
    let realm = &call.realm;
    let body = call.message.body();
    match method {
        "Services" => give(&call.message, &services(call).await),
        "Service" => give(&call.message, &realm.status(arguments_of(&body)?)?),
        "GetService" => {
            let status = realm.status(arguments_of(&body)?)?;
            give(&call.message, &path_of(&status.name)?)
        }
        "Start" => act(call, arguments_of(&body)?, Act::Start).await,
        "Stop" => act(call, arguments_of(&body)?, Act::Stop).await,
        "Restart" => act(call, arguments_of(&body)?, Act::Restart).await,
        "Kill" => {
            let (name, signal): (&str, i32) = arguments_of(&body)?;
            act(call, name, Act::Kill(signal)).await
        }
        "Freeze" => act(call, arguments_of(&body)?, Act::Freeze).await,
        "Thaw" => act(call, arguments_of(&body)?, Act::Thaw).await,
        "Quarantine" => {
            let (name, reason): (&str, &str) = arguments_of(&body)?;
            act(
                call,
                name,
                Act::Quarantine(shown("reason", reason, MAX_REASON)?),
            )
            .await
        }
        "Release" => act(call, arguments_of(&body)?, Act::Release).await,
        "Reload" => {
            let realm = realm.clone();
            give(
                &call.message,
                &whole(async move { realm.reload().await }).await?,
            )
        }
        "SetManifest" => {
            let (name, text): (&str, &str) = arguments_of(&body)?;
            within("text", text.len(), MAX_MANIFEST)?;
            let (realm, name, text) = (realm.clone(), name.to_owned(), text.to_owned());
            let report = whole(async move { realm.set_manifest(&name, text).await }).await?;
            give(&call.message, &report)
        }
        "RemoveManifest" => {
            let (realm, name) = (realm.clone(), arguments_of::<&str>(&body)?.to_owned());
            let report = whole(async move { realm.remove_manifest(&name).await }).await?;
            give(&call.message, &report)
        }
        "Manifest" => give(&call.message, &realm.manifest(arguments_of(&body)?).await?),
        "System" => give(&call.message, &realm.system()),
        "Boots" => give(&call.message, &realm.boots()),
        "ReadLog" => {
            let (name, cursor, max, wait_ms): (&str, u64, u32, u32) = arguments_of(&body)?;
            let max = usize::try_from(max.clamp(1, MAX_LINES)).unwrap_or(1);
            let page = realm.read_log(name, cursor, max, bounded(wait_ms)).await?;
            give(&call.message, &page)
        }
        "ReadLogs" => {
            let (boot, cursors, max, wait_ms): (&str, Vec<LogCursor>, u32, u32) =
                arguments_of(&body)?;
            let max = usize::try_from(max.clamp(1, MAX_LINES)).unwrap_or(1);
            let batch = realm.read_logs(boot, &cursors, max, bounded(wait_ms)).await;
            give(&call.message, &batch)
        }
        "WaitChange" => {
            let (generation, wait_ms): (u64, u32) = arguments_of(&body)?;
            give(
                &call.message,
                &realm.wait_change(generation, bounded(wait_ms)).await,
            )
        }
        // The connection itself sees to these two when they have been answered.
        "Subscribe" | "Unsubscribe" => done(&call.message),
        "Reboot" => go_down(call, Down::Reboot, MAX_REASON),
        "PowerOff" => go_down(call, Down::PowerOff, MAX_REASON),
        "FactoryReset" => go_down(call, Down::FactoryReset, MAX_RESET_REASON),
        "SetHostname" => {
            realm.set_hostname(arguments_of(&body)?, call.grant >= Operate)?;
            done(&call.message)
        }
        _ => Err(ControlError::UnknownMethod(format!(
            "{INTERFACE} has no {method}"
        ))),
    }
}

/// Every service, by name.
async fn services<R: Realm>(call: &Call<R>) -> Vec<ServiceStatus> {
    let mut statuses = Vec::new();
    for (index, name) in call.realm.names().iter().enumerate() {
        if index % SERVICES_PER_TURN == SERVICES_PER_TURN - 1 {
            tokio::task::yield_now().await;
        }
        // One that has gone since is not one of them.
        statuses.extend(call.realm.status(name));
    }
    statuses
}

/// Does something to a service, whether or not the caller stays for the answer.
pub async fn act<R: Realm>(call: &Call<R>, name: &str, act: Act) -> Result<Message, ControlError> {
    let (realm, name) = (call.realm.clone(), name.to_owned());
    whole(async move { realm.act(&name, act).await }).await?;
    done(&call.message)
}

/// A reason as it may be shown on a console.
///
/// # Errors
/// When it is too long.
pub fn shown(argument: &str, text: &str, allowed: usize) -> Result<String, ControlError> {
    within(argument, text.len(), allowed)?;
    Ok(text.chars().filter(|c| !c.is_control()).collect())
}

fn within(argument: &str, found: usize, allowed: usize) -> Result<(), ControlError> {
    if found <= allowed {
        return Ok(());
    }
    Err(ControlError::InvalidArgument(format!(
        "{argument}: found {found} bytes, allowed: {allowed}"
    )))
}

fn go_down<R: Realm>(call: &Call<R>, down: Down, longest: usize) -> Result<Message, ControlError> {
    let body = call.message.body();
    let reason = shown("reason", arguments_of(&body)?, longest)?;
    call.realm.go_down(down, call.uid, reason)?;
    done(&call.message)
}

/// Runs what must not be left half done when the caller breaks off.
async fn whole<T: Send + 'static>(
    work: impl Future<Output = Result<T, ControlError>> + Send + 'static,
) -> Result<T, ControlError> {
    match tokio::spawn(work).await {
        Ok(done) => done,
        Err(error) => Err(ControlError::Failed(error.to_string())),
    }
}

fn bounded(wait_ms: u32) -> Duration {
    Duration::from_millis(u64::from(wait_ms)).min(MAX_WAIT)
}
