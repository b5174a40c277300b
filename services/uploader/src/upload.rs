//! `caselock upload`: from paths to receipts.

use std::{path::Path, sync::Arc};

use anyhow::Context;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    HELD, RETRY, STORED, args,
    journal::Journal,
    names::readable,
    session::{Outcome, Planned, Session, Sources, tell},
    show::{Event, Show},
    text::say,
    usage, walk,
};

/// Uploads files and folders.
pub async fn run(arguments: args::Upload) -> anyhow::Result<u8> {
    let sources = Sources::new(&arguments.session).map_err(usage)?;
    let walk::Found { mut files, unread } = walk::files(&arguments.paths).map_err(usage)?;
    let own = arguments.session.manifest.as_ref().and_then(|path| path.canonicalize().ok());
    files.retain(|file| Some(file) != own.as_ref());

    let mut planned = Vec::new();
    let mut outcomes: Vec<_> = unread.into_iter().map(|(path, error)| Outcome::failed(path, &error, false)).collect();
    for path in files {
        match sources.plan(&path) {
            Ok(file) => planned.push(file),
            Err(error) => outcomes.push(Outcome::failed(path, &error, false)),
        }
    }
    let show = Arc::new(Show::new(arguments.session.json));
    show.expect(planned.len() as u64, planned.iter().map(|file| file.size).sum());
    for outcome in &outcomes {
        tell(&show, outcome, None);
    }
    if arguments.dry_run {
        return Ok(dry_run(&show, &planned, outcomes.is_empty()));
    }
    let session = Session::new(&arguments.session, &arguments.paths, show.clone())?;
    let session = Arc::new(session.in_callers_trace());
    let planned = Arc::new(planned);
    let announcing = tokio::spawn({
        let (session, planned) = (session.clone(), planned.clone());
        async move { session.announce(&planned).await }
    });
    let room = Arc::new(Semaphore::new(usize::from(arguments.session.parallel)));
    let mut tasks = JoinSet::new();
    for file in planned.iter().cloned() {
        let permit = room.clone().acquire_owned().await?;
        let session = session.clone();
        tasks.spawn(async move {
            let outcome = session.upload(file).await;
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
    announcing.await.context("announcing ended unexpectedly")?;
    show.finish();
    if let Some(path) = &arguments.result {
        write_result(path, &outcomes, &session.journal).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(summary(&show, &outcomes))
}

fn dry_run(show: &Show, planned: &[Planned], all_fit: bool) -> u8 {
    for file in planned {
        let (path, size, kind) = (readable(&file.path), file.size.to_string(), file.kind.as_str());
        show.line(&say(
            "would-upload",
            &[("kind", &say(&format!("kind-{kind}"), &[])), ("size", &size), ("file", &path)],
        ));
        show.event(&Event::WouldUpload { file: &file.path, kind, size: file.size });
    }
    if all_fit { STORED } else { HELD }
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
    let key = match (refused, retryable, stored + already) {
        (0, 0, 0) => "summary-empty",
        (0, 0, _) if stored == 0 => "summary-nothing",
        (0, 0, _) => "summary",
        (_, 0, _) => "summary-refused",
        _ => "summary-failed",
    };
    let [now, before, no, later] = [stored, already, refused, retryable].map(|n| n.to_string());
    show.line(&say(key, &[("stored", &now), ("before", &before), ("refused", &no), ("later", &later)]));
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
                readable(&entry.path).as_str(),
                if *was_there { "stored before" } else { "stored" },
                &entry.recording_id,
                &entry.size.to_string(),
                &entry.blake3,
                &entry.locked_until,
                &readable(journal.receipt_path(entry)),
                "",
            ])?,
            Outcome::Failed { path, error, retryable, .. } => {
                let result = if *retryable { "not yet" } else { "refused" };
                writer.write_record([&readable(path), result, "", "", "", "", "", error])?;
            }
        }
    }
    writer.flush()?;
    Ok(())
}
