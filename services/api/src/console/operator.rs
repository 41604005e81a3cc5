//! The operator's page: a request in plain words, the call that it was understood as, and what came
//! of it.
//!
//! The operator is a small model of the inference service's. It only says which call a request means;
//! this page makes the call when it only looks, and asks first when it would change something.
//! Nothing is changed by a GET.

use std::sync::Arc;

use askama::Template;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query, State};
use axum::http::{Method, Request, header};
use axum::response::Html;
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use serde_json::{Value, json};

use super::operator_answer::{Answer, answer, asking};
use super::page::named;
use crate::app::App;
use crate::auth::door::Identity;
use crate::control::Action;
use crate::error::ApiError;
use crate::live::Snapshot;
use crate::proxy;

/// The model's name in the inference service.
pub const MODEL: &str = "operator";
/// Longest request in bytes that is passed on; the model would not look at a longer one.
const MAX_REQUEST: usize = 1000;
/// Longest answer of the inference service that is read.
const MAX_ANSWER: usize = 1 << 20;

/// What the form sends.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Asked {
    say: String,
}

/// What the operator understood, as it says it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Call {
    /// Which call.
    pub call: String,
    /// The service it is about, as the request wrote it.
    pub service: Option<String>,
    /// Least severe level of log lines.
    pub level: Option<String>,
    /// First time of log lines: how long ago, or a day by name.
    pub since: Option<String>,
    /// Text that log lines must hold.
    pub search: Option<String>,
    /// Log lines at most.
    pub limit: Option<usize>,
}

#[derive(Template)]
#[template(path = "operator.html")]
struct OperatorPage {
    hostname: String,
    say: String,
    error: String,
    understood: Option<Understood>,
    examples: Vec<(String, &'static str)>,
}

/// A request that was understood, and what comes of it.
struct Understood {
    /// In words.
    words: String,
    /// What is left to do: confirm, choose, or nothing.
    act: Option<Act>,
    answer: Option<Answer>,
    is_none: bool,
}

/// A change that waits for a person.
struct Act {
    path: String,
    button: String,
    warning: &'static str,
    is_dangerous: bool,
}

/// What can be asked, to begin with.
const EXAMPLES: &[&str] = &[
    "what is running?",
    "why did infer stop?",
    "errors in the last hour",
    "how much memory is free",
    "restart the network service",
];

/// `GET /operator?say=`
pub async fn show(
    State(app): State<Arc<App>>,
    Extension(identity): Extension<Identity>,
    query: Result<Query<Asked>, QueryRejection>,
) -> Result<Html<String>, ApiError> {
    let Query(asked) = query.map_err(|error| ApiError::BadRequest(error.body_text()))?;
    let say = asked.say.trim();
    let snapshot = app.live.fresh().await;
    let mut page = OperatorPage {
        hostname: named(snapshot.hostname()),
        say: say.to_owned(),
        error: String::new(),
        understood: None,
        examples: EXAMPLES
            .iter()
            .map(|example| (asking(example), *example))
            .collect(),
    };
    if say.len() > MAX_REQUEST {
        let found = say.len();
        page.error = format!("The request has {found} bytes, allowed: {MAX_REQUEST}.");
    } else if !say.is_empty() {
        // What cannot be asked or answered is said in the page, which keeps the request.
        match understand(&app, &identity, &snapshot, say).await {
            Ok(understood) => page.understood = Some(understood),
            Err(error) => page.error = error.to_string(),
        }
    }
    Ok(Html(page.render()?))
}

async fn understand(
    app: &Arc<App>,
    identity: &Identity,
    snapshot: &Snapshot,
    say: &str,
) -> Result<Understood, ApiError> {
    let mut call = ask(app, say).await?;
    if let Some(said) = call.service.clone() {
        match meant(&said, snapshot, call.call == "logs") {
            Meant::One(name) => call.service = Some(name),
            Meant::Several(names) => {
                return Ok(Understood {
                    words: format!("{}: which one?", words(&call)),
                    act: None,
                    answer: Some(Answer::choices(say, &said, names)),
                    is_none: false,
                });
            }
            Meant::None => {
                return Ok(Understood {
                    words: format!(
                        "{}: but no service of this box is called {said}.",
                        words(&call)
                    ),
                    act: None,
                    answer: None,
                    is_none: false,
                });
            }
        }
    }
    let act = act(&call);
    let is_none = call.call == "none";
    Ok(Understood {
        words: words(&call),
        answer: match (&act, is_none) {
            (None, false) => Some(answer(app, identity, snapshot, &call).await?),
            _ => None,
        },
        act,
        is_none,
    })
}

/// What the operator takes the request for.
async fn ask(app: &Arc<App>, say: &str) -> Result<Call, ApiError> {
    let body = json!({
        "model": MODEL,
        "stream": false,
        "messages": [{ "role": "user", "content": say }],
    });
    let answer = infer(app, Method::POST, "/api/chat", Body::from(body.to_string())).await?;
    let content = answer["message"]["content"].as_str().unwrap_or_default();
    serde_json::from_str(content).map_err(|error| {
        ApiError::InferenceDied(format!("the operator's answer is not a call: {error}"))
    })
}

/// One question to the inference service, and its answer.
///
/// # Errors
/// When it is away, or refuses; its words are passed on.
pub async fn infer(
    app: &Arc<App>,
    method: Method,
    path: &str,
    body: Body,
) -> Result<Value, ApiError> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::CONTENT_TYPE, "application/json")
        .body(body)
        .map_err(|error| ApiError::BadRequest(error.to_string()))?;
    let response = proxy::pass(State(Arc::clone(app)), request).await?;
    let is_well = response.status().is_success();
    let bytes = Limited::new(response.into_body(), MAX_ANSWER)
        .collect()
        .await
        .map_err(|error| ApiError::InferenceDied(error.to_string()))?
        .to_bytes();
    let answer: Value = serde_json::from_slice(&bytes)
        .map_err(|error| ApiError::InferenceDied(error.to_string()))?;
    match answer["error"].as_str() {
        Some(error) => Err(ApiError::InferenceAway(error.to_owned())),
        None if !is_well => Err(ApiError::InferenceDied(
            "it refused without a word".to_owned(),
        )),
        None => Ok(answer),
    }
}

