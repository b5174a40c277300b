//! What `upload` and `watch` share: the connection, the journal, and bringing one file to its receipt.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, bail};
use caselock_client::{
    Client, Connect, Footage, Progress, Stamp, Throttle, Upload, UploadError, content_key, name_key,
};
use caselock_domain::{metadata::Metadata, reason::Reason};
use caselock_proto::v1::{Announcement, RecordingMetadata};

use crate::{
    args::{self, Connection},
    delete::delete_source,
    device,
    fields::Fields,
    journal::{Entry, Journal},
    kind::{self, FileKind},
    manifest::Manifest,
    names::readable,
    phrases::shown,
    receipts::key_ring,
    registry::tls,
    show::{Event, Show, name},
    template::Templates,
    text::{local_time, say},
    usage,
};

/// How long to go on announcing where the gateway does not answer.
const ANNOUNCING: Duration = Duration::from_secs(10);
/// Files that are looked into before they are announced.
const ANNOUNCED_AT_ONCE: usize = 100;

/// A file that may be sent.
#[derive(Clone)]
pub struct Planned {
    pub path: PathBuf,
    pub kind: FileKind,
    pub size: u64,
    metadata: RecordingMetadata,
    key: Option<String>,
}

/// What became of a file.
#[derive(Clone)]
pub enum Outcome {
    Stored {
        entry: Entry,
        kind: FileKind,
        was_there: bool,
    },
    /// The error in English, for machines, and as a person reads it.
    Failed {
        path: PathBuf,
        error: String,
        shown: String,
        retryable: bool,
        /// Its size, where it is stored and only could not be deleted.
        kept: Option<u64>,
    },
}

impl Outcome {
    /// A file that failed.
    pub fn failed(path: PathBuf, error: &anyhow::Error, retryable: bool) -> Self {
        Self::Failed { path, error: format!("{error:#}"), shown: shown(error), retryable, kept: None }
    }
}

/// Where metadata comes from: flags, then what the name says, then the manifest's row.
pub struct Sources {
    flags: Fields,
    templates: Templates,
    manifest: Manifest,
}

impl Sources {
    pub fn new(arguments: &args::Session) -> anyhow::Result<Self> {
        Ok(Self {
            flags: Fields::from_sets(&arguments.set).map_err(anyhow::Error::msg)?,
            templates: Templates::new(&arguments.template).map_err(anyhow::Error::msg)?,
            manifest: arguments.manifest.as_deref().map(Manifest::read).transpose()?.unwrap_or_default(),
        })
    }

    /// Looks at a file and says what would be sent. The gateway's own rules are applied here as well, so that what it would
    /// refuse is told before anything is sent.
    pub fn plan(&self, path: &Path) -> anyhow::Result<Planned> {
        let size = std::fs::metadata(path)?.len();
        if size == 0 {
            bail!("the file is empty: a recording has at least 1 byte");
        }
        let (kind, content_type) = kind::look(path).context("look into the file")?;
        let named = self.flags.with(&self.templates.read(path));
        let fields = self.manifest.row(path).map_or_else(|| named.clone(), |row| named.with(row));
        let metadata = fields.to_proto(&name(path), &content_type).map_err(anyhow::Error::msg)?;
        if let Err(violations) = Metadata::from_proto(&metadata) {
            let missing: Vec<_> = violations.iter().map(|v| format!("{}: {}", v.field, v.expected)).collect();
            bail!("metadata is missing or wrong: {}", missing.join("; "));
        }
        Ok(Planned { path: path.to_owned(), kind, size, metadata, key: fields.get("key").map(str::to_owned) })
    }
}

fn client(connection: &Connection) -> anyhow::Result<Client> {
    let tls = tls(connection.ca.as_ref(), connection.cert.as_ref(), connection.key.as_ref())?;
    let keys = connection.receipt_keys.as_deref().context("--receipt-keys is needed")?;
    let connect = Connect { servers: connection.server.clone(), tls };
    Client::new(&connect, key_ring(keys)?).context("use --server, --ca, --cert and --key")
}

