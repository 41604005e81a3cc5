//! What the box's owner may add to the image's services, and what of those the owner may change.
//!
//! An owner's manifest is written by whoever may operate the box, over the network and without a
//! look at the image. It must not be a way to more rights on the box than that: so a new service
//! gets less than an image's may have, and a changed one keeps what makes it what it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::Spanned;

use super::parse::{Draft, is_owner_uid};
use super::{ControlGrant, MAX_SERVICES, Service};
use crate::error::ManifestError;
use crate::raw::RawStep;

type Drafts<'a> = BTreeMap<String, Draft<'a>>;

/// Where the image's programs are.
const IMAGE_PROGRAMS: &str = "/bin";
/// Where programs are that the owner brought.
const OWNER_PROGRAMS: &str = "/data/programs";
/// What every service may be given to read.
const MODELS: &str = "/data/models";

/// Lays the owner's services over the image's.
pub(super) fn merge<'a>(image: Drafts<'a>, owner: Drafts<'a>) -> Result<Drafts<'a>, ManifestError> {
    for draft in owner.values() {
        match image.get(&draft.service.name) {
            Some(original) => changed(draft, &original.service)?,
            None => new(draft, &image)?,
        }
    }
    let mut all = image;
    for (name, draft) in owner {
        if !all.contains_key(&name) && all.len() == MAX_SERVICES {
            let message = format!("found one service more, allowed: {MAX_SERVICES}");
            return Err(draft.source.error("name", &draft.raw.name, message));
        }
        all.insert(name, draft);
    }
    Ok(all)
}

/// What a manifest with the name of an image's service must have in common with it.
fn changed(draft: &Draft<'_>, original: &Service) -> Result<(), ManifestError> {
    let (raw, service) = (&draft.raw, &draft.service);
    if service.program != original.program {
        let message = format!(
            "found '{}', allowed: the image's, '{}'",
            service.program.display(),
            original.program.display()
        );
        return Err(draft.source.error("program", &raw.program, message));
    }
    if service.uid != original.uid {
        return Err(draft.uid_error(format!(
            "found {}, allowed: the image's, {}",
            service.uid, original.uid
        )));
    }
    let at_name = |key: &str, message: String| Err(draft.source.error(key, &raw.name, message));
    if service.credentials != original.credentials {
        return at_name(
            "credentials",
            format!(
                "found [{}], allowed: the image's, [{}]",
                service.credentials.join(", "),
                original.credentials.join(", ")
            ),
        );
    }
    if service.sandbox != original.sandbox {
        let message = "found another one, allowed: the same as in the image's manifest";
        return at_name("sandbox", message.to_owned());
    }
    // They run with the service's rights and secrets.
    for (key, steps) in step_lists(draft) {
        programs(
            draft,
            key,
            steps.iter().map(|s| &s.program),
            &[IMAGE_PROGRAMS],
        )?;
    }
    Ok(())
}

/// What a manifest of a new name may have.
fn new(draft: &Draft<'_>, image: &Drafts<'_>) -> Result<(), ManifestError> {
    let (source, raw, service) = (&draft.source, &draft.raw, &draft.service);
    let at_name = |key: &str, message: &str| Err(source.error(key, &raw.name, message.to_owned()));
    if !is_owner_uid(service.uid) {
        return Err(draft.uid_error(format!(
            "found {}, allowed: 20000 to 59999 for a service that the image does not have",
            service.uid
        )));
    }
    if service.essential {
        return at_name(
            "essential",
            "found true, allowed: false, or a service of the image",
        );
    }
    if let Some(credential) = raw.credentials.first() {
        let message = format!("found '{}', allowed: none", credential.get_ref());
        return Err(source.error("credentials", credential, message));
    }
    if let Some(capability) = raw.sandbox.capabilities.first() {
        let message = format!("found '{}', allowed: none", capability.get_ref());
        return Err(source.error("sandbox.capabilities", capability, message));
    }
    if service.sandbox.control > ControlGrant::Observe {
        return at_name("sandbox.control", "found more, allowed: none, observe");
    }
    let both = [IMAGE_PROGRAMS, OWNER_PROGRAMS];
    programs(draft, "program", [&raw.program], &both)?;
    for (key, steps) in step_lists(draft) {
        programs(draft, key, steps.iter().map(|s| &s.program), &both)?;
    }
    programs(draft, "sandbox.execute", &raw.sandbox.execute, &both)?;
    let own =
        ["/data", "/data/cache", "/run/kos"].map(|parent| Path::new(parent).join(&service.name));
    for (text, path) in raw.sandbox.write.iter().zip(&service.sandbox.write) {
        if !own.iter().any(|directory| path.starts_with(directory)) {
            let own: Vec<_> = own.iter().map(|path| path.display().to_string()).collect();
            let message = format!(
                "found '{}', allowed: below {}",
                text.get_ref(),
                own.join(", ")
            );
            return Err(source.error("sandbox.write", text, message));
        }
    }
    let readable: Vec<PathBuf> = image
        .values()
        .filter(|other| other.service.sandbox.runtime)
        .map(|other| Path::new("/run/kos").join(&other.service.name))
        .chain([PathBuf::from(MODELS)])
        .chain(own)
        .collect();
    for (text, path) in raw.sandbox.read.iter().zip(&service.sandbox.read) {
        if !readable.iter().any(|directory| path.starts_with(directory)) {
            let allowed: Vec<_> = readable
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            let message = format!(
                "found '{}', allowed: below {}",
                text.get_ref(),
                allowed.join(", ")
            );
            return Err(source.error("sandbox.read", text, message));
        }
    }
    Ok(())
}

fn step_lists<'d>(draft: &'d Draft<'_>) -> [(&'static str, &'d [RawStep]); 2] {
    let steps = &draft.raw.steps;
    [
        ("steps.pre-start.program", &steps.pre_start),
        ("steps.post-stop.program", &steps.post_stop),
    ]
}

/// Programs that lie below one of the directories.
fn programs<'p>(
    draft: &Draft<'_>,
    key: &str,
    list: impl IntoIterator<Item = &'p Spanned<String>>,
    directories: &[&str],
) -> Result<(), ManifestError> {
    for program in list {
        let path = Path::new(program.get_ref());
        if !directories
            .iter()
            .any(|directory| path.starts_with(directory))
        {
            let message = format!(
                "found '{}', allowed: below {}",
                program.get_ref(),
                directories.join(" or ")
            );
            return Err(draft.source.error(key, program, message));
        }
    }
    Ok(())
}
