//! The page of one service: where it is in its life and why, what it uses of what it may, what can
//! be done to it, and its manifest, which can be edited.

use std::sync::Arc;

use askama::Template;
use axum::Form;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Redirect, Response};
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

/// In an address, the service that there is not yet.
const NEW: &str = "new";
/// What an owner begins with who adds a service.
const BLANK: &str = include_str!("blank_service.toml");

#[derive(Template)]
#[template(path = "service.html")]
struct ServicePage {
    hostname: String,
    /// Of the service; `new` for one that has none yet.
    name: String,
    description: String,
    /// The part that is asked for again and again; nothing for a service that does not exist.
    now: Option<Now>,
    /// What the editor holds, or why there is nothing to edit.
    manifest: Result<String, String>,
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
    buttons: Vec<Button>,
    /// What it uses and what it is, or why that is not known.
    known: Result<Known, String>,
    changes: Vec<Change>,
}

/// What only PID 1's facts tell.
struct Known {
    uses: Vec<Use>,
    facts: Vec<(&'static str, String)>,
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
    async fn of(
        app: &App,
        status: ServiceStatus,
        facts: Result<&ServiceFacts, &ControlError>,
    ) -> Self {
        let snapshot = app.live.latest();
        let cpu = snapshot
            .services
            .iter()
            .find(|view| view.status.name == status.name)
            .and_then(|view| view.cpu_percent);
        Now {
            diagram: Diagram::at(&status.state),
            buttons: buttons(&status.name, &status.state),
            known: facts
                .map(|facts| Known {
                    uses: uses(&status, facts, cpu),
                    facts: told(&status, facts),
                })
                .map_err(ToString::to_string),
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
    if name != NEW {
        app.control.service(&name).await?;
    }
    page(&app, &name, Shown::default()).await
}

/// `GET` of a form's address, as a reload without JavaScript asks for: the page that has the form.
pub async fn back(Path(name): Path<String>) -> Redirect {
    Redirect::to(&format!("/services/{name}"))
}

/// `GET /services/{name}/now`: the part that changes.
pub async fn now(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Html<String>, ApiError> {
    let status = app.control.service(&name).await?;
    let facts = app.control.facts(&name).await;
    let now = Now::of(&app, status, facts.as_ref()).await;
    Ok(Html(now.render()?))
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
    if name == NEW {
        return add(&app, text).await;
    }
    let done = app.control.set_manifest(&name, &text).await;
    app.live.nudge();
    page(&app, &name, Shown::from(done, Some(text))).await
}

/// Adds a service under the name that its manifest gives it.
async fn add(app: &App, text: String) -> Result<Response, ApiError> {
    let named = name_in(&text);
    if let Some((line, name)) = &named {
        // Saving would replace that one's manifest, which nobody has asked for.
        if name == NEW || app.control.service(name).await.is_ok() {
            let problem = ManifestProblem {
                line: Some(*line),
                key: Some("name".to_owned()),
                problem: format!("found '{name}', allowed: a name that is not taken yet"),
                ..ManifestProblem::default()
            };
            let shown = Shown {
                status: Some(StatusCode::CONFLICT),
                text: Some(text),
                problem: Some(problem),
                ..Shown::default()
            };
            return page(app, NEW, shown).await;
        }
    }
    // Without a name PID 1 says best what is missing.
    let name = named.map_or_else(|| NEW.to_owned(), |(_, name)| name);
    let done = app.control.set_manifest(&name, &text).await;
    app.live.nudge();
    // What is not there stays a new service: its name can still be changed.
    let name = if done.is_ok() { &name } else { NEW };
    page(app, name, Shown::from(done, Some(text))).await
}

/// `POST /services/{name}/remove`
pub async fn remove(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let text = app.control.manifest(&name).await.ok();
    let done = app.control.remove_manifest(&name).await;
    app.live.nudge();
    if done.is_ok() && app.control.service(&name).await.is_err() {
        // The text is at hand in case that this was a mistake.
        return page(&app, NEW, Shown::from(done, text)).await;
    }
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
                text,
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
    let status = match name {
        NEW => None,
        name => app.control.service(name).await.ok(),
    };
    let facts = app.control.facts(name).await;
    let manifest = match (shown.text, &status) {
        (Some(text), _) => Ok(text),
        (None, Some(_)) => app.control.manifest(name).await,
        (None, None) => Ok(BLANK.to_owned()),
    };
    // An empty editor would invite to save nothing over what cannot be read.
    let manifest = manifest.map_err(|error| error.to_string());
    let count = manifest.iter().flat_map(|text| text.lines()).count().max(1);
    let lines: Vec<String> = (1..=count).map(|line| line.to_string()).collect();
    let page = ServicePage {
        hostname: named(app.live.latest().hostname()),
        name: name.to_owned(),
        description: status
            .as_ref()
            .map_or_else(String::new, |status| status.description.clone()),
        is_owners: facts.as_ref().is_ok_and(|facts| facts.origin == "owner"),
        now: match status {
            Some(status) => Some(Now::of(app, status, facts.as_ref()).await),
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

/// The name that a manifest gives its service and the line where it does, as far as that can be
/// seen without parsing it.
fn name_in(text: &str) -> Option<(usize, String)> {
    text.lines().enumerate().find_map(|(index, line)| {
        let value = line.trim().strip_prefix("name")?.trim_start();
        let value = value.strip_prefix('=')?.trim();
        let name = value.strip_prefix('"')?.split('"').next()?;
        (!name.is_empty()).then(|| (index + 1, name.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_found_where_it_is_written() {
        assert_eq!(name_in(BLANK), Some((2, "my-agent".to_owned())));
        let text = "names = 1\n name=\"a-b\" # c\n";
        assert_eq!(name_in(text), Some((2, "a-b".to_owned())));
        assert_eq!(name_in("names = \"a\"\n"), None);
        assert_eq!(name_in("name = \"\"\n"), None);
    }
}
