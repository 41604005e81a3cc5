//! What makes services a set: uids and sockets that belong to one, names that exist, and an order
//! in which all can start and all can stop.

use std::collections::BTreeMap;

use super::Address;
use super::parse::Draft;
use super::sockets::collide;
use crate::error::ManifestError;
use crate::order;

type Drafts<'a> = BTreeMap<String, Draft<'a>>;

pub(super) fn check(drafts: &Drafts<'_>) -> Result<(), ManifestError> {
    uids(drafts)?;
    sockets(drafts)?;
    names(drafts)?;
    start_order(drafts)?;
    stop_order(drafts)
}

fn uids(drafts: &Drafts<'_>) -> Result<(), ManifestError> {
    let mut owners: BTreeMap<u32, &str> = BTreeMap::new();
    for (name, draft) in drafts {
        let uid = draft.service.uid;
        if let Some(other) = owners.insert(uid, name) {
            let message = format!("found {uid}, which is the uid of '{other}' already");
            return Err(draft.uid_error(message));
        }
    }
    Ok(())
}

fn sockets(drafts: &Drafts<'_>) -> Result<(), ManifestError> {
    let mut kept: Vec<(&str, &Address)> = Vec::new();
    for (name, draft) in drafts {
        for (socket, raw) in draft.service.sockets.iter().zip(&draft.raw.sockets) {
            let error = |other: &str, how: &str| {
                let message = format!("found '{}', {how} '{other}'", raw.listen.get_ref());
                Err(draft.source.error("sockets.listen", &raw.listen, message))
            };
            let taken = kept
                .iter()
                .find(|(_, address)| collide(address, &socket.address));
            if let Some((other, _)) = taken {
                return error(other, "which collides with a socket of");
            }
            if let Address::Tcp(address) = &socket.address {
                let port = address.port();
                let listens = |other: &Draft<'_>| other.service.sandbox.listen.contains(&port);
                if let Some((other, _)) = drafts.iter().find(|(_, other)| listens(other)) {
                    return error(other, "whose port is in 'sandbox.listen' of");
                }
            }
            kept.push((name, &socket.address));
        }
    }
    Ok(())
}

fn names(drafts: &Drafts<'_>) -> Result<(), ManifestError> {
    for draft in drafts.values() {
        let raw = &draft.raw;
        for (key, names) in [
            ("after", &raw.after),
            ("requires", &raw.requires),
            ("wants", &raw.wants),
            ("stop-before", &raw.stop_before),
        ] {
            for name in names {
                if *name.get_ref() == draft.service.name {
                    let message = format!("found '{}', allowed: other services", name.get_ref());
                    return Err(draft.source.error(key, name, message));
                }
                if !drafts.contains_key(name.get_ref()) {
                    let allowed: Vec<&str> = drafts.keys().map(String::as_str).collect();
                    let message = format!(
                        "found {:?}, allowed: {}",
                        name.get_ref(),
                        allowed.join(", ")
                    );
                    return Err(draft.source.error(key, name, message));
                }
            }
        }
    }
    Ok(())
}

fn start_order(drafts: &Drafts<'_>) -> Result<(), ManifestError> {
    let edges = drafts
        .iter()
        .map(|(name, draft)| (name.as_str(), draft.service.after.as_slice()));
    match order::circle(edges) {
        None => Ok(()),
        Some(circle) => Err(circle_error(drafts, "after", "the order", &circle)),
    }
}

/// A service is stopped after those that come after it, and after those that are to be stopped
/// before it: these two orders together must have no circle either.
fn stop_order(drafts: &Drafts<'_>) -> Result<(), ManifestError> {
    let mut stopped_after: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, draft) in drafts {
        stopped_after.entry(name).or_default();
        for earlier in draft.service.after.iter().chain(&draft.service.stop_before) {
            stopped_after.entry(earlier).or_default().push(name.clone());
        }
    }
    let edges = stopped_after
        .iter()
        .map(|(name, others)| (*name, others.as_slice()));
    match order::circle(edges) {
        None => Ok(()),
        Some(circle) => Err(circle_error(
            drafts,
            "stop-before",
            "the order of stopping",
            &circle,
        )),
    }
}

fn circle_error(drafts: &Drafts<'_>, key: &str, order: &str, circle: &[&str]) -> ManifestError {
    let message = format!(
        "{order} runs in a circle: {}, allowed: none",
        circle.join(" -> ")
    );
    // The error points at a name in the list that closes the circle, where there is one.
    for name in circle {
        let Some(draft) = drafts.get(*name) else {
            continue;
        };
        let raw = &draft.raw;
        let mut lists = match key {
            "stop-before" => vec![&raw.stop_before],
            _ => vec![&raw.after, &raw.requires],
        };
        let in_circle = lists
            .drain(..)
            .flatten()
            .find(|other| circle.contains(&other.get_ref().as_str()));
        if let Some(at) = in_circle {
            return draft.source.error(key, at, message);
        }
    }
    ManifestError {
        file: "services".to_owned(),
        place: None,
        key: key.to_owned(),
        message,
    }
}
