//! `caselock upload`: from paths to receipts.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use caselock_client::{
    Client, Connect, Footage, Progress, Throttle, Tls, Upload, UploadError, content_key, whole_blake3,
};
use caselock_domain::{metadata::Metadata, reason::Reason};
use caselock_proto::v1::RecordingMetadata;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    HELD, RETRY, STORED,
    args::{self, Connection},
    fields::Fields,
    journal::{Entry, Journal},
    kind::{self, FileKind},
    manifest::Manifest,
    receipts::key_ring,
    show::{Event, Show, name},
    walk,
};

/// A file that may be sent.
struct Planned {
    path: PathBuf,
    kind: FileKind,
    size: u64,
    metadata: RecordingMetadata,
    key: Option<String>,
}

/// What became of a file.
enum Outcome {
    Stored { entry: Entry, kind: FileKind, was_there: bool },
    Failed { path: PathBuf, error: String, retryable: bool },
}

/// Uploads files and folders.
pub async fn run(arguments: Box<args::Upload>) -> anyhow::Result<u8> {
    let flags = Fields::from_sets(&arguments.metadata.set).map_err(anyhow::Error::msg)?;
    let manifest = arguments.manifest.as_deref().map(Manifest::read).transpose()?.unwrap_or_default();
    let mut files = walk::files(&arguments.paths)?;
    let own = arguments.manifest.as_ref().and_then(|path| path.canonicalize().ok());
    files.retain(|file| Some(file) != own.as_ref());

    let (mut planned, mut outcomes) = (Vec::new(), Vec::new());
    for path in files {
        match plan(&path, &flags, &manifest) {
            Ok(file) => planned.push(file),
            Err(error) => outcomes.push(Outcome::Failed { path, error: format!("{error:#}"), retryable: false }),
        }
    }
    let bytes = planned.iter().map(|file| file.size).sum();
    let show = Arc::new(Show::new(arguments.json, planned.len() as u64, bytes));
    for outcome in &outcomes {
        tell(&show, outcome, None);
    }
    if arguments.dry_run {
        for file in &planned {
            show.line(&format!("would upload  {:8}  {:>12}  {}", file.kind.as_str(), file.size, file.path.display()));
            show.event(&Event::WouldUpload { file: &file.path, kind: file.kind.as_str(), size: file.size });
        }
        return Ok(if outcomes.is_empty() { STORED } else { HELD });
    }
    let journal_dir = arguments.connection.local.journal.clone().map_or_else(Journal::default_dir, Ok)?;
    let job = Arc::new(Job {
        client: client(&arguments.connection)?,
        journal: Journal::open(&journal_dir)?,
        show: show.clone(),
        throttle: Arc::default(),
        patience: Duration::from_secs(arguments.patience),
    });
    let room = Arc::new(Semaphore::new(usize::from(arguments.parallel)));
    let mut tasks = JoinSet::new();
    for file in planned {
        let permit = room.clone().acquire_owned().await?;
        let job = job.clone();
        tasks.spawn(async move {
            let outcome = job.upload(file).await;
            drop(permit);
            outcome
        });
        while let Some(done) = tasks.try_join_next() {
            outcomes.push(done.context("an upload ended unexpectedly")?);
        }
    }
    while let Some(done) = tasks.join_next().await {
        outcomes.push(done.context("an upload ended unexpectedly")?);
    }
    show.finish();
    if let Some(path) = &arguments.result {
        write_result(path, &outcomes, &job.journal).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(summary(&show, &outcomes))
}

/// Looks at a file and says what would be sent. The gateway's own rules are applied here as well, so that what it would
/// refuse is told before anything is sent.
fn plan(path: &Path, flags: &Fields, manifest: &Manifest) -> anyhow::Result<Planned> {
    let size = std::fs::metadata(path)?.len();
    if size == 0 {
        bail!("the file is empty: a recording has at least 1 byte");
    }
    let (kind, content_type) = kind::look(path).context("look into the file")?;
    let fields = manifest.row(path).map_or_else(|| flags.clone(), |row| flags.with(row));
    let metadata = fields.to_proto(&name(path), &content_type).map_err(anyhow::Error::msg)?;
    if let Err(violations) = Metadata::from_proto(&metadata) {
        let missing: Vec<_> = violations.iter().map(|v| format!("{}: {}", v.field, v.expected)).collect();
        bail!("metadata is missing or wrong: {}", missing.join("; "));
    }
    Ok(Planned { path: path.to_owned(), kind, size, metadata, key: fields.get("key").map(str::to_owned) })
}

fn client(connection: &Connection) -> anyhow::Result<Client> {
    let read = |path: &PathBuf| std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()));
    let tls = match (&connection.ca, &connection.cert, &connection.key) {
        (Some(ca), Some(certificate), Some(key)) => {
            Some(Tls { ca: read(ca)?, certificate: read(certificate)?, key: read(key)? })
        }
        (None, None, None) => None,
        _ => bail!("--ca, --cert and --key belong together"),
    };
    let keys = connection.local.receipt_keys.as_deref().context("--receipt-keys is needed")?;
    let connect = Connect { servers: connection.server.clone(), tls };
    Client::new(&connect, key_ring(keys)?).context("use --server, --ca, --cert and --key")
}

