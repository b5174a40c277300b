//! `caselock-standalone show`: what lies in the store, for people.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use caselock_domain::{
    manifest::Manifest,
    object_key,
    time::{Timestamp, local},
};
use caselock_registry::{Db, Found, Wanted, find};
use comfy_table::{Table, presets::UTF8_BORDERS_ONLY};
use serde::Deserialize;

/// What to show.
#[derive(clap::Args)]
pub struct Show {
    /// The data folder of the process.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Waits up to so many seconds until proxy and pictures of every recording are made.
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    wait: u64,
}

/// What of `derived.json` is shown.
#[derive(Deserialize)]
struct Derived {
    derivatives: Vec<Derivative>,
    #[serde(default)]
    failure: Option<String>,
}

#[derive(Deserialize)]
struct Derivative {
    object_key: String,
}

/// What of an object's meta file is shown: the lock as it is now.
#[derive(Deserialize)]
struct Lock {
    lock_until: Timestamp,
    legal_hold: bool,
}

/// Prints the table.
pub async fn run(arguments: &Show) -> anyhow::Result<()> {
    let store = arguments.data.join("store");
    let folders = recordings(&store).with_context(|| format!("look into {}", store.display()))?;
    if folders.is_empty() {
        bail!("no recording lies in {}", store.display());
    }
    let give_up = Instant::now() + Duration::from_secs(arguments.wait);
    let mut told = usize::MAX;
    while Instant::now() < give_up {
        let left = folders.iter().filter(|folder| !folder.join("derived.json").exists()).count();
        if left == 0 {
            break;
        }
        if left != told {
            eprintln!("proxies and pictures: {} of {} recordings are done", folders.len() - left, folders.len());
            told = left;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let registry = arguments.data.join("registry.sqlite");
    let db = match registry.exists() {
        true => Some(Db::open(format!("sqlite:{}", registry.display())).await.context("open the registry's database")?),
        false => None,
    };
    let mut table = Table::new();
    let header = ["recording", "kind", "size", "BLAKE3", "case", "deadline", "locked until", "files"];
    table.load_preset(UTF8_BORDERS_ONLY).set_header(header);
    for folder in &folders {
        let manifest: Manifest = serde_json::from_slice(&fs::read(folder.join("manifest.json"))?)
            .with_context(|| format!("read {}", folder.display()))?;
        let known = match &db {
            Some(db) => known(db, &manifest, give_up).await?,
            None => None,
        };
        let row = row(&store, folder, manifest, known).with_context(|| format!("read {}", folder.display()))?;
        table.add_row(row);
    }
    let said = writeln!(std::io::stdout(), "{table}\nThe files lie under {}", store.display());
    match said {
        // Whoever reads only the beginning.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        said => Ok(said?),
    }
}

/// The folders of recordings that have a manifest: `v1/BUREAU/recordings/ID/GENERATION`.
fn recordings(store: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut level = vec![store.join("v1")];
    for depth in 0..4 {
        let mut next = Vec::new();
        for folder in level {
            for entry in fs::read_dir(folder)? {
                let path = entry?.path();
                let wanted = depth != 1 || path.ends_with("recordings");
                if path.is_dir() && wanted {
                    next.push(path);
                }
            }
        }
        level = next;
    }
    level.retain(|folder| folder.join("manifest.json").is_file());
    level.sort();
    Ok(level)
}

/// What the registry knows of a recording, once it has looked at its lock, or there is no more time.
async fn known(db: &Db, manifest: &Manifest, give_up: Instant) -> anyhow::Result<Option<Found>> {
    let wanted = Wanted { id: Some(manifest.recording_id.to_string()), limit: 1, ..Wanted::default() };
    loop {
        let found = find(db, &manifest.bureau, &wanted).await?.pop();
        if found.as_ref().is_some_and(|found| found.is_settled) || Instant::now() >= give_up {
            return Ok(found);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn row(store: &Path, folder: &Path, manifest: Manifest, known: Option<Found>) -> anyhow::Result<[String; 8]> {
    let meta = store.join(".caselock/meta").join(format!("{}.json", manifest.object_key));
    let lock: Lock = serde_json::from_slice(&fs::read(meta)?)?;
    let own = object_key::prefix(&manifest.bureau, manifest.recording_id, manifest.generation);
    let mut files = vec![own.clone(), "  original".to_owned()];
    match fs::read(folder.join("derived.json")) {
        Ok(bytes) => {
            let derived: Derived = serde_json::from_slice(&bytes)?;
            let names = derived.derivatives.iter().map(|d| d.object_key.strip_prefix(&own).unwrap_or(&d.object_key));
            files.extend(names.map(|name| format!("  {name}")));
            files.extend(derived.failure.map(|reason| format!("  no proxy or pictures: {reason}")));
        }
        Err(_) => files.push("  proxy and pictures are not made yet".into()),
    }
    let hold = if lock.legal_hold { "\nand a legal hold" } else { "" };
    let (cases, deadline, because) = match &known {
        Some(found) => (found.cases.join("\n"), deadline(found), because(found)),
        None => (manifest.metadata.case_number.clone().unwrap_or_default(), String::new(), String::new()),
    };
    Ok([
        manifest.metadata.original_name,
        kind(&manifest.metadata.content_type).to_owned(),
        manifest.size.to_string(),
        quarters(&manifest.blake3.to_hex()),
        cases,
        deadline,
        format!("{}{hold}{because}", local(lock.lock_until)),
        files.join("\n"),
    ])
}

fn kind(content_type: &str) -> &'static str {
    match content_type.split_once('/') {
        Some(("video", _)) => "video",
        Some(("audio", _)) => "audio",
        Some(("image", _)) => "photo",
        Some(("application", _)) if content_type != "application/octet-stream" => "document",
        _ => "other",
    }
}

/// How it stands towards its deadline.
fn deadline(found: &Found) -> String {
    let Some(awaited) = &found.awaited else { return "none".into() };
    let standing = format!("{:?}", awaited.standing(Timestamp::now()));
    let standing = match standing.as_str() {
        "OnTime" => "on time".to_owned(),
        other => other.to_lowercase(),
    };
    format!("{standing}\n(due {})", local(awaited.deadline.last_moment()))
}

/// What the lock follows from.
fn because(found: &Found) -> String {
    let case = found.follows_case.as_deref().unwrap_or_default();
    match found.follows.as_deref() {
        Some("floor") => "\nby the least period".into(),
        Some("open_case") => format!("\nby case {case},\nopen or not opened yet"),
        Some("closed_case") => format!("\nby closed case {case}"),
        Some("earlier_lock") => "\nby an earlier lock".into(),
        Some("permanent_case") => format!("\nby permanent case {case}"),
        _ => String::new(),
    }
}

/// Four lines of 16 digits are narrower than one of 64.
fn quarters(hex: &str) -> String {
    let lines: Vec<_> = (0..hex.len()).step_by(16).filter_map(|at| hex.get(at..at + 16)).collect();
    lines.join("\n")
}
