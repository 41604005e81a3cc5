//! One manifest by itself: from what is written to services that hold together with nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use toml::Spanned;

use super::{Conditions, Origin, Service, limits, pressure, sandbox, sockets, supervision, timer};
use crate::error::{ManifestError, parse_toml};
use crate::raw::{RawConditions, RawService, ServiceName, Text};
use crate::seccomp::SyscallSets;
use crate::source::Source;

/// Largest manifest, in bytes.
const MAX_MANIFEST_BYTES: usize = 64 * 1024;
/// Longest description: a line on the console.
const MAX_DESCRIPTION: usize = 200;
/// Longest argument or value in the environment, in bytes: all of them together are in the
/// manifest, whose own limit is about the same.
pub(super) const MAX_ARGUMENT: usize = 32 * 1024;
/// Longest name of a service that is no instance; also that of most things in a manifest.
const MAX_NAME: usize = 32;
/// Longest name of an instance: with the template's and the `@` it fits into a host name of 64.
const MAX_INSTANCE: usize = 24;
/// Names of logs that are not services', and of what else lives in `/run/kos` and `/data`.
const RESERVED_NAMES: [&str; 17] = [
    "boot",
    "boots",
    "cache",
    "credentials",
    "init",
    "kernel",
    "log",
    "models",
    "notify",
    "profile",
    "programs",
    "pstore",
    "read-only-disk",
    "records",
    "services",
    "sockets",
    "system",
];
/// Ids below belong to the system and to people, ids above the owner's to user namespaces.
const IMAGE_UIDS: RangeInclusive<u32> = 1000..=19_999;
const OWNER_UIDS: RangeInclusive<u32> = 20_000..=59_999;
/// What PID 1 can hand out: the code of this boot, and the owner's settings from the boot partition.
const CREDENTIALS: [&str; 4] = [
    "pairing-code",
    "owner-key",
    "network-settings",
    "wifi-settings",
];
const PROFILES: [&str; 5] = ["standalone", "browser", "embedded", "server", "cluster"];
/// What PID 1 puts into the environment: a manifest that did so too would be overruled silently.
const OWN_VARIABLES: [&str; 12] = [
    "CACHE_DIRECTORY",
    "CREDENTIALS_DIRECTORY",
    "CREDENTIALS_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LOGS_DIRECTORY",
    "NOTIFY_SOCKET",
    "RUNTIME_DIRECTORY",
    "STATE_DIRECTORY",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// A validated service with what it was made from, to point into when it does not fit to others.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub source: Source<'a>,
    pub raw: RawService,
    pub service: Service,
}

impl Draft<'_> {
    /// What is wrong with the service's uid.
    pub fn uid_error(&self, message: String) -> ManifestError {
        let instance = self.service.instance_of.as_ref().map(|(_, name)| name);
        let of_instance = self
            .raw
            .instances
            .iter()
            .find(|(name, _)| Some(name.get_ref()) == instance);
        match (&self.raw.uid, of_instance) {
            (Some(uid), _) => self.source.error("uid", uid, message),
            (None, Some((_, uid))) => self.source.error("instances", uid, message),
            (None, None) => self.source.error("name", &self.raw.name, message),
        }
    }
}