/// The journal must outlive the device: it is never among what is uploaded.
fn apart(journal: &Path, paths: &[PathBuf]) -> anyhow::Result<()> {
    let journal = std::path::absolute(journal)?;
    let there = journal.ancestors().find_map(|folder| folder.canonicalize().ok()).unwrap_or_default();
    for path in paths.iter().filter_map(|path| path.canonicalize().ok()) {
        if path.is_dir() && there.starts_with(&path) {
            bail!("the journal {} lies in {}, which is uploaded: keep it elsewhere", journal.display(), path.display());
        }
        if device::are_on_one_removable(&there, &path) {
            let (journal, path) = (journal.display(), path.display());
            bail!("the journal {journal} lies on the removable device that {path} is on: keep it on this machine");
        }
    }
    Ok(())
}

/// A session: files are uploaded through it.
pub struct Session {
    client: Client,
    pub journal: Journal,
    show: Arc<Show>,
    throttle: Arc<Throttle>,
    patience: Duration,
    delete_source: bool,
    turns: Turns,
}

impl Session {
    /// Opens the journal and prepares the connection.
    pub fn new(arguments: &args::Session, paths: &[PathBuf], show: Arc<Show>) -> anyhow::Result<Self> {
        let journal_dir = arguments.connection.journal.clone().map_or_else(Journal::default_dir, Ok)?;
        apart(&journal_dir, paths).map_err(usage)?;
        let throttle = Arc::<Throttle>::default();
        if let Some(timetable) = &arguments.bwlimit {
            tokio::spawn(timetable.clone().apply(throttle.clone()));
        }
        Ok(Self {
            client: client(&arguments.connection).map_err(usage)?,
            journal: Journal::open(&journal_dir)?,
            show,
            throttle,
            patience: Duration::from_secs(arguments.patience),
            delete_source: arguments.delete_source,
            turns: Turns::default(),
        })
    }

    /// Makes what is uploaded part of the trace that this environment names, as OpenTelemetry has it for a process that another one starts.
    pub fn in_callers_trace(mut self) -> Self {
        if let Ok(traceparent) = std::env::var("TRACEPARENT") {
            self.client = self.client.within(&traceparent);
        }
        self
    }

    /// Says what is to come, so that what never comes is noticed; some files at once, beside the uploads, for thousands take
    /// minutes to be looked into. What the journal has is there already. No upload depends on it: where it can't be done that is
    /// said, and the upload's own errors tell the rest. Whether trying again may help.
    pub async fn announce(&self, files: &[Planned]) -> bool {
        for some in files.chunks(ANNOUNCED_AT_ONCE) {
            if let Err(error) = self.announce_some(some).await {
                self.show.line(&say("not-announced", &[("error", &shown(&error))]));
                tracing::warn!("what is to come could not be announced: {error:#}");
                return error.downcast_ref::<UploadError>().is_some_and(UploadError::is_retryable);
            }
        }
        false
    }

    async fn announce_some(&self, files: &[Planned]) -> anyhow::Result<()> {
        let mut recordings = Vec::new();
        for file in files {
            let (path, device) = (file.path.clone(), file.metadata.device_id.clone());
            // A file that can't be read is its own upload's to tell.
            let Ok(stamp) = Stamp::of(&file.path) else { continue };
            let Ok(content) = blocking(move || content_key(&path, &device)).await else { continue };
            if self.journal.find(&file.path, &stamp, &content).is_none() {
                let idempotency_key = file.key.clone().unwrap_or(content);
                recordings.push(Announcement { idempotency_key, metadata: Some(file.metadata.clone()) });
            }
        }
        Ok(self.client.announce(recordings, ANNOUNCING.min(self.patience)).await?)
    }

    /// Brings one file to its receipt, and says so; deletes it where that was asked for.
    pub async fn upload(&self, file: Planned) -> Outcome {
        let kind = file.kind;
        let outcome = match self.bring(&file).await {
            Ok((entry, was_there)) => Outcome::Stored { entry, kind, was_there },
            Err(error) => {
                let retryable = error
                    .downcast_ref::<UploadError>()
                    .is_some_and(|e| e.is_retryable() || matches!(e, UploadError::Changed));
                Outcome::failed(file.path, &error, retryable)
            }
        };
        tell(&self.show, &outcome, Some(&self.journal));
        if let (true, Outcome::Stored { entry, .. }) = (self.delete_source, &outcome) {
            return self.delete(entry, outcome.clone()).await;
        }
        outcome
    }

