//! What the operator's page answers to a request that only looks.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Method;
use kos_sdk::control::ReloadReport;
use kos_sdk::percent::escape;
use serde_json::Value;

use super::operator::{Call, infer};
use super::show;
use crate::api::journal::Wanted;
use crate::api::system;
use crate::app::App;
use crate::auth::door::Identity;
use crate::error::ApiError;
use crate::live::{ServiceView, Snapshot};
use crate::store::clock;

/// Log lines that are shown; the log's own page has the rest.
const LINES: usize = 50;
/// Boots that are shown.
const BOOTS: usize = 5;
/// Seconds of a day.
const DAY: i64 = 86_400;
/// When a night begins and a morning, in hours. The box keeps UTC and says so.
const EVENING: i64 = 20;
const MORNING: i64 = 5;
const FORENOON: i64 = 8;

/// What is shown.
#[derive(Debug, Default)]
pub struct Answer {
    /// In one sentence.
    pub sentence: String,
    /// Names and values.
    pub facts: Vec<(String, String)>,
    /// Lines as they are.
    pub text: Vec<String>,
    /// Where there is more: address and words.
    pub links: Vec<(String, String)>,
}

impl Answer {
    fn fact(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        if !value.is_empty() {
            self.facts.push((name.to_owned(), value));
        }
    }

    fn link(mut self, path: impl Into<String>, words: &str) -> Self {
        self.links.push((path.into(), words.to_owned()));
        self
    }

    /// Several services that a name can mean: the same request with each.
    pub fn choices(say: &str, said: &str, names: Vec<String>) -> Self {
        let lower = say.to_lowercase();
        let links = names.into_iter().map(|name| {
            // A name that was put together of several words does not stand in the request.
            let again = match lower.contains(said) {
                true => lower.replacen(said, &name, 1),
                false => format!("{lower} {name}"),
            };
            (asking(&again), name)
        });
        Answer {
            links: links.collect(),
            ..Answer::default()
        }
    }

    /// What a reload did, in a sentence.
    pub fn report(report: &ReloadReport) -> String {
        match serde_json::to_value(report) {
            Ok(Value::Object(parts)) => {
                let parts: Vec<String> = parts
                    .iter()
                    .filter_map(|(what, names)| match names {
                        Value::Array(names) if !names.is_empty() => {
                            let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
                            Some(format!("{}: {}", what.replace('_', " "), names.join(", ")))
                        }
                        _ => None,
                    })
                    .collect();
                match parts.is_empty() {
                    true => "Nothing had changed.".to_owned(),
                    false => parts.join("; "),
                }
            }
            _ => "Done.".to_owned(),
        }
    }
}

/// Looks.
///
/// # Errors
/// When whoever knows is away or refuses.
pub async fn answer(
    app: &Arc<App>,
    identity: &Identity,
    snapshot: &Snapshot,
    call: &Call,
) -> Result<Answer, ApiError> {
    let service = call.service.as_deref().unwrap_or_default();
    match call.call.as_str() {
        "services" => Ok(services(snapshot)),
        "service" => {
            app.control.service(service).await?;
            let view = snapshot
                .services
                .iter()
                .find(|view| view.status.name == service);
            Ok(view.map(one_service).unwrap_or_default())
        }
        "manifest" => {
            let text = app.control.manifest(service).await?;
            Ok(Answer {
                text: text.lines().map(str::to_owned).collect(),
                ..Answer::default()
            }
            .link(format!("/services/{service}"), "The service's page"))
        }
        "logs" => logs(app, call).await,
        "boots" => boots(app).await,
        "models" | "loaded" => models(app, &call.call).await,
        "sessions" => sessions(app, identity).await,
        _ => machine(app, snapshot, &call.call).await,
    }
}

fn services(snapshot: &Snapshot) -> Answer {
    let mut answer = Answer::default();
    let all = &snapshot.services;
    let ready = all
        .iter()
        .filter(|view| view.status.state == "ready")
        .count();
    answer.sentence = format!("{} services, {ready} of them ready.", all.len());
    for ServiceView {
        status,
        cpu_percent,
    } in all
    {
        let cpu = cpu_percent.map_or_else(String::new, |percent| format!(", {percent:.0} % CPU"));
        let memory = match status.memory {
            0 => String::new(),
            memory => format!(", {}", show::bytes(memory)),
        };
        answer.fact(&status.name, format!("{}{memory}{cpu}", status.state));
    }
    answer.link("/", "The console")
}

