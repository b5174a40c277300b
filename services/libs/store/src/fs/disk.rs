//! The files. Everything that is answered for is synced first, directories included.

use std::{
    collections::BinaryHeap,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt},
    path::{Component, Path, PathBuf},
};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use rustix::fs::{FlockOperation, flock};
use serde::{Serialize, de::DeserializeOwned};

use super::meta::{Begun, Meta, PartMeta};
use crate::{Crc64Nvme, ErrorKind, KeyPage, NewObject, Part, Result, StoreError};

/// The most keys that are listed at once.
const PAGE: usize = 10_000;
/// What the folder of an upload that is being dropped is renamed to.
const ABORTED: &str = "aborted";
/// How long an upload is kept that is not completed.
pub const UNFINISHED: SignedDuration = SignedDuration::from_hours(60 * 24);

pub struct Disk {
    root: PathBuf,
    _lock: File,
}

impl Disk {
    pub fn open(root: PathBuf, now: Timestamp) -> Result<Self> {
        let name = root.display().to_string();
        let own = root.join(".caselock");
        let open = || -> io::Result<File> {
            fs::create_dir_all(own.join("multipart"))?;
            File::create(own.join("lock"))
        };
        let lock = open().map_err(|e| failed(&name, &e))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| StoreError::new(ErrorKind::Unavailable, &name, "another process uses this directory"))?;
        remove_unfinished(&own.join("multipart"), now).map_err(|e| failed(&name, &e))?;
        Ok(Self { root, _lock: lock })
    }

    pub fn begin(&self, key: &str, id: &str, new: &NewObject) -> Result<()> {
        self.object(key)?;
        let dir = self.multipart(id)?;
        let begun = Begun {
            key: key.to_owned(),
            content_type: new.content_type.clone(),
            part_size: new.part_size,
            lock_until: new.lock_until,
        };
        let make = || -> io::Result<()> {
            fs::create_dir(&dir)?;
            File::create(dir.join("data"))?;
            write_json(&dir.join("begun.json"), &begun)?;
            sync_parents(&dir, &self.root)
        };
        make().map_err(|e| failed(key, &e))
    }

    pub fn put_part(&self, id: &str, number: u32, bytes: &[u8], crc: Crc64Nvme) -> Result<String> {
        let begun = self.begun(id)?;
        if Crc64Nvme::of(bytes) != crc {
            return Err(StoreError::new(ErrorKind::ChecksumMismatch, &begun.key, format!("part {number}")));
        }
        if number == 0 || bytes.len() > begun.part_size as usize {
            return Err(StoreError::new(ErrorKind::Invalid, &begun.key, format!("part {number} does not fit")));
        }
        let dir = self.multipart(id)?;
        let part = PartMeta { crc64nvme: crc.to_string(), length: bytes.len() as u32 };
        let write = || -> io::Result<()> {
            let data = OpenOptions::new().write(true).open(dir.join("data"))?;
            data.write_all_at(bytes, u64::from(number - 1) * u64::from(begun.part_size))?;
            data.sync_data()?;
            write_json(&dir.join(format!("part-{number}.json")), &part)
        };
        write().map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => StoreError::new(ErrorKind::MultipartGone, &begun.key, "aborted meanwhile"),
            _ => failed(&begun.key, &e),
        })?;
        Ok(part.crc64nvme)
    }

    pub fn complete(&self, key: &str, id: &str, parts: &[Part]) -> Result<String> {
        let dir = self.multipart(id)?;
        let data = dir.join("data");
        if let (Ok(object), Ok(data)) = (fs::metadata(self.object(key)?), fs::metadata(&data))
            && object.ino() == data.ino()
        {
            // This very upload was completed, and the process died before it could say so.
            self.abort(id)?;
            return Ok(self.existing(key)?.version);
        }
        let begun = self.begun(id)?;
        let gone = |what: String| StoreError::new(ErrorKind::MultipartGone, key, what);
        let mut size = 0;
        for (part, place) in parts.iter().zip(1..) {
            let stored: PartMeta = read_json(&dir.join(format!("part-{place}.json"))).map_err(|e| match e.kind() {
                io::ErrorKind::NotFound => gone(format!("part {place}: {e}")),
                _ => failed(key, &e),
            })?;
            let same = stored.crc64nvme == part.etag && stored.length == part.length && part.number == place;
            if !same || (place as usize != parts.len() && part.length != begun.part_size) {
                return Err(gone(format!("part {place} is not the one that was named")));
            }
            size += u64::from(part.length);
        }
        if parts.is_empty() {
            return Err(StoreError::new(ErrorKind::Invalid, key, "no parts"));
        }
        let truncate = || -> io::Result<()> {
            let file = OpenOptions::new().write(true).open(&data)?;
            file.set_len(size)?;
            file.set_permissions(Permissions::from_mode(0o444))?;
            file.sync_all()
        };
        truncate().map_err(|e| failed(key, &e))?;
        let meta = Meta {
            version: id.to_owned(),
            size,
            crc64nvme: Crc64Nvme::of_parts(parts.iter().map(|p| (p.crc, p.length))).to_string(),
            content_type: begun.content_type,
            lock_until: begun.lock_until,
            legal_hold: false,
        };
        self.place(key, &data, &meta)?;
        self.abort(id)?;
        Ok(meta.version)
    }

    pub fn abort(&self, id: &str) -> Result<()> {
        let dir = self.multipart(id)?;
        // Renamed first: whoever is putting a part at this moment finds the upload gone, and nothing comes in between.
        let aborted = dir.with_extension(ABORTED);
        let remove = || -> io::Result<()> {
            fs::rename(&dir, &aborted)?;
            fs::remove_dir_all(&aborted)
        };
        match remove() {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(id, &error)),
            _ => Ok(()),
        }
    }

    pub fn put(&self, key: &str, id: &str, new: &NewObject, bytes: &[u8], crc: Crc64Nvme) -> Result<String> {
        if Crc64Nvme::of(bytes) != crc {
            return Err(StoreError::new(ErrorKind::ChecksumMismatch, key, "the object"));
        }
        let part_size = bytes.len() as u32;
        self.begin(key, id, &NewObject { part_size, ..new.clone() })?;
        let etag = self.put_part(id, 1, bytes, crc)?;
        let part = Part { number: 1, etag, crc, length: part_size };
        let version = self.complete(key, id, &[part]);
        if version.is_err() {
            self.abort(id)?;
        }
        version
    }

    /// Links the data to its key. The meta file comes first: without the data it means nothing.
    fn place(&self, key: &str, data: &Path, meta: &Meta) -> Result<()> {
        let object = self.object(key)?;
        if self.find(key)?.is_some() {
            return Err(StoreError::new(ErrorKind::AlreadyExists, key, "the key has an object"));
        }
        self.update(key, meta)?;
        let link = || -> io::Result<()> {
            if let Some(parent) = object.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::hard_link(data, &object)?;
            sync_parents(&object, &self.root)
        };
        link().map_err(|e| failed(key, &e))
    }

    /// The object of a key, if there is one.
    pub fn find(&self, key: &str) -> Result<Option<Meta>> {
        match self.object(key)?.try_exists() {
            Ok(true) => self.existing(key).map(Some),
            Ok(false) => Ok(None),
            Err(error) => Err(failed(key, &error)),
        }
    }

    /// The keys of objects that begin with `prefix` and come after `after`, in order.
    pub fn keys(&self, prefix: &str, after: Option<&str>) -> Result<KeyPage> {
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let (path, key) = match folder {
            "" => (self.root.clone(), String::new()),
            _ => (self.object(folder)?, format!("{folder}/")),
        };
        let mut keys = Vec::new();
        collect_keys(&path, &key, &Wanted { prefix, after, page: PAGE }, &mut keys).map_err(|e| failed(prefix, &e))?;
        let more = keys.len() > PAGE;
        keys.truncate(PAGE);
        Ok(KeyPage { keys, more })
    }

    fn existing(&self, key: &str) -> Result<Meta> {
        read_json(&self.meta(key)?).map_err(|e| failed(key, &e))
    }

    pub fn version(&self, key: &str, version: &str) -> Result<Meta> {
        let found = self.find(key)?.filter(|meta| meta.version == version);
        found.ok_or_else(|| StoreError::new(ErrorKind::NotFound, key, format!("version {version}")))
    }

    pub fn update(&self, key: &str, meta: &Meta) -> Result<()> {
        let path = self.meta(key)?;
        let write = || -> io::Result<()> {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            write_json(&path, meta)?;
            sync_parents(&path, &self.root)
        };
        write().map_err(|e| failed(key, &e))
    }

    pub fn delete(&self, key: &str) -> Result<()> {
        let object = self.object(key)?;
        let remove = || -> io::Result<()> {
            fs::remove_file(&object)?;
            sync_parents(&object, &self.root)?;
            fs::remove_file(self.meta(key).map_err(io::Error::other)?)
        };
        remove().map_err(|e| failed(key, &e))
    }

    pub fn open_object(&self, key: &str, version: &str, from: u64) -> Result<File> {
        self.version(key, version)?;
        let open = || -> io::Result<File> {
            let mut file = File::open(self.object(key).map_err(io::Error::other)?)?;
            file.seek(SeekFrom::Start(from))?;
            Ok(file)
        };
        open().map_err(|e| failed(key, &e))
    }

    fn begun(&self, id: &str) -> Result<Begun> {
        read_json(&self.multipart(id)?.join("begun.json")).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => StoreError::new(ErrorKind::MultipartGone, id, e),
            _ => failed(id, &e),
        })
    }

    fn object(&self, key: &str) -> Result<PathBuf> {
        inside(&self.root, key)
    }

    fn meta(&self, key: &str) -> Result<PathBuf> {
        inside(&self.root.join(".caselock/meta"), &format!("{key}.json"))
    }

    fn multipart(&self, id: &str) -> Result<PathBuf> {
        inside(&self.root.join(".caselock/multipart"), id)
    }
}