    async fn delete(&self, entry: &Entry, stored: Outcome) -> Outcome {
        let file = readable(&entry.path);
        match delete_source(&self.client, &self.journal, &entry.path, entry, self.patience).await {
            Ok(()) => {
                self.show.line(&say("deleted", &[("file", &file)]));
                self.show.event(&Event::Deleted { file: &entry.path });
                stored
            }
            Err(error) => {
                self.show.line(&say("kept", &[("file", &file), ("error", &shown(&error))]));
                self.show.event(&Event::Kept { file: &entry.path, error: &format!("{error:#}") });
                Outcome::Failed {
                    path: entry.path.clone(),
                    error: format!("{error:#}"),
                    shown: shown(&error),
                    retryable: true,
                    kept: Some(entry.size),
                }
            }
        }
    }

    /// Brings one file to its receipt; `true` if it was stored before.
    async fn bring(&self, file: &Planned) -> anyhow::Result<(Entry, bool)> {
        let footage = Footage::open(&file.path)?;
        let stamp = footage.stamp();
        let (path, device) = (file.path.clone(), file.metadata.device_id.clone());
        let content = blocking(move || content_key(&path, &device)).await?;
        let _turn = self.turns.take(&content).await;
        if let Some(entry) = self.journal.find(&file.path, &stamp, &content) {
            self.show.held(file.size);
            return Ok((entry, true));
        }
        let view = self.show.file(&file.path, file.size);
        let report = |progress: Progress| view.progress(progress);
        let mut upload = Upload {
            key: file.key.clone().unwrap_or_else(|| content.clone()),
            metadata: file.metadata.clone(),
            throttle: self.throttle.clone(),
            patience: self.patience,
            report: &report,
        };
        let mut uploaded = self.client.upload(&footage, &upload).await;
        let (mut by_whole, mut by_name) = (false, false);
        while let (Err(error), None) = (&uploaded, &file.key) {
            if !by_whole && is_conflict(error) {
                // Another file of this device has the same size, beginning and end: the whole content tells them apart.
                by_whole = true;
                upload.key = format!("{}:{}", upload.key, footage.whole().await?.to_hex());
            } else if !by_name && is_renamed(error) {
                // A copy under another name is a recording of its own: the name is kept, and no file refused.
                by_name = true;
                upload.key = format!("{}:n{}", upload.key, name_key(&file.metadata.original_name));
            } else {
                break;
            }
            uploaded = self.client.upload(&footage, &upload).await;
        }
        let uploaded = uploaded?;
        view.complete();
        let entry = self.journal.keep(&file.path, &stamp, content, &uploaded)?;
        Ok((entry, uploaded.was_there))
    }
}

/// Files that look alike go one after the other: once the first is stored, its receipt tells whether the next is another.
#[derive(Default)]
struct Turns(Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl Turns {
    /// Waits until no other file that looks like this is in hand.
    async fn take(&self, content: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            turns.entry(content.to_owned()).or_default().clone()
        };
        turn.lock_owned().await
    }
}

fn is_conflict(error: &UploadError) -> bool {
    error.is(Reason::SegmentConflict) || error.is(Reason::SealDigestMismatch) || matches!(error, UploadError::Changed)
}

/// Whether the recording is known under another name of a file.
fn is_renamed(error: &UploadError) -> bool {
    let is_name = |field: &String| field == "metadata.original_name";
    matches!(error, UploadError::Refused { fields, .. } if error.is(Reason::OpenConflict) && fields.iter().any(is_name))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, UploadError> + Send + 'static,
) -> anyhow::Result<T> {
    Ok(tokio::task::spawn_blocking(work).await??)
}

/// Says what became of a file.
pub fn tell(show: &Show, outcome: &Outcome, journal: Option<&Journal>) {
    match outcome {
        Outcome::Stored { entry, kind, was_there } => {
            show.stored();
            let key = if *was_there { "stored-before" } else { "stored" };
            let file = readable(&entry.path);
            show.line(&say(key, &[("file", &file), ("until", &local_time(&entry.locked_until))]));
            show.event(&Event::Stored {
                file: &entry.path,
                recording_id: &entry.recording_id,
                kind: kind.as_str(),
                size: entry.size,
                blake3: &entry.blake3,
                locked_until: &entry.locked_until,
                receipt: &journal.map(|j| j.receipt_path(entry)).unwrap_or_default(),
                was_there: *was_there,
            });
        }
        Outcome::Failed { path, error, shown, retryable, .. } => {
            let key = if *retryable { "not-yet" } else { "refused" };
            show.line(&say(key, &[("file", &readable(path)), ("error", shown)]));
            show.event(&Event::Failed { file: path, error, retryable: *retryable });
        }
    }
}
