//! The page of one service: where it is in its life and why, what it uses of what it may, what can
//! be done to it, and its manifest, which can be edited.

use std::sync::Arc;

use askama::Template;
use axum::Form;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use kos_sdk::control::{ReloadReport, ServiceStatus};
use kos_sdk::service_facts::ServiceFacts;
use serde::Deserialize;

use super::diagram::Diagram;
use super::history::{Change, history};
use super::page::named;
use super::usage::{Use, uses};
use super::view::{Button, buttons};
use crate::app::App;
use crate::control::ControlError;
use crate::error::ApiError;
use crate::manifest_problem::ManifestProblem;

/// What an owner begins with who adds a service.
const BLANK: &str = include_str!("blank_service.toml");

#[derive(Template)]
#[template(path = "service.html")]
struct ServicePage {
    hostname: String,
    name: String,
    description: String,
    /// The part that is asked for again and again; nothing for a service that does not exist yet.
    now: Option<Now>,
    manifest: String,
    /// What the editor's lines are numbered with.
    lines: String,
    is_owners: bool,
    problem: Option<ManifestProblem>,
    trouble: String,
    report: Option<Report>,
}

#[derive(Template)]
#[template(path = "part_service.html")]
struct Now {
    name: String,
    state: String,
    reason: String,
    status_text: String,
    last_failure: String,
    restarts: u32,
    diagram: Diagram,
    uses: Vec<Use>,
    buttons: Vec<Button>,
    facts: Vec<(&'static str, String)>,
    changes: Vec<Change>,
}

/// What a reload did, in words.
struct Report {
    lines: Vec<(&'static str, String)>,
    unchanged: u32,
}

impl From<ReloadReport> for Report {
    fn from(report: ReloadReport) -> Self {
        let lists = [
            ("Added", report.added),
            ("Removed", report.removed),
            ("Restarted", report.restarted),
            ("Updated without a restart", report.updated),
        ];
        Report {
            lines: lists
                .into_iter()
                .filter(|(_, names)| !names.is_empty())
                .map(|(what, names)| (what, names.join(", ")))
                .collect(),
            unchanged: report.unchanged,
        }
    }
}

impl Now {
    async fn of(app: &App, status: ServiceStatus, facts: &ServiceFacts) -> Self {
        let snapshot = app.live.latest();
        let cpu = snapshot
            .services
            .iter()
            .find(|view| view.status.name == status.name)
            .and_then(|view| view.cpu_percent);
        Now {
            diagram: Diagram::at(&status.state),
            uses: uses(&status, facts, cpu),
            buttons: buttons(&status.name, &status.state),
            facts: told(&status, facts),
            changes: history(app, &status.name).await,
            name: status.name,
            state: status.state,
            reason: status.reason,
            status_text: status.status_text,
            last_failure: status.last_failure,
            restarts: status.restarts,
        }
    }
}

fn told(status: &ServiceStatus, facts: &ServiceFacts) -> Vec<(&'static str, String)> {
    let list = |names: &[String]| names.join(", ");
    let pid = if status.pid == 0 {
        String::new()
    } else {
        status.pid.to_string()
    };
    let network = match facts.network.as_str() {
        "none" => "none",
        "own" => "its own, with nobody on it",
        "host" => "the machine's",
        other => other,
    };
    [
        ("Process", pid),
        ("Program", facts.program.clone()),
        ("User", facts.uid.to_string()),
        ("Network", network.to_owned()),
        ("Restarts by itself", facts.restart_policy.clone()),
        ("After", list(&facts.after)),
        ("Requires", list(&facts.requires)),
        ("Wants", list(&facts.wants)),
        ("Instance of", facts.template.clone()),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .collect()
}

/// `GET /services/{name}`
pub async fn show(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    if name == "new" {
        return page(&app, &name, Shown::default()).await;
    }
    app.control.service(&name).await?;
    page(&app, &name, Shown::default()).await
}

/// `GET /services/{name}/now`: the part that changes.
pub async fn now(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Html<String>, ApiError> {
    let status = app.control.service(&name).await?;
    let facts = app.control.facts(&name).await?;
    Ok(Html(Now::of(&app, status, &facts).await.render()?))
}

/// What the editor sends.
#[derive(Deserialize)]
pub struct Edited {
    text: String,
}

/// `POST /services/{name}/manifest`
pub async fn save(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Form(edited): Form<Edited>,
) -> Result<Response, ApiError> {
    // A form's lines end as e-mail's do.
    let text = edited.text.replace("\r\n", "\n");
    let name = if name == "new" {
        name_in(&text).unwrap_or(name)
    } else {
        name
    };
    let done = app.control.set_manifest(&name, &text).await;
    app.live.nudge();
    page(&app, &name, Shown::from(done, Some(text))).await
}

/// `POST /services/{name}/remove`
pub async fn remove(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let done = app.control.remove_manifest(&name).await;
    app.live.nudge();
    page(&app, &name, Shown::from(done, None)).await
}

/// `POST /services/{name}/reload`
pub async fn reload(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let done = app.control.reload().await;
    app.live.nudge();
    page(&app, &name, Shown::from(done, None)).await
}

/// What there is to say beside the service itself.
#[derive(Default)]
struct Shown {
    status: Option<StatusCode>,
    text: Option<String>,
    problem: Option<ManifestProblem>,
    trouble: String,
    report: Option<Report>,
}

impl Shown {
    fn from(done: Result<ReloadReport, ControlError>, text: Option<String>) -> Self {
        match done {
            Ok(report) => Shown {
                report: Some(Report::from(report)),
                ..Shown::default()
            },
            Err(error) => Shown {
                status: Some(error.status()),
                text,
                problem: match &error {
                    ControlError::InvalidManifest(words) => Some(ManifestProblem::of(words)),
                    _ => None,
                },
                trouble: error.to_string(),
                ..Shown::default()
            },
        }
    }
}

async fn page(app: &App, name: &str, shown: Shown) -> Result<Response, ApiError> {
    let status = app.control.service(name).await.ok();
    let facts = app.control.facts(name).await.unwrap_or_default();
    let manifest = match (&shown.text, &status) {
        (Some(text), _) => text.clone(),
        // One that cannot be read is told as a trouble of its own by saving it.
        (None, Some(_)) => app.control.manifest(name).await.unwrap_or_default(),
        (None, None) => BLANK.to_owned(),
    };
    let count = manifest.lines().count().max(1);
    let lines: Vec<String> = (1..=count).map(|line| line.to_string()).collect();
    let page = ServicePage {
        hostname: named(app.live.latest().hostname()),
        name: name.to_owned(),
        description: status
            .as_ref()
            .map_or_else(String::new, |status| status.description.clone()),
        is_owners: facts.origin == "owner",
        now: match status {
            Some(status) => Some(Now::of(app, status, &facts).await),
            None => None,
        },
        manifest,
        lines: lines.join("\n"),
        problem: shown.problem,
        trouble: shown.trouble,
        report: shown.report,
    };
    let code = shown.status.unwrap_or(StatusCode::OK);
    Ok((code, Html(page.render()?)).into_response())
}

/// The name that a manifest gives its service, as far as it can be seen without parsing it.
fn name_in(text: &str) -> Option<String> {
    let value = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("name"))?;
    let value = value.trim_start().strip_prefix('=')?.trim();
    let name = value.strip_prefix('"')?.split('"').next()?;
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_found_where_it_is_written() {
        assert_eq!(name_in(BLANK).as_deref(), Some("my-agent"));
        assert_eq!(name_in("# x\n name=\"a-b\" # c\n").as_deref(), Some("a-b"));
        assert_eq!(name_in("names = \"a\"\n"), None);
        assert_eq!(name_in("name = \"\"\n"), None);
    }
}