/// `name` below `root`; refused where it would lead anywhere else.
fn inside(root: &Path, name: &str) -> Result<PathBuf> {
    let path = Path::new(name);
    let plain = path.components().all(|c| matches!(c, Component::Normal(part) if part != ".caselock"));
    if name.is_empty() || !plain {
        return Err(StoreError::new(ErrorKind::Invalid, name, "not a key of this store"));
    }
    Ok(root.join(path))
}

/// The next chunk of a file; `None` at its end.
pub fn read_chunk(mut file: File, most: usize, key: &str) -> Result<Option<(Bytes, File)>> {
    let mut chunk = vec![0; most];
    let mut filled = 0;
    while filled < most {
        match file.read(&mut chunk[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(key, &error)),
        }
    }
    chunk.truncate(filled);
    Ok((filled > 0).then(|| (chunk.into(), file)))
}

/// Removes uploads that were being dropped when the process died, and those that nobody finished in time.
fn remove_unfinished(multipart: &Path, now: Timestamp) -> io::Result<()> {
    for entry in fs::read_dir(multipart)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        let changed = Timestamp::try_from(entry.metadata()?.modified()?).map_err(io::Error::other)?;
        let is_aborted = entry.path().extension().is_some_and(|extension| extension == ABORTED);
        if is_aborted || now.duration_since(changed) > UNFINISHED {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    // A name of its own for each attempt: two parts with one number may be written at once.
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file =
        tempfile::Builder::new().prefix(".new-").permissions(Permissions::from_mode(0o644)).tempfile_in(folder)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| e.error)?;
    File::open(folder)?.sync_all()
}

fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

/// Syncs every directory from the file's up to the root, since any of them may be new.
fn sync_parents(path: &Path, root: &Path) -> io::Result<()> {
    for dir in path.ancestors().skip(1).take_while(|dir| dir.starts_with(root)) {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

fn failed(key: &str, error: &io::Error) -> StoreError {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::PermissionDenied => ErrorKind::Denied,
        io::ErrorKind::AlreadyExists => ErrorKind::AlreadyExists,
        _ => ErrorKind::Unavailable,
    };
    StoreError::new(kind, key, error)
}

/// Which keys are listed.
struct Wanted<'a> {
    prefix: &'a str,
    after: Option<&'a str>,
    page: usize,
}

impl Wanted<'_> {
    /// Whether a folder, whose keys begin with `key`, may have one of them.
    fn reaches(&self, key: &str) -> bool {
        let is_past = self.after.is_some_and(|after| key < after && !after.starts_with(key));
        !is_past && (key.starts_with(self.prefix) || self.prefix.starts_with(key))
    }

    fn has(&self, key: &str) -> bool {
        key.starts_with(self.prefix) && Some(key) > self.after
    }
}

/// Collects a folder's keys in order, until there is one more than a page holds. Folders that can't have any are not looked
/// into, so that page after page does not walk through everything each time.
fn collect_keys(folder: &Path, key: &str, wanted: &Wanted<'_>, keys: &mut Vec<String>) -> io::Result<()> {
    let mut last = String::new();
    loop {
        let entries = entries_after(folder, key, wanted, &last)?;
        let is_last = entries.len() < wanted.page;
        for entry in entries {
            if keys.len() > wanted.page {
                return Ok(());
            }
            if let Some(name) = entry.strip_prefix(key).and_then(|name| name.strip_suffix('/')) {
                collect_keys(&folder.join(name), &entry, wanted, keys)?;
            } else {
                keys.push(entry.clone());
            }
            last = entry;
        }
        if is_last {
            return Ok(());
        }
    }
}

