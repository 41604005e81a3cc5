//! Files named by what they hold, and the manifests that name models: Ollama's layout.
//!
//! `blobs/sha256-HEX` is whole and right, or not there: it is written as `…-partial`, synced, and
//! renamed only when its digest is what its name says. So are manifests. A cut of power at any
//! write leaves the old or the new; what nobody refers to is removed at the next start.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::Digest as _;
use thiserror::Error;

use super::digest::Digest;
use super::manifest::{MAX_MANIFEST, Manifest, read_text};
use super::name::Name;

/// Room that is left on the disk for everything else: logs, sessions, settings.
const RESERVE: u64 = 64 * 1024 * 1024;
/// How long a blob that no model has, or a part of one, waits for its model or its rest.
const KEEP_UNUSED: Duration = Duration::from_secs(24 * 60 * 60);
/// Most uploads whose rest is still to come.
const MAX_PARTIAL: usize = 16;
/// Most manifests looked at; a directory with more is a mistake.
const MAX_MANIFESTS: usize = 1000;

/// Why something is not stored.
#[derive(Debug, Error)]
pub enum Error {
    /// A file cannot be read or written.
    #[error("cannot {act} {path}: {source}")]
    Io {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is not enough room.
    #[error(
        "the disk has no room: {needed} bytes are to be written, {free} bytes are free, of which \
         {RESERVE} are kept for other things"
    )]
    Full {
        /// What is to be written.
        needed: u64,
        /// What is there.
        free: u64,
    },
    /// What came has another digest.
    #[error("digest mismatch, expected {expected}, got {found}")]
    Mismatch {
        /// By the name.
        expected: Digest,
        /// By the bytes.
        found: Digest,
    },
    /// Not where the part that is here ends.
    #[error("the upload goes on at byte {found}, allowed: 0 or {allowed}, where what is here ends")]
    Offset {
        /// As the client has it.
        found: u64,
        /// As it is.
        allowed: u64,
    },
    /// Too many uploads are half done, or this one is under way.
    #[error("{0}")]
    Busy(String),
}

impl Error {
    fn io(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { act, path, source }
    }
}

/// The directory.
#[derive(Debug)]
pub struct Store {
    blobs: PathBuf,
    manifests: PathBuf,
}

impl Store {
    pub(super) fn new(directory: &Path) -> Self {
        Self {
            blobs: directory.join("blobs"),
            manifests: directory.join("manifests"),
        }
    }

