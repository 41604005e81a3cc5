//! Services as PID 1 runs them: validated, and as a set in which every name means something.

use std::collections::BTreeMap;

use crate::error::ManifestError;
use crate::seccomp::SyscallSets;
use crate::source::Source;

mod changes;
mod layers;
mod limits;
mod parse;
mod pressure;
mod references;
mod sandbox;
mod sockets;
mod supervision;
mod template;
mod timer;
mod types;

pub use changes::Change;
pub use types::*;

use parse::Draft;

/// More services than this on one box is a mistake, not an appliance.
const MAX_SERVICES: usize = 1024;

/// All services of a box, by name, in a set that holds together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServiceSet {
    services: BTreeMap<String, Service>,
}

impl ServiceSet {
    /// Parses the manifests of an image; each is `(file name, text)`.
    ///
    /// # Errors
    /// The first thing that is wrong, in the order of the files: a manifest by itself, then names,
    /// uids and sockets that are taken twice, references to nothing, and circles.
    pub fn parse<I>(image: I, sets: &SyscallSets) -> Result<Self, ManifestError>
    where
        I: IntoIterator<Item = (String, String)>,
    {
        let image: Vec<_> = image.into_iter().collect();
        let drafts = layer(&image, Origin::Image, sets)?;
        references::check(&drafts)?;
        Ok(Self::of(drafts))
    }

    /// Parses the manifests of an image and those of the box's owner; each is `(file name, text)`,
    /// and an error tells the two layers apart by the directories in the names that it was given.
    ///
    /// The image's hold together without the owner's. An owner's manifest of a new name may have
    /// less than an image's (see `docs/manifest.md`); one with the name of an image's service
    /// replaces that one's, and keeps its program, uid, credentials and sandbox.
    ///
    /// # Errors
    /// As [`ServiceSet::parse`], for the image's manifests first and then for all; and what an
    /// owner's manifest may not have.
    pub fn parse_layers<I, O>(image: I, owner: O, sets: &SyscallSets) -> Result<Self, ManifestError>
    where
        I: IntoIterator<Item = (String, String)>,
        O: IntoIterator<Item = (String, String)>,
    {
        let image: Vec<_> = image.into_iter().collect();
        let owner: Vec<_> = owner.into_iter().collect();
        let base = layer(&image, Origin::Image, sets)?;
        references::check(&base)?;
        let added = layer(&owner, Origin::Box, sets)?;
        let drafts = layers::merge(base, added)?;
        references::check(&drafts)?;
        Ok(Self::of(drafts))
    }

    fn of(drafts: BTreeMap<String, Draft<'_>>) -> Self {
        let services = drafts
            .into_iter()
            .map(|(name, draft)| (name, draft.service))
            .collect();
        ServiceSet { services }
    }

    /// One service.
    pub fn get(&self, name: &str) -> Option<&Service> {
        self.services.get(name)
    }

    /// All services, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Service> {
        self.services.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.services.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// What becomes of each service of either set when `new` takes the place of `old`, by name.
    pub fn changes<'a>(old: &'a ServiceSet, new: &'a ServiceSet) -> BTreeMap<&'a str, Change> {
        changes::between(&old.services, &new.services)
    }
}

/// The services of one layer's files, each name once.
fn layer<'a>(
    files: &'a [(String, String)],
    origin: Origin,
    sets: &SyscallSets,
) -> Result<BTreeMap<String, Draft<'a>>, ManifestError> {
    let mut drafts = BTreeMap::new();
    for (file, text) in files {
        for draft in parse::file(Source { file, text }, origin, sets)? {
            let name = draft.service.name.clone();
            if let Some(first) = drafts.get(&name) {
                let first: &Draft<'_> = first;
                let message = format!("found '{name}', which {} has already", first.source.file);
                return Err(draft.source.error("name", &draft.raw.name, message));
            }
            if drafts.len() == MAX_SERVICES {
                let message = format!("found one service more, allowed: {MAX_SERVICES}");
                return Err(draft.source.error("name", &draft.raw.name, message));
            }
            drafts.insert(name, draft);
        }
    }
    Ok(drafts)
}

#[cfg(test)]
mod tests;