/// Parses one file: a service, or all instances of a template.
pub(super) fn file<'a>(
    source: Source<'a>,
    origin: Origin,
    sets: &SyscallSets,
) -> Result<Vec<Draft<'a>>, ManifestError> {
    source.at_most(MAX_MANIFEST_BYTES)?;
    let raw: RawService = parse_toml(source.file, source.text)?;
    let written = raw.name.get_ref();
    check_name(&source, &raw.name)?;
    let Some(template) = written.strip_suffix('@') else {
        if let Some((instance, _)) = raw.instances.first_key_value() {
            let message = "found one, allowed: only in a template, whose name ends in '@'";
            return Err(source.error("instances", instance, message.to_owned()));
        }
        let Some(uid) = raw.uid.clone() else {
            let message = "found none, allowed: a uid".to_owned();
            return Err(source.error("uid", &raw.name, message));
        };
        check_uid(&source, "uid", &uid, origin)?;
        let service = service(&source, &raw, written.clone(), *uid.get_ref(), origin, sets)?;
        return Ok(vec![Draft {
            source,
            raw,
            service,
        }]);
    };
    if let Some(uid) = &raw.uid {
        let message = "found one, allowed: none in a template, whose instances have their own";
        return Err(source.error("uid", uid, message.to_owned()));
    }
    if raw.instances.is_empty() {
        let message = "found none, allowed: at least one in a template".to_owned();
        return Err(source.error("instances", &raw.name, message));
    }
    let mut drafts = Vec::new();
    for (instance, uid) in &raw.instances {
        let allowed = "at most 24 lower-case letters, digits and dashes";
        source.word("instances", instance, allowed, |name| {
            is_plain(name, MAX_INSTANCE)
        })?;
        check_uid(&source, "instances", uid, origin)?;
        let filled = raw.instance(instance.get_ref());
        let name = format!("{written}{}", instance.get_ref());
        let mut service = service(&source, &filled, name, *uid.get_ref(), origin, sets)?;
        service.instance_of = Some((template.to_owned(), instance.get_ref().clone()));
        drafts.push(Draft {
            source,
            raw: filled,
            service,
        });
    }
    Ok(drafts)
}

/// Lower-case letters, digits and dashes, a few of them.
pub(super) fn is_plain(name: &str, most: usize) -> bool {
    let letters = name
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    letters && !name.is_empty() && name.len() <= most
}

/// A name below `/dev`, or one of a board: nothing in it can climb, or end a line.
pub(super) fn is_node(name: &str) -> bool {
    name.len() <= 64
        && name.split('/').all(|part| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
            !part.is_empty() && part.bytes().all(plain)
        })
}

fn service(
    source: &Source<'_>,
    raw: &RawService,
    name: String,
    uid: u32,
    origin: Origin,
    sets: &SyscallSets,
) -> Result<Service, ManifestError> {
    let requires = words(&raw.requires);
    let after: BTreeSet<String> = words(&raw.after)
        .into_iter()
        .chain(requires.clone())
        .collect();
    let mut credentials = Vec::new();
    for credential in &raw.credentials {
        credentials.push(source.one_of("credentials", credential, &CREDENTIALS)?);
    }
    let sandbox = sandbox::parse(source, &raw.sandbox, sets)?;
    let sockets = sockets::parse(source, &raw.sockets, &name, &sandbox)?;
    let (pre_start, post_stop) = supervision::steps(source, &raw.steps)?;
    Ok(Service {
        program: source.path("program", &raw.program)?,
        description: source.text("description", &raw.description, MAX_DESCRIPTION)?,
        args: arguments(source, "args", &raw.args)?,
        uid,
        instance_of: None,
        origin,
        enabled: raw.enabled,
        essential: raw.essential,
        after: after.into_iter().collect(),
        requires,
        wants: words(&raw.wants),
        stop_before: words(&raw.stop_before),
        environment: environment(source, &raw.environment)?,
        credentials,
        conditions: conditions(source, &raw.conditions)?,
        readiness: supervision::readiness(source, &raw.readiness, &name, &sandbox, &sockets)?,
        watchdog: match &raw.watchdog {
            None => None,
            some => Some(source.time(
                "watchdog",
                some.as_ref(),
                Duration::ZERO,
                // Shorter than a tenth of a second, a loaded machine's scheduler would miss it.
                Duration::from_millis(100)..=Duration::from_secs(3600),
            )?),
        },
        restart: supervision::restart(source, &raw.restart)?,
        stop: supervision::stop(source, &raw.stop)?,
        pre_start,
        post_stop,
        sockets,
        timer: match &raw.timer {
            None => None,
            Some(timer) => Some(timer::parse(source, timer, &raw.name)?),
        },
        limits: limits::parse(source, &raw.limits)?,
        pressure: pressure::parse(source, &raw.pressure)?,
        sandbox,
        name,
    })
}

