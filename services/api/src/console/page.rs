//! The console's one page.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Html;

use super::machine::Machine;
use super::view::{Boot, Services, Status, Warnings};
use crate::app::App;
use crate::error::ApiError;

#[derive(Template)]
#[template(path = "console.html")]
struct Console {
    hostname: String,
    default_model: String,
    status: String,
    warnings: String,
    services: String,
    machine: String,
    boot: String,
}

/// `GET /`
pub async fn show(State(app): State<Arc<App>>) -> Result<Html<String>, ApiError> {
    let snapshot = app.live.fresh().await;
    let condition = app.store.condition().await;
    let page = Console {
        hostname: named(snapshot.hostname()),
        // Without its settings the page still is one.
        default_model: app
            .store
            .settings()
            .await
            .unwrap_or_default()
            .default_model
            .unwrap_or_default(),
        status: Status::from(&*snapshot).render()?,
        warnings: Warnings::new(&snapshot, condition.warning()).render()?,
        services: Services::from(&*snapshot).render()?,
        machine: Machine::from(&*snapshot).render()?,
        boot: Boot::from(&*snapshot).render()?,
    };
    Ok(Html(page.render()?))
}

/// A page that says one thing.
#[derive(Template)]
#[template(path = "message.html")]
pub struct Message {
    /// Headline.
    pub title: String,
    /// The thing.
    pub text: String,
}

/// The name in the title, before PID 1 has said one too.
pub fn named(hostname: &str) -> String {
    if hostname.is_empty() { "kos" } else { hostname }.to_owned()
}