struct Job {
    client: Client,
    journal: Journal,
    show: Arc<Show>,
    throttle: Arc<Throttle>,
    patience: Duration,
}

impl Job {
    async fn upload(&self, file: Planned) -> Outcome {
        let kind = file.kind;
        let outcome = match self.bring(&file).await {
            Ok((entry, was_there)) => Outcome::Stored { entry, kind, was_there },
            Err(error) => {
                let retryable = error
                    .downcast_ref::<UploadError>()
                    .is_some_and(|e| e.is_retryable() || matches!(e, UploadError::Changed));
                Outcome::Failed { path: file.path, error: format!("{error:#}"), retryable }
            }
        };
        tell(&self.show, &outcome, Some(&self.journal));
        outcome
    }

    /// Brings one file to its receipt; `true` if it was stored before.
    async fn bring(&self, file: &Planned) -> anyhow::Result<(Entry, bool)> {
        let footage = Footage::open(&file.path)?;
        let stamp = footage.stamp();
        if let Some(entry) = self.journal.find(&file.path, &stamp) {
            self.show.advance(file.size);
            return Ok((entry, true));
        }
        let view = self.show.file(&file.path, file.size);
        let report = |progress: Progress| view.progress(progress);
        let device = file.metadata.device_id.clone();
        let key = match &file.key {
            Some(key) => key.clone(),
            None => {
                let path = file.path.clone();
                blocking(move || content_key(&path, &device)).await?
            }
        };
        let mut upload = Upload {
            key,
            metadata: file.metadata.clone(),
            throttle: self.throttle.clone(),
            patience: self.patience,
            report: &report,
        };
        let mut uploaded = self.client.upload(&footage, &upload).await;
        if file.key.is_none() && matches!(&uploaded, Err(e) if is_conflict(e)) {
            // Another file of this device has the same size, beginning and end: the whole content tells them apart.
            let path = file.path.clone();
            let whole = blocking(move || whole_blake3(&path)).await?;
            upload.key = format!("{}:{}", upload.key, whole.to_hex());
            uploaded = self.client.upload(&footage, &upload).await;
        }
        let uploaded = uploaded?;
        let entry = self.journal.keep(&file.path, &stamp, &uploaded)?;
        Ok((entry, uploaded.was_there))
    }
}

fn is_conflict(error: &UploadError) -> bool {
    error.is(Reason::SegmentConflict) || error.is(Reason::SealDigestMismatch) || matches!(error, UploadError::Changed)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> anyhow::Result<T> {
    Ok(tokio::task::spawn_blocking(work).await??)
}

fn tell(show: &Show, outcome: &Outcome, journal: Option<&Journal>) {
    match outcome {
        Outcome::Stored { entry, kind, was_there } => {
            let word = if *was_there { "stored before" } else { "stored" };
            show.line(&format!("{word}  {}  locked until {}", entry.path.display(), entry.locked_until));
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
        Outcome::Failed { path, error, retryable } => {
            let word = if *retryable { "not yet" } else { "REFUSED" };
            show.line(&format!("{word}  {}: {error}", path.display()));
            show.event(&Event::Failed { file: path, error, retryable: *retryable });
        }
    }
}

fn summary(show: &Show, outcomes: &[Outcome]) -> u8 {
    let count = |wanted: fn(&Outcome) -> bool| outcomes.iter().filter(|o| wanted(o)).count();
    let stored = count(|o| matches!(o, Outcome::Stored { was_there: false, .. }));
    let already = count(|o| matches!(o, Outcome::Stored { was_there: true, .. }));
    let refused = count(|o| matches!(o, Outcome::Failed { retryable: false, .. }));
    let retryable = count(|o| matches!(o, Outcome::Failed { retryable: true, .. }));
    let bytes = outcomes.iter().map(|o| match o {
        Outcome::Stored { entry, was_there: false, .. } => entry.size,
        _ => 0,
    });
    show.event(&Event::Done { stored, already, refused, retryable, bytes: bytes.sum() });
    let mut line = format!("{stored} stored now, {already} stored before");
    if refused + retryable > 0 {
        line += &format!(", {refused} refused, {retryable} not yet (run the same command again)");
    } else if stored == 0 {
        line += ": nothing had to be uploaded";
    }
    show.line(&line);
    match (refused, retryable) {
        (0, 0) => STORED,
        (0, _) => RETRY,
        _ => HELD,
    }
}

fn write_result(path: &Path, outcomes: &[Outcome], journal: &Journal) -> anyhow::Result<()> {
    let mut writer = csv::Writer::from_path(path)?;
    writer.write_record(["file", "result", "recording_id", "size", "blake3", "locked_until", "receipt", "error"])?;
    for outcome in outcomes {
        match outcome {
            Outcome::Stored { entry, was_there, .. } => writer.write_record([
                entry.path.display().to_string().as_str(),
                if *was_there { "stored before" } else { "stored" },
                &entry.recording_id,
                &entry.size.to_string(),
                &entry.blake3,
                &entry.locked_until,
                &journal.receipt_path(entry).display().to_string(),
                "",
            ])?,
            Outcome::Failed { path, error, retryable } => {
                let result = if *retryable { "not yet" } else { "refused" };
                writer.write_record([&path.display().to_string(), result, "", "", "", "", "", error])?;
            }
        }
    }
    writer.flush()?;
    Ok(())
}