    /// Where a blob is, or would be.
    #[must_use]
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(digest.file_name())
    }

    fn partial(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(format!("{}-partial", digest.file_name()))
    }

    /// A blob's length, when it is here.
    #[must_use]
    pub fn length(&self, digest: &Digest) -> Option<u64> {
        Some(fs::metadata(self.blob(digest)).ok()?.len())
    }

    /// How much of a blob has come so far.
    #[must_use]
    pub fn partial_length(&self, digest: &Digest) -> u64 {
        fs::metadata(self.partial(digest)).map_or(0, |data| data.len())
    }

    /// Fails when `needed` more bytes do not fit.
    fn check_room(&self, needed: u64) -> Result<(), Error> {
        let found = rustix::fs::statvfs(&self.blobs)
            .map_err(|error| Error::io("look at", &self.blobs)(error.into()))?;
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        match needed.saturating_add(RESERVE) <= free {
            true => Ok(()),
            false => Err(Error::Full { needed, free }),
        }
    }

    /// Begins a blob, or goes on with it at `offset`. `length` is what is still to come, if known.
    ///
    /// # Errors
    /// When it does not fit, or what is here ends elsewhere.
    pub fn begin(
        &self,
        digest: &Digest,
        offset: u64,
        length: Option<u64>,
    ) -> Result<Writing<'_>, Error> {
        fs::create_dir_all(&self.blobs).map_err(Error::io("make", &self.blobs))?;
        let path = self.partial(digest);
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        // Two that write one file would spoil it. The lock ends with the file.
        file.try_lock()
            .map_err(|_| Error::Busy(format!("another upload of {digest} is under way")))?;
        let here = file.metadata().map_err(Error::io("read", &path))?.len();
        if here == 0 && self.partials() > MAX_PARTIAL {
            let _ = fs::remove_file(&path);
            let text = format!("{MAX_PARTIAL} uploads are half done; finish one of them first");
            return Err(Error::Busy(text));
        }
        self.check_room(length.unwrap_or(0))?;
        let mut hash = sha2::Sha256::new();
        match offset {
            0 => file.set_len(0).map_err(Error::io("cut", &path))?,
            offset if offset == here => {
                digested(&mut file, &mut hash).map_err(Error::io("read", &path))?;
            }
            found => {
                return Err(Error::Offset {
                    found,
                    allowed: here,
                });
            }
        }
        Ok(Writing {
            store: self,
            digest: digest.clone(),
            any: false,
            path,
            file,
            hash,
            unchecked: 0,
        })
    }

    fn partials(&self) -> usize {
        let entries = fs::read_dir(&self.blobs).into_iter().flatten().flatten();
        let partial = |name: std::ffi::OsString| name.to_string_lossy().ends_with("-partial");
        entries.filter(|entry| partial(entry.file_name())).count()
    }

    /// Stores a text.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::of(bytes);
        if self.length(&digest).is_none() {
            let mut writing = self.begin(&digest, 0, Some(bytes.len() as u64))?;
            writing.write(bytes)?;
            writing.finish()?;
        }
        Ok(digest)
    }

    /// Makes a blob of a file that lies elsewhere: by a link where that can be, else by a copy.
    ///
    /// # Errors
    /// When it cannot be read, or does not fit.
    pub fn take_in(&self, path: &Path) -> Result<Digest, Error> {
        fs::create_dir_all(&self.blobs).map_err(Error::io("make", &self.blobs))?;
        let mut file = File::open(path).map_err(Error::io("open", path))?;
        let mut hash = sha2::Sha256::new();
        let length = digested(&mut file, &mut hash).map_err(Error::io("read", path))?;
        let digest = Digest::finish(hash);
        if self.length(&digest).is_some() || fs::hard_link(path, self.blob(&digest)).is_ok() {
            return Ok(digest);
        }
        let mut file = File::open(path).map_err(Error::io("open", path))?;
        let mut writing = self.begin(&digest, 0, Some(length))?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer).map_err(Error::io("read", path))? {
                0 => break,
                read => writing.write(&buffer[..read])?,
            }
        }
        writing.finish()?;
        Ok(digest)
    }

    /// Reads a blob that is a text.
    pub(super) fn text(&self, digest: &Digest, most: u64) -> io::Result<String> {
        read_text(File::open(self.blob(digest))?, most)
    }

    /// A model's manifest as it is written; None when there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn manifest(&self, name: &Name) -> io::Result<Option<(Manifest, String, SystemTime)>> {
        let file = match File::open(self.manifests.join(name.path())) {
            Ok(file) => file,
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let modified = file
            .metadata()?
            .modified()
            .unwrap_or(SystemTime::UNIX_EPOCH);
        let text = read_text(file, MAX_MANIFEST)?;
        let manifest = serde_json::from_str(&text)
            .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        Ok(Some((manifest, text, modified)))
    }

    /// Every name that has a manifest.
    #[must_use]
    pub fn names(&self) -> Vec<Name> {
        let mut found = vec![(self.manifests.clone(), Vec::<String>::new())];
        let mut names = Vec::new();
        while let Some((directory, parts)) = found.pop() {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                let Ok(part) = entry.file_name().into_string() else {
                    continue;
                };
                let parts: Vec<_> = parts.iter().cloned().chain([part]).collect();
                if let [host, namespace, model, tag] = parts.as_slice() {
                    names.extend(Name::of_path([host, namespace, model, tag]));
                } else {
                    found.push((entry.path(), parts));
                }
                if names.len() + found.len() > MAX_MANIFESTS {
                    return names;
                }
            }
        }
        names
    }

    /// Gives a model its manifest, in place of the one that it had.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put_manifest(&self, name: &Name, manifest: &Manifest) -> Result<(), Error> {
        let path = self.manifests.join(name.path());
        let directory = path.parent().unwrap_or(&self.manifests);
        fs::create_dir_all(directory).map_err(Error::io("make", directory))?;
        // No tag begins with a dot.
        let new = directory.join(".new");
        let text = serde_json::to_vec(manifest)
            .map_err(|error| Error::io("write", &path)(error.into()))?;
        write_synced(&new, &text).map_err(Error::io("write", &new))?;
        fs::rename(&new, &path).map_err(Error::io("name", &path))?;
        sync(directory).map_err(Error::io("sync", directory))?;
        // Directories that are new have a name to be kept, too.
        for parent in directory.ancestors().skip(1).take(3) {
            sync(parent).map_err(Error::io("sync", parent))?;
        }
        Ok(())
    }

    /// Removes a model's manifest, and the blobs that no other model has.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, name: &Name) -> Result<(), Error> {
        let path = self.manifests.join(name.path());
        let manifest = self.manifest(name).map_err(Error::io("read", &path))?;
        fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        let directory = path.parent().unwrap_or(&self.manifests);
        sync(directory).map_err(Error::io("sync", directory))?;
        // Empty ones go, too; one that is not stays.
        for directory in directory.ancestors().take(3) {
            if fs::remove_dir(directory).is_err() {
                break;
            }
        }
        let Some(used) = self.used() else {
            return Ok(());
        };
        let gone = manifest
            .into_iter()
            .flat_map(|(manifest, _, _)| manifest.digests().collect::<Vec<_>>());
        for digest in gone.filter(|digest| !used.contains(digest)) {
            let _ = fs::remove_file(self.blob(&digest));
        }
        Ok(())
    }

    /// All blobs that a model has; None when a manifest cannot be read, and so nobody knows.
    fn used(&self) -> Option<BTreeSet<Digest>> {
        let mut used = BTreeSet::new();
        for name in self.names() {
            if let Some((manifest, _, _)) = self.manifest(&name).ok()? {
                used.extend(manifest.digests());
            }
        }
        Some(used)
    }

    /// Removes what was left behind: blobs that no model has, and parts of some, after a day.
    pub fn clean(&self) {
        let Some(used) = self.used() else { return };
        for entry in fs::read_dir(&self.blobs).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let digest = Digest::parse(&name.to_string_lossy());
            let modified = entry.metadata().and_then(|data| data.modified());
            let age = modified.ok().and_then(|time| time.elapsed().ok());
            let old = age.is_some_and(|age| age > KEEP_UNUSED);
            if old && digest.is_none_or(|digest| !used.contains(&digest)) {
                tracing::info!("removed {}: no model has it", name.display());
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// A blob that is being written.
#[derive(Debug)]
pub struct Writing<'a> {
    store: &'a Store,
    digest: Digest,
    /// Whether the digest is only a label until the bytes say theirs.
    any: bool,
    path: PathBuf,
    file: File,
    hash: sha2::Sha256,
    unchecked: u64,
}

impl Writing<'_> {
    /// Takes the digest that the bytes will have; the one it began with only names the part.
    #[must_use]
    pub fn labelled(mut self) -> Self {
        self.any = true;
        self
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// When they cannot be written, or the disk is near its end.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        // Its length may not have been said, and others write, too.
        self.unchecked += bytes.len() as u64;
        if self.unchecked >= RESERVE / 4 {
            self.unchecked = 0;
            self.store.check_room(bytes.len() as u64)?;
        }
        self.hash.update(bytes);
        self.file
            .write_all(bytes)
            .map_err(Error::io("write", &self.path))
    }

    /// Makes it a blob, when it is what its name says; else it is removed. Returns its digest.
    ///
    /// # Errors
    /// When it is not, or cannot be made durable.
    pub fn finish(self) -> Result<Digest, Error> {
        let found = Digest::finish(self.hash);
        if found != self.digest && !self.any {
            let _ = fs::remove_file(&self.path);
            return Err(Error::Mismatch {
                expected: self.digest,
                found,
            });
        }
        self.file
            .sync_all()
            .map_err(Error::io("sync", &self.path))?;
        let blob = self.store.blob(&found);
        fs::rename(&self.path, &blob).map_err(Error::io("name", &blob))?;
        sync(&self.store.blobs).map_err(Error::io("sync", &self.store.blobs))?;
        Ok(found)
    }
}