/// The first wanted entries of a folder that come after one, in the order of their keys: a folder of a million recordings is read
/// with a page of them in memory. With its slash, a folder has the place among its neighbours that its keys have.
fn entries_after(folder: &Path, key: &str, wanted: &Wanted<'_>, last: &str) -> io::Result<Vec<String>> {
    let mut first = BinaryHeap::new();
    let read = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read?,
    };
    for entry in read {
        let entry = entry?;
        let (kind, name) = (entry.file_type()?, entry.file_name());
        let Some(name) = name.to_str().filter(|name| *name != ".caselock") else { continue };
        let entry = if kind.is_dir() { format!("{key}{name}/") } else { format!("{key}{name}") };
        let is_wanted = if kind.is_dir() { wanted.reaches(&entry) } else { kind.is_file() && wanted.has(&entry) };
        let is_full = first.len() > wanted.page;
        if is_wanted && entry.as_str() > last && !(is_full && first.peek() < Some(&entry)) {
            first.push(entry);
            if is_full {
                first.pop();
            }
        }
    }
    Ok(first.into_sorted_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_any_size_list_every_key_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut expected = Vec::new();
        for (folder, files) in [("a", 3), ("b/c", 4), ("b/d", 1), ("bb", 7), ("e", 0)] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
            for file in 0..files {
                fs::write(dir.path().join(folder).join(file.to_string()), "").unwrap();
                expected.push(format!("{folder}/{file}"));
            }
        }
        expected.sort();
        for page in 1..20 {
            let mut listed = Vec::<String>::new();
            loop {
                let mut keys = Vec::new();
                let wanted = Wanted { prefix: "", after: listed.last().map(String::as_str), page };
                collect_keys(dir.path(), "", &wanted, &mut keys).unwrap();
                let more = keys.len() > page;
                listed.extend(keys.into_iter().take(page));
                if !more {
                    break;
                }
            }
            assert_eq!(listed, expected, "pages of {page}");
        }
    }
}
