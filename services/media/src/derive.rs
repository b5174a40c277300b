//! Proxy and pictures of one original.

use std::{
    fs::File,
    io::{Seek, SeekFrom},
    path::Path,
    sync::Arc,
    time::Duration,
};

use caselock_domain::{derived::DerivedObject, digest::Blake3, manifest::Manifest, object_key};
use caselock_store::{Created, Lock, Store, create_from, ensure_locked};
use futures::TryStreamExt;

use crate::{
    config::MediaConfig,
    documents,
    error::JobError,
    original::Original,
    worker::{self, Failure, Limits, Report},
};

/// The version of the profiles: it rises when their output changes, and is part of the objects' keys.
const PROFILE: u32 = 1;
/// How often a worker may be killed before that counts as the file's doing.
const TRIES: u32 = 3;

/// A derivative that can be made.
struct Profile {
    name: &'static str,
    file: &'static str,
    content_type: &'static str,
}

const VIDEO: &[Profile] = &[
    Profile { name: "poster", file: "poster.jpg", content_type: "image/jpeg" },
    Profile { name: "contact-sheet", file: "contact-sheet.jpg", content_type: "image/jpeg" },
    Profile { name: "proxy", file: "proxy.mp4", content_type: "video/mp4" },
];
const AUDIO: &[Profile] = &[
    Profile { name: "waveform", file: "waveform.jpg", content_type: "image/jpeg" },
    Profile { name: "proxy", file: "proxy.m4a", content_type: "audio/mp4" },
];
const PHOTO: &[Profile] = &[Profile { name: "preview", file: "preview.jpg", content_type: "image/jpeg" }];

/// What is made of a media type: the worker's kind, and the profiles. Documents and what is unknown get nothing.
fn profiles(content_type: &str) -> Option<(&'static str, &'static [Profile])> {
    match content_type.split_once('/')?.0 {
        "video" => Some(("video", VIDEO)),
        "audio" => Some(("audio", AUDIO)),
        "image" => Some(("photo", PHOTO)),
        _ => None,
    }
}

/// Whether anything is made of this recording.
pub fn is_derived(manifest: &Manifest) -> bool {
    profiles(&manifest.metadata.content_type).is_some()
}

/// What came of it.
pub struct Outcome {
    pub objects: Vec<DerivedObject>,
    pub failure: Option<Failure>,
    pub probe: serde_json::Value,
    pub warnings: Vec<String>,
}

/// Makes the derivatives and places them under the original's lock. What is there already stays.
pub async fn derive(
    store: &dyn Store,
    config: &MediaConfig,
    manifest: &Manifest,
    original: &Original,
    lock: Lock,
) -> Result<Outcome, JobError> {
    let nothing = Outcome { objects: Vec::new(), failure: None, probe: serde_json::Value::Null, warnings: Vec::new() };
    let (Some((kind, profiles)), Some(file)) = (profiles(&manifest.metadata.content_type), &original.file) else {
        return Ok(nothing);
    };
    let (report, files) = match make(config, kind, profiles, file, original.size).await? {
        Ok(made) => made,
        Err(failure) => return Ok(Outcome { failure: Some(failure), ..nothing }),
    };
    let mut objects = Vec::new();
    for (profile, file) in profiles.iter().zip(&files) {
        if report.outputs.contains_key(profile.name) {
            objects.push(place(store, manifest, profile, file, lock).await?);
        }
    }
    Ok(Outcome { objects, failure: None, probe: report.probe, warnings: report.warnings })
}

type Made = Result<(Report, Vec<File>), Failure>;

/// Makes the files. What was killed is tried some times more: its machine may have been short of memory.
async fn make(
    config: &MediaConfig,
    kind: &str,
    profiles: &[Profile],
    original: &File,
    size: u64,
) -> Result<Made, JobError> {
    for _ in 1..TRIES {
        match make_once(config, kind, profiles, original, size).await? {
            Err(failure) if failure.reason == worker::KILLED => {
                tracing::warn!(detail = failure.detail, "a worker was killed; trying again");
            }
            made => return Ok(made),
        }
    }
    make_once(config, kind, profiles, original, size).await
}

async fn make_once(
    config: &MediaConfig,
    kind: &str,
    profiles: &[Profile],
    original: &File,
    size: u64,
) -> Result<Made, JobError> {
    let scratch = config.scratch();
    let mut files = Vec::new();
    let mut outputs = Vec::new();
    for profile in profiles {
        let file = tempfile::tempfile_in(&scratch)?;
        outputs.push((profile.name, file.try_clone()?));
        files.push(file);
    }
    let granted = (size >> 20) * config.worker_seconds_per_mib;
    let limits = Limits {
        memory: config.worker_memory,
        cpu_seconds: config.worker_cpu_seconds + granted,
        wall: Duration::from_secs(config.worker_wall_seconds + 2 * granted),
    };
    let mut input = original.try_clone()?;
    input.seek(SeekFrom::Start(0))?;
    let input = reopen_read_only(&input)?;
    let program = config.worker()?;
    Ok(worker::run(&program, kind, input, outputs, limits).await?.map(|report| (report, files)))
}

/// The same file through a descriptor that can't write to it.
fn reopen_read_only(file: &File) -> std::io::Result<File> {
    use std::os::fd::AsRawFd;
    File::open(Path::new("/proc/self/fd").join(file.as_raw_fd().to_string()))
}

async fn place(
    store: &dyn Store,
    manifest: &Manifest,
    profile: &Profile,
    file: &File,
    lock: Lock,
) -> Result<DerivedObject, JobError> {
    let (size, blake3) = hash(file.try_clone()?).await?;
    let key = object_key::derivative(
        &manifest.bureau,
        manifest.recording_id,
        manifest.generation,
        profile.name,
        PROFILE,
        profile.file,
    );
    let new = documents::object(&key, profile.content_type, lock)?;
    let created = create_from(store, &key, &new, Arc::new(file.try_clone()?)).await?;
    ensure_locked(store, &key, created.version(), lock).await?;
    let (version, size, blake3) = match created {
        Created::New(version) => (version, size, blake3),
        // Made before, perhaps not byte for byte the same: what stands there is what is told.
        Created::Existing(version) => {
            let (size, blake3) = digest(store, &key, &version).await?;
            (version, size, blake3)
        }
    };
    let content_type = profile.content_type.to_owned();
    Ok(DerivedObject { name: profile.name.to_owned(), object_key: key, version, size, blake3, content_type })
}

/// Size and digest of a file, from its beginning.
async fn hash(mut file: File) -> std::io::Result<(u64, Blake3)> {
    let hash = tokio::task::spawn_blocking(move || {
        file.seek(SeekFrom::Start(0))?;
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(file)?;
        Ok((hasher.count(), Blake3(*hasher.finalize().as_bytes())))
    });
    hash.await.map_err(std::io::Error::other)?
}

async fn digest(store: &dyn Store, key: &str, version: &str) -> Result<(u64, Blake3), JobError> {
    let mut hasher = blake3::Hasher::new();
    let mut chunks = store.read(key, version, 0).await?;
    while let Some(chunk) = chunks.try_next().await? {
        hasher.update(&chunk);
    }
    Ok((hasher.count(), Blake3(*hasher.finalize().as_bytes())))
}