fn one_service(view: &ServiceView) -> Answer {
    let status = &view.status;
    let mut answer = Answer {
        sentence: format!("{} is {}.", status.name, status.state),
        ..Answer::default()
    };
    answer.fact("Why", &*status.reason);
    answer.fact("It says", &*status.status_text);
    answer.fact("Last failure", &*status.last_failure);
    if status.uptime_ms > 0 {
        answer.fact("Running for", show::duration(status.uptime_ms));
    }
    answer.fact("Restarts", status.restarts.to_string());
    if status.memory > 0 {
        answer.fact("Memory", show::bytes(status.memory));
    }
    if let Some(percent) = view.cpu_percent {
        answer.fact("CPU", format!("{percent:.0} %"));
    }
    let name = &status.name;
    answer
        .link(format!("/services/{name}"), "Its page, with its history")
        .link(format!("/logs?service={name}"), "Its log")
}

async fn logs(app: &App, call: &Call) -> Result<Answer, ApiError> {
    let (since, until) = times(call.since.as_deref(), clock::now());
    let wanted = Wanted {
        service: call.service.clone(),
        level: call.level.clone(),
        since,
        until,
        // What has a space in it is one text.
        search: call.search.as_ref().map(|text| match text.contains(' ') {
            true => format!("\"{}\"", text.replace('"', "")),
            false => text.clone(),
        }),
        limit: Some(call.limit.unwrap_or(LINES)),
        ..Wanted::default()
    };
    let page = wanted.answer(app).await?;
    let mut query = String::new();
    for (key, value) in [
        ("service", &wanted.service),
        ("level", &wanted.level),
        ("since", &wanted.since),
        ("until", &wanted.until),
        ("search", &wanted.search),
    ] {
        if let Some(value) = value {
            let separator = if query.is_empty() { '?' } else { '&' };
            query.push_str(&format!("{separator}{key}={}", escape(value)));
        }
    }
    let text: Vec<String> = page
        .entries
        .iter()
        .map(|entry| {
            let seconds = i64::try_from(entry.time_unix_ms / 1000).unwrap_or(0);
            let stamp = clock::stamp(seconds).replace('T', " ");
            format!(
                "{} {} {}",
                stamp.trim_end_matches('Z'),
                entry.service,
                entry.message
            )
        })
        .collect();
    let sentence = match text.len() {
        0 => "No line fits.".to_owned(),
        1 => "One line.".to_owned(),
        count if page.more => format!("The last {count} lines; there are more."),
        count => format!("{count} lines."),
    };
    Ok(Answer {
        sentence,
        text,
        ..Answer::default()
    }
    .link(format!("/logs{query}"), "The log, followed and searched"))
}

/// A day by name as times that the log knows.
fn times(since: Option<&str>, now: i64) -> (Option<String>, Option<String>) {
    let today = now - now.rem_euclid(DAY);
    let at = |seconds: i64| Some(clock::stamp(seconds));
    match since {
        None => (None, None),
        Some("today") => (at(today), None),
        Some("yesterday") => (at(today - DAY), at(today)),
        Some("last-night") => (
            at(today - DAY + EVENING * 3600),
            at((today + FORENOON * 3600).min(now)),
        ),
        Some("this-morning") => (at(today + MORNING * 3600), None),
        Some(ago) => (Some(ago.to_owned()), None),
    }
}

async fn boots(app: &App) -> Result<Answer, ApiError> {
    let mut answer = Answer::default();
    for boot in app.control.boots().await?.into_iter().take(BOOTS) {
        let started = i64::try_from(boot.started_unix_ms / 1000).unwrap_or(0);
        let how = match (boot.down.cause.as_str(), boot.down.detail.as_str()) {
            ("", _) => "running".to_owned(),
            (cause, "") => cause.to_owned(),
            (cause, detail) => format!("{cause}: {detail}"),
        };
        let name = match started < clock::FLOOR {
            true => "Clock not set".to_owned(),
            false => clock::stamp(started).replace('T', " ").replace('Z', " UTC"),
        };
        answer.fact(
            &name,
            format!("{}, ran {}", how, show::duration(boot.seen_ms)),
        );
    }
    Ok(answer.link("/boots", "All boots, with their ways up and down"))
}

async fn models(app: &Arc<App>, call: &str) -> Result<Answer, ApiError> {
    let path = if call == "loaded" {
        "/api/ps"
    } else {
        "/api/tags"
    };
    let list = infer(app, Method::GET, path, Body::empty()).await?;
    let mut answer = Answer::default();
    for model in list["models"].as_array().into_iter().flatten() {
        let size = model["size"].as_u64().unwrap_or(0);
        let parameters = model["details"]["parameter_size"]
            .as_str()
            .unwrap_or_default();
        let name = model["name"].as_str().unwrap_or_default();
        answer.fact(
            name,
            format!("{parameters} parameters, {}", show::disk_bytes(size)),
        );
    }
    answer.sentence = match (answer.facts.len(), call) {
        (0, "loaded") => "No model is in memory.".to_owned(),
        (0, _) => "There is no model.".to_owned(),
        _ => String::new(),
    };
    Ok(answer)
}