/// Which service a request can mean.
#[derive(Debug, PartialEq, Eq)]
enum Meant {
    One(String),
    Several(Vec<String>),
    None,
}

/// Names are copied out of requests as people write them: `door cam` for `door-cam-2`.
fn meant(said: &str, snapshot: &Snapshot, in_log: bool) -> Meant {
    let names = snapshot
        .services
        .iter()
        .map(|view| view.status.name.as_str());
    let log_only = ["init", "kernel"].into_iter().filter(|_| in_log);
    meant_of(said, names.chain(log_only).collect())
}

fn meant_of(said: &str, names: Vec<&str>) -> Meant {
    let letters = |name: &str| name.replace(['-', '_', '.'], "").to_lowercase();
    let wanted = letters(said);
    let fits: [&dyn Fn(&str) -> bool; 4] = [
        &|name| name == said,
        &|name| letters(name) == wanted,
        &|name| !wanted.is_empty() && letters(name).contains(&wanted),
        // `camera` for `cam`, `front-door-cam` for `door-cam`.
        &|name| name.len() > 2 && wanted.contains(&letters(name)),
    ];
    for fits in fits {
        let found: Vec<String> = names
            .iter()
            .filter(|name| fits(name))
            .map(|name| (*name).to_owned())
            .collect();
        match found.len() {
            0 => {}
            1 => return Meant::One(found.into_iter().next().unwrap_or_default()),
            _ => return Meant::Several(found),
        }
    }
    Meant::None
}

/// The call in words.
fn words(call: &Call) -> String {
    let service = call.service.as_deref().unwrap_or_default();
    match call.call.as_str() {
        "services" => "Show all services".to_owned(),
        "service" => format!("Show how {service} is"),
        "manifest" => format!("Show the manifest of {service}"),
        "logs" => log_words(call),
        "memory" => "Show the memory".to_owned(),
        "disk" => "Show the data disk".to_owned(),
        "uptime" => "Show how long the box is up".to_owned(),
        "network" => "Show the network".to_owned(),
        "version" => "Show the version".to_owned(),
        "system" => "Show the machine".to_owned(),
        "boots" => "Show the boots".to_owned(),
        "models" => "Show the models".to_owned(),
        "loaded" => "Show the models in memory".to_owned(),
        "sessions" => "Show who is paired".to_owned(),
        "reload" => "Read the manifests again, and apply what has changed".to_owned(),
        "reboot" => "Reboot the box".to_owned(),
        "poweroff" => "Power off the box".to_owned(),
        "none" => "That is none of the things that the operator can do.".to_owned(),
        act => format!("{} {service}", capitalised(act)),
    }
}

