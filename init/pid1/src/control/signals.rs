//! News as D-Bus signals.

use std::collections::HashMap;

use kos_manifest::control::{OBJECT_PATH, ReloadReport};
use zbus::{Message, Variant};

use crate::control::call::path_of;
use crate::control::error::ControlError;
use crate::control::manager::MANAGER;
use crate::control::path::{self, Object};
use crate::control::realm::Realm;
use crate::control::service::{self, SERVICE};
use crate::control::standard::{self, OBJECT_MANAGER, PROPERTIES};
use crate::news::News;

/// The signals that tell a piece of news, in order.
///
/// # Errors
/// When one cannot be written down.
pub fn of<R: Realm>(news: &News, realm: &R) -> Result<Vec<Message>, ControlError> {
    match news {
        News::Changed { name, was, now } => {
            let mut signals = Vec::new();
            let changed: HashMap<_, _> = service::changed(was, now).into_iter().collect();
            if !changed.is_empty() {
                signals.push(properties_changed(name, &changed, &[])?);
            }
            if was.state != now.state || was.reason != now.reason {
                let body = (name.as_str(), now.state.as_str(), now.reason.as_str());
                signals.push(manager("ServiceStateChanged", &body)?);
            }
            Ok(signals)
        }
        News::Reloaded(report) => reloaded(report, realm),
        News::GoingDown { end, reason } => {
            Ok(vec![manager("GoingDown", &(*end, reason.as_str()))?])
        }
    }
}

fn reloaded<R: Realm>(report: &ReloadReport, realm: &R) -> Result<Vec<Message>, ControlError> {
    let mut signals = Vec::new();
    for name in &report.removed {
        let gone: Vec<&str> = standard::of(&Object::Service(String::new()))
            .iter()
            .map(|interface| interface.name)
            .chain([SERVICE.name])
            .collect();
        let body = (path_of(name)?, gone);
        signals.push(signal(
            OBJECT_PATH,
            OBJECT_MANAGER.name,
            "InterfacesRemoved",
            &body,
        )?);
    }
    for name in &report.added {
        // It may be gone again by now; then its removal is told next.
        if let Ok(facts) = realm.facts(name) {
            let body = (path_of(name)?, standard::interfaces(&facts));
            signals.push(signal(
                OBJECT_PATH,
                OBJECT_MANAGER.name,
                "InterfacesAdded",
                &body,
            )?);
        }
    }
    for name in report.restarted.iter().chain(&report.updated) {
        signals.push(properties_changed(
            name,
            &HashMap::new(),
            &service::of_manifest(),
        )?);
    }
    signals.push(manager("Reloaded", &(report,))?);
    Ok(signals)
}

fn properties_changed(
    name: &str,
    changed: &HashMap<&'static str, Variant<'static>>,
    invalidated: &[&str],
) -> Result<Message, ControlError> {
    let body = (SERVICE.name, changed, invalidated);
    signal(
        &path::of_service(name),
        PROPERTIES.name,
        "PropertiesChanged",
        &body,
    )
}

fn manager<B>(name: &str, body: &B) -> Result<Message, ControlError>
where
    B: serde::Serialize + zbus::wire::DynamicType,
{
    signal(OBJECT_PATH, MANAGER.name, name, body)
}

fn signal<B>(path: &str, interface: &str, name: &str, body: &B) -> Result<Message, ControlError>
where
    B: serde::Serialize + zbus::wire::DynamicType,
{
    Message::signal(path, interface, name)
        .build(body)
        .map_err(|error| ControlError::Failed(error.to_string()))
}