async fn sessions(app: &App, identity: &Identity) -> Result<Answer, ApiError> {
    let mut answer = Answer::default();
    for session in app.store.sessions().await? {
        let used = clock::stamp(session.last_used)
            .replace('T', " ")
            .replace('Z', " UTC");
        let own = match *identity == Identity::Session(session.id) {
            true => ", this one",
            false => "",
        };
        answer.fact(
            &session.agent,
            format!("from {}, last used {used}{own}", session.peer),
        );
    }
    Ok(answer.link("/sessions", "Sessions, and how to end one"))
}

async fn machine(app: &App, snapshot: &Snapshot, about: &str) -> Result<Answer, ApiError> {
    let system = snapshot
        .system
        .as_ref()
        .ok_or_else(|| ApiError::NotFound("PID 1 has said nothing yet".into()))?;
    let mut answer = Answer::default();
    let all = about == "system";
    if all || about == "version" {
        answer.fact("Version", format!("kOS {}", system.version));
    }
    if all || about == "uptime" {
        answer.fact("Up for", show::duration(system.uptime_ms));
    }
    if let Some(memory) = snapshot.memory.filter(|_| all || about == "memory") {
        let (total, free) = (show::bytes(memory.total), show::bytes(memory.available));
        answer.fact("Memory", format!("{free} of {total} can be used"));
    }
    if all || about == "disk" {
        let (total, free) = (
            show::disk_bytes(system.data_bytes),
            show::disk_bytes(system.data_free),
        );
        answer.fact("Data", &*system.data_detail);
        answer.fact("Free", format!("{free} of {total}"));
        answer.fact("What is wrong", &*system.data_advice);
    }
    if all {
        answer.fact("Host name", &*system.hostname);
        answer.fact(
            "Board",
            format!("{} {}", system.board_description, system.board),
        );
        answer.fact("Started from", &*system.boot_disk);
        answer.fact("Processes", system.processes.to_string());
        let watchdog = match system.watchdog.as_str() {
            "" => &system.watchdog_problem,
            identity => identity,
        };
        answer.fact("Watchdog", watchdog);
    }
    if about == "network" {
        network(&mut answer, system::network(&app.options.network));
    }
    Ok(answer.link("/", "The console"))
}

/// What the network service says of itself, without knowing more of it than names.
fn network(answer: &mut Answer, state: Option<Value>) {
    let Some(state) = state else {
        answer.sentence = "The network service has said nothing yet.".to_owned();
        return;
    };
    let texts = |value: &Value| match value {
        Value::Array(values) => {
            let texts: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
            texts.join(", ")
        }
        Value::String(text) => text.clone(),
        _ => String::new(),
    };
    for interface in state["interfaces"].as_array().into_iter().flatten() {
        let name = interface["name"].as_str().unwrap_or_default();
        for (key, words) in [
            ("state", "state"),
            ("ipv4", "IPv4"),
            ("ipv6", "IPv6"),
            ("gateway", "gateway"),
            ("mac", "hardware address"),
        ] {
            answer.fact(&format!("{name}, {words}"), texts(&interface[key]));
        }
    }
    answer.fact("Name servers", texts(&state["dns"]));
    answer.fact("What is wrong", texts(&state["errors"]));
}

/// The page's address with a request in it.
pub fn asking(say: &str) -> String {
    format!("/operator?say={}", escape(say))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_times_of_the_boxs_clock() {
        // 2026-11-24T12:00:00Z
        let now = 1_795_521_600;
        let text = |time: Option<String>| time.unwrap_or_default();
        let span = |since| {
            let (from, until) = times(Some(since), now);
            (text(from), text(until))
        };
        assert_eq!(
            span("today"),
            ("2026-11-24T00:00:00Z".into(), String::new())
        );
        assert_eq!(
            span("yesterday"),
            ("2026-11-23T00:00:00Z".into(), "2026-11-24T00:00:00Z".into())
        );
        assert_eq!(
            span("last-night"),
            ("2026-11-23T20:00:00Z".into(), "2026-11-24T08:00:00Z".into())
        );
        assert_eq!(span("this-morning").0, "2026-11-24T05:00:00Z");
        assert_eq!(span("-2h"), ("-2h".into(), String::new()));
    }
}