fn log_words(call: &Call) -> String {
    let mut words = match (&call.level, call.limit) {
        (None, None) => "Show the log".to_owned(),
        (None, Some(limit)) => format!("Show the last {limit} lines of the log"),
        (Some(level), None) => format!("Show the log's lines of level {level} and worse"),
        (Some(level), Some(limit)) => {
            format!("Show the log's last {limit} lines of level {level} and worse")
        }
    };
    if let Some(service) = &call.service {
        words.push_str(&format!(" of {service}"));
    }
    match call.since.as_deref() {
        None => {}
        Some("last-night") => words.push_str(" since last night"),
        Some("this-morning") => words.push_str(" since this morning"),
        Some("today") => words.push_str(" of today"),
        Some("yesterday") => words.push_str(" of yesterday"),
        Some(ago) => words.push_str(&format!(" of the last {}", ago.trim_start_matches('-'))),
    }
    if let Some(search) = &call.search {
        words.push_str(&format!(" that hold \u{201c}{search}\u{201d}"));
    }
    words
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

/// The form that does it, when the call changes something.
fn act(call: &Call) -> Option<Act> {
    let service = call.service.as_deref().unwrap_or_default();
    let (path, warning) = match call.call.as_str() {
        "reboot" => (
            "/power/reboot".to_owned(),
            "Every service is stopped in order, and answers under way are cut off.",
        ),
        "poweroff" => (
            "/power/poweroff".to_owned(),
            "Every service is stopped in order. The box has to be switched on by hand again.",
        ),
        "reload" => ("/operator/reload".to_owned(), ""),
        action => {
            Action::parse(action)?;
            (format!("/services/{service}/{action}"), "")
        }
    };
    Some(Act {
        path,
        button: match call.call.as_str() {
            "reload" => "Reload".to_owned(),
            "poweroff" => "Power off".to_owned(),
            "reboot" => "Reboot".to_owned(),
            action => format!("{} {service}", capitalised(action)),
        },
        warning,
        is_dangerous: matches!(
            call.call.as_str(),
            "stop" | "restart" | "quarantine" | "reboot" | "poweroff"
        ),
    })
}

/// `POST /operator/reload`: the one change that no other page has a form for without a service.
pub async fn reload(State(app): State<Arc<App>>) -> Result<Html<String>, ApiError> {
    let report = app.control.reload().await?;
    app.live.nudge();
    let page = super::page::Message {
        title: "Read again".to_owned(),
        text: Answer::report(&report),
    };
    Ok(Html(page.render()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_as_people_write_it() {
        let find = |said| {
            meant_of(
                said,
                vec!["api", "door-cam-1", "door-cam-2", "net", "weather"],
            )
        };
        let one = |name: &str| Meant::One(name.to_owned());
        assert_eq!(find("api"), one("api"));
        assert_eq!(find("door-cam-2"), one("door-cam-2"));
        assert_eq!(find("doorcam2"), one("door-cam-2"));
        assert_eq!(find("weather-bot"), one("weather"));
        let two = vec!["door-cam-1".to_owned(), "door-cam-2".to_owned()];
        assert_eq!(find("door-cam"), Meant::Several(two));
        assert_eq!(find("printer"), Meant::None);
        assert_eq!(find("-"), Meant::None);
    }

    #[test]
    fn what_changes_waits_for_a_person() {
        let call = |call: &str| Call {
            call: call.to_owned(),
            service: Some("net".to_owned()),
            ..Call::default()
        };
        for read in [
            "services", "service", "manifest", "logs", "memory", "boots", "none", "x",
        ] {
            assert!(act(&call(read)).is_none(), "{read}");
        }
        let changes = [
            "start",
            "stop",
            "restart",
            "freeze",
            "thaw",
            "quarantine",
            "release",
        ];
        for change in changes {
            assert_eq!(
                act(&call(change)).unwrap().path,
                format!("/services/net/{change}")
            );
        }
        for change in ["reload", "reboot", "poweroff"] {
            assert!(act(&call(change)).is_some(), "{change}");
        }
    }

    #[test]
    fn a_log_is_said_in_words() {
        let call = Call {
            call: "logs".to_owned(),
            service: Some("net".to_owned()),
            level: Some("err".to_owned()),
            since: Some("-2h".to_owned()),
            search: Some("no route".to_owned()),
            limit: Some(5),
        };
        assert_eq!(
            words(&call),
            "Show the log's last 5 lines of level err and worse of net of the last 2h that hold \
             \u{201c}no route\u{201d}"
        );
    }
}
