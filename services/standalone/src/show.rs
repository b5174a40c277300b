//! `caselock-standalone show`: what lies in the store, for people.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use caselock_domain::{manifest::Manifest, object_key};
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
    lock_until: String,
    legal_hold: bool,
}

/// Prints the table.
pub fn run(arguments: &Show) -> anyhow::Result<()> {
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
        std::thread::sleep(Duration::from_millis(200));
    }
    let mut table = Table::new();
    table.load_preset(UTF8_BORDERS_ONLY).set_header(["recording", "kind", "size", "BLAKE3", "locked until", "files"]);
    for folder in &folders {
        let row = row(&store, folder).with_context(|| format!("read {}", folder.display()))?;
        table.add_row(row);
    }
    println!("{table}");
    println!("The files lie under {}", store.display());
    Ok(())
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

fn row(store: &Path, folder: &Path) -> anyhow::Result<[String; 6]> {
    let manifest: Manifest = serde_json::from_slice(&fs::read(folder.join("manifest.json"))?)?;
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
    Ok([
        manifest.metadata.original_name,
        manifest.metadata.content_type,
        manifest.size.to_string(),
        halves(&manifest.blake3.to_hex()),
        format!("{}{hold}", lock.lock_until),
        files.join("\n"),
    ])
}

/// Two lines of 32 digits are narrower than one of 64.
fn halves(hex: &str) -> String {
    let (a, b) = hex.split_at(hex.len() / 2);
    format!("{a}\n{b}")
}