fn check_name(source: &Source<'_>, raw: &Spanned<String>) -> Result<(), ManifestError> {
    let written = raw.get_ref();
    let name = written.strip_suffix('@').unwrap_or(written);
    let allowed = "at most 32 lower-case letters, digits and dashes, a letter first";
    source.word("name", raw, allowed, |_| {
        is_plain(name, MAX_NAME) && name.starts_with(|c: char| c.is_ascii_lowercase())
    })?;
    if RESERVED_NAMES.contains(&name) {
        let message = format!(
            "found '{written}', allowed: any other than {}",
            RESERVED_NAMES.join(", ")
        );
        return Err(source.error("name", raw, message));
    }
    let stem = Path::new(source.file)
        .file_stem()
        .and_then(|stem| stem.to_str());
    if stem != Some(written) {
        let message = format!(
            "found '{written}', allowed: the file's name, '{}'",
            stem.unwrap_or("")
        );
        return Err(source.error("name", raw, message));
    }
    Ok(())
}

fn check_uid(
    source: &Source<'_>,
    key: &str,
    uid: &Spanned<u32>,
    origin: Origin,
) -> Result<(), ManifestError> {
    // What an owner's manifest may have besides depends on whether the image has the service, too.
    let allowed = match origin {
        Origin::Image => *IMAGE_UIDS.start()..=*IMAGE_UIDS.end(),
        Origin::Box => *IMAGE_UIDS.start()..=*OWNER_UIDS.end(),
    };
    source
        .in_range(key, Some(uid), 0, allowed)
        .map(|_checked| ())
}

/// Whether a uid is one for services that the owner adds.
pub(super) fn is_owner_uid(uid: u32) -> bool {
    OWNER_UIDS.contains(&uid)
}

/// The list as it is written; whether the names mean something is seen when all are known.
fn words(list: &[ServiceName]) -> Vec<String> {
    list.iter().map(|word| word.get_ref().clone()).collect()
}

/// Arguments of a program.
pub(super) fn arguments(
    source: &Source<'_>,
    key: &str,
    list: &[Text],
) -> Result<Vec<String>, ManifestError> {
    list.iter()
        .map(|argument| argument_text(source, key, argument))
        .collect()
}

/// Line breaks are welcome in an argument (a prompt, a query); a NUL cannot be handed over.
fn argument_text(source: &Source<'_>, key: &str, raw: &Text) -> Result<String, ManifestError> {
    let allowed = "a text without NUL, at most 32 KiB";
    source.word(key, raw, allowed, |text| {
        text.len() <= MAX_ARGUMENT && !text.contains('\0')
    })
}

fn environment(
    source: &Source<'_>,
    raw: &BTreeMap<Spanned<String>, Text>,
) -> Result<BTreeMap<String, String>, ManifestError> {
    let mut environment = BTreeMap::new();
    for (name, value) in raw {
        let allowed = "a name of letters, digits and '_', no digit first";
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let name = source.word("environment", name, allowed, |name| {
            name.bytes().all(plain)
                && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && name.len() <= 128
        })?;
        let key = format!("environment.{name}");
        if OWN_VARIABLES.contains(&name.as_str()) || name.starts_with("KOS_") {
            let message = format!("found '{name}', allowed: a name that PID 1 does not set itself");
            return Err(source.error(&key, value, message));
        }
        environment.insert(name, argument_text(source, &key, value)?);
    }
    Ok(environment)
}

fn conditions(source: &Source<'_>, raw: &RawConditions) -> Result<Conditions, ManifestError> {
    let each = |key: &str, list: &[Spanned<String>], allowed: &str, fits: fn(&str) -> bool| {
        list.iter()
            .map(|word| source.word(key, word, allowed, fits))
            .collect::<Result<Vec<_>, _>>()
    };
    Ok(Conditions {
        profiles: raw
            .profiles
            .iter()
            .map(|profile| source.one_of("conditions.profiles", profile, &PROFILES))
            .collect::<Result<_, _>>()?,
        boards: each(
            "conditions.boards",
            &raw.boards,
            "a board's name, of letters, digits, '-' and '_'",
            |name| is_node(name) && !name.contains('/'),
        )?,
        devices: each(
            "conditions.devices",
            &raw.devices,
            "a name below /dev",
            is_node,
        )?,
    })
}
