//! `caselock status` and `caselock receipt verify`.

use std::path::Path;

use anyhow::{Context, anyhow};
use caselock_client::Footage;
use caselock_domain::receipt::{Envelope, KeyRing, Receipt};

use crate::{
    HELD, STORED, args,
    journal::Journal,
    names::readable,
    phrases::{say_phrase, shown},
    text::{local_time, put, say},
    usage,
};

/// Lists the journal.
pub fn status(arguments: &args::Status) -> anyhow::Result<u8> {
    let dir = arguments.journal.clone().map_or_else(Journal::default_dir, Ok)?;
    // A mistyped folder must not look like one in which all is well.
    if !dir.join("journal.jsonl").is_file() {
        return Err(usage(anyhow!("there is no journal in {}", dir.display())));
    }
    let journal = Journal::open(&dir)?;
    for entry in journal.entries() {
        if arguments.json {
            let mut shown = serde_json::to_value(&entry)?;
            shown["path"] = readable(&entry.path).into();
            put(shown)?;
        } else {
            let file = readable(&entry.path);
            let line =
                [("recording", &*entry.recording_id), ("until", &local_time(&entry.locked_until)), ("file", &file)];
            put(say("status-line", &line))?;
        }
    }
    Ok(STORED)
}

/// Checks receipts.
pub async fn verify(command: &args::Receipt) -> anyhow::Result<u8> {
    let args::Receipt::Verify(arguments) = command;
    let keys = key_ring(&arguments.receipt_keys).map_err(usage)?;
    let mut code = STORED;
    for path in &arguments.receipts {
        let file = readable(path);
        match check(path, &keys, arguments.file.as_deref()).await {
            Ok(what) => put(say("receipt-good", &[("file", &file), ("what", &say_phrase(&what))]))?,
            Err(error) => {
                put(say("receipt-bad", &[("file", &file), ("error", &shown(&error))]))?;
                code = HELD;
            }
        }
    }
    Ok(code)
}

async fn check(path: &Path, keys: &KeyRing, file: Option<&Path>) -> anyhow::Result<String> {
    let text = std::fs::read(path).context("read the receipt")?;
    let envelope: Envelope = serde_json::from_slice(&text).context("this is not a receipt")?;
    let payload = keys.verify(&Receipt::try_from(&envelope)?)?;
    if let Some(file) = file {
        let footage = Footage::open(file).with_context(|| format!("read {}", readable(file)))?;
        let (size, blake3) = (footage.stamp().size, footage.whole().await?);
        anyhow::ensure!(
            size == payload.size && blake3 == payload.blake3,
            "it vouches for {} bytes with BLAKE3 {}; {} has {size} with {}",
            payload.size,
            payload.blake3.to_hex(),
            file.display(),
            blake3.to_hex()
        );
    }
    Ok(format!(
        "{} {} bytes, BLAKE3 {}, locked until {}",
        payload.original_name,
        payload.size,
        payload.blake3.to_hex(),
        local_time(&payload.locked_until.to_string())
    ))
}

/// Reads a PEM file of public keys.
pub fn key_ring(path: &Path) -> anyhow::Result<KeyRing> {
    let mut keys = KeyRing::default();
    let pem = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    keys.add_pem(&pem).with_context(|| format!("use {}", path.display()))?;
    Ok(keys)
}
