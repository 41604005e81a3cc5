//! Which path leads where, and through which checks.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{any, delete, get, post};

use crate::api::{
    boots, events, journal, logs, manifests, owner, reset, services, sessions, settings, system,
};
use crate::app::App;
use crate::console::{
    actions, boots as boots_page, journal_page, log_page, operator, page, pairing,
    reset as reset_page, service_page, stream,
};
use crate::{assets, guard, proxy, registry};

/// Largest body of our own routes: names, codes and settings.
pub const MAX_BODY: usize = 64 * 1024;

/// Everything: console, `/api/v1`, Ollama's and OpenAI's routes.
pub fn console(app: Arc<App>) -> Router {
    let api = Router::new()
        .route("/system", get(system::show))
        .route("/system/{act}", post(system::power))
        .route("/system/factory-reset", post(reset::reset))
        .route("/services", get(services::list))
        .route("/services/{name}", get(services::show))
        .route("/services/{name}/{action}", post(services::act))
        .route("/services/{name}/kill", post(services::kill))
        .route("/services/{name}/facts", get(manifests::facts))
        .route(
            "/services/{name}/manifest",
            get(manifests::show)
                .put(manifests::replace)
                .delete(manifests::remove),
        )
        .route("/reload", post(manifests::reload))
        .route("/services/{name}/log", get(logs::read))
        .route("/logs", get(journal::list))
        .route("/logs/follow", get(journal::follow))
        .route("/logs/download", get(journal::download))
        .route("/boots", get(boots::list))
        .route("/events", get(events::follow))
        .route("/sessions", get(sessions::list))
        .route("/sessions/{id}", delete(sessions::end))
        .route("/settings", get(settings::show).put(settings::replace))
        // Not a fallback: the pass-through below would take what this nest leaves over.
        .route("/{*rest}", any(services::no_such_route));
    let own = Router::new()
        .nest("/api/v1", api)
        .route("/", get(page::show))
        .route("/console/stream", get(stream::follow))
        .route("/logs", get(journal_page::show))
        .route("/logs/{name}", get(log_page::show))
        .route("/services/{name}", get(service_page::show))
        .route("/services/{name}/now", get(service_page::now))
        .route(
            "/services/{name}/manifest",
            get(service_page::back).post(service_page::save),
        )
        .route(
            "/services/{name}/remove",
            get(service_page::back).post(service_page::remove),
        )
        .route(
            "/services/{name}/reload",
            get(service_page::back).post(service_page::reload),
        )
        .route("/services/{name}/{action}", post(actions::service))
        .route("/boots", get(boots_page::show))
        .route("/operator", get(operator::show))
        .route("/operator/reload", post(operator::reload))
        .route("/power", get(actions::power_page))
        .route("/power/{act}", post(actions::power))
        .route(
            "/factory-reset",
            get(reset_page::open).post(reset_page::submit),
        )
        .route("/sessions", get(actions::sessions))
        .route("/sessions/{id}/end", post(actions::end_session))
        .layer(from_fn(guard::time_limit));
    let private = own
        .merge(models())
        .layer(from_fn_with_state(Arc::clone(&app), guard::identity));
    let public = Router::new()
        .route("/pair", get(pairing::open).post(pairing::submit))
        .route("/pair/key", post(pairing::with_key))
        .route("/api/v1/owner/challenge", post(owner::challenge))
        .route("/api/v1/owner/session", post(owner::session))
        .route("/assets/{name}", get(assets::get))
        .layer(from_fn(guard::time_limit));
    finish(private.merge(public).fallback(services::no_such_route), app)
}

/// Ollama's and OpenAI's routes. What needs the network is done here, the rest by the inference
/// service.
fn models() -> Router<Arc<App>> {
    Router::new()
        .route("/api/pull", post(registry::pull))
        .route("/api/push", post(registry::push))
        .route("/api/{*rest}", any(proxy::pass))
        .route("/v1/{*rest}", any(proxy::pass))
}

/// The models' routes only.
pub fn ollama(app: Arc<App>) -> Router {
    let private = Router::new()
        .route("/", any(proxy::pass))
        .merge(models())
        .layer(from_fn_with_state(Arc::clone(&app), guard::identity));
    finish(private.fallback(services::no_such_route), app)
}

fn finish(router: Router<Arc<App>>, app: Arc<App>) -> Router {
    router
        .route("/healthz", get(async || "ok\n"))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn_with_state(Arc::clone(&app), guard::origin))
        .layer(from_fn(guard::pages))
        .layer(from_fn(guard::headers))
        .with_state(app)
}