/// Reads a file to its end into a digest; returns how much that was.
fn digested(file: &mut File, hash: &mut sha2::Sha256) -> io::Result<u64> {
    let mut buffer = vec![0; 1 << 20];
    let mut length = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(length),
            read => {
                hash.update(&buffer[..read]);
                length += read as u64;
            }
        }
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path());
        (directory, store)
    }

    #[test]
    fn an_upload_goes_on_where_it_broke_off() {
        let (_directory, store) = store();
        let digest = Digest::of(b"hello world");
        let mut first = store.begin(&digest, 0, Some(11)).unwrap();
        first.write(b"hello ").unwrap();
        assert!(matches!(store.begin(&digest, 6, None), Err(Error::Busy(_))));
        drop(first);
        assert_eq!(store.length(&digest), None);
        assert_eq!(store.partial_length(&digest), 6);
        let wrong = store.begin(&digest, 3, None).unwrap_err();
        assert!(
            wrong.to_string().contains("byte 3, allowed: 0 or 6"),
            "{wrong}"
        );
        let mut rest = store.begin(&digest, 6, Some(5)).unwrap();
        rest.write(b"world").unwrap();
        rest.finish().unwrap();
        assert_eq!(store.length(&digest), Some(11));
        assert_eq!(store.partial_length(&digest), 0);
    }

    #[test]
    fn bytes_of_an_unknown_digest_get_their_own() {
        let (_directory, store) = store();
        let label = Digest::of(b"where it comes from");
        let mut first = store.begin(&label, 0, None).unwrap().labelled();
        first.write(b"hel").unwrap();
        drop(first);
        let mut rest = store.begin(&label, 3, None).unwrap().labelled();
        rest.write(b"lo").unwrap();
        assert_eq!(rest.finish().unwrap(), Digest::of(b"hello"));
        assert_eq!(store.length(&Digest::of(b"hello")), Some(5));
        assert_eq!(
            (store.length(&label), store.partial_length(&label)),
            (None, 0)
        );
    }

    #[test]
    fn what_is_not_what_it_says_is_not_kept() {
        let (_directory, store) = store();
        let digest = Digest::of(b"hello");
        let mut writing = store.begin(&digest, 0, None).unwrap();
        writing.write(b"hallo").unwrap();
        assert!(matches!(writing.finish(), Err(Error::Mismatch { .. })));
        assert_eq!(
            (store.length(&digest), store.partial_length(&digest)),
            (None, 0)
        );
        let full = store.begin(&digest, 0, Some(u64::MAX / 2)).unwrap_err();
        assert!(matches!(full, Error::Full { .. }), "{full}");
    }

    #[test]
    fn only_what_nobody_has_goes_with_a_model() {
        let (_directory, store) = store();
        let [shared, own] = [b"shared".as_slice(), b"own"].map(|text| store.put(text).unwrap());
        let layer = |digest: &Digest| Layer::new(Kind::Model, digest, 1);
        let [a, b] = ["a", "x/b:1"].map(|name| Name::parse(name).unwrap());
        let one = Manifest::new(layer(&shared), vec![layer(&own)]);
        store.put_manifest(&a, &one).unwrap();
        store
            .put_manifest(&b, &Manifest::new(layer(&shared), Vec::new()))
            .unwrap();
        let mut names = store.names();
        names.sort();
        assert_eq!(names, [a.clone(), b.clone()]);
        store.remove(&a).unwrap();
        assert_eq!(store.names(), [b]);
        assert_eq!((store.length(&shared), store.length(&own)), (Some(6), None));
        // What is new may be waiting for its model.
        let waiting = store.put(b"waiting").unwrap();
        store.clean();
        assert_eq!(store.length(&waiting), Some(7));
        let old = SystemTime::now() - KEEP_UNUSED - Duration::from_secs(1);
        let file = File::options()
            .write(true)
            .open(store.blob(&waiting))
            .unwrap();
        file.set_modified(old).unwrap();
        store.clean();
        assert_eq!(
            (store.length(&waiting), store.length(&shared)),
            (None, Some(6))
        );
    }

    use super::super::manifest::{Kind, Layer};
}
