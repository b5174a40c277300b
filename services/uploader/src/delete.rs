//! `--delete-source`: when a device's copy may go.

use std::{fs::File, path::Path, time::Duration};

use anyhow::{Context, ensure};
use caselock_client::{Client, Footage, Stamp};
use caselock_domain::receipt::{Envelope, Receipt};

use crate::journal::{Entry, Journal};

/// Deletes a file, but only after all of this, in this order: the receipt that is kept verifies; the gateway says, now, that
/// the recording is stored, with this very receipt; the file's bytes, read now, are those the receipt vouches for; and the
/// file is still the one that was read.
pub async fn delete_source(
    client: &Client,
    journal: &Journal,
    path: &Path,
    entry: &Entry,
    patience: Duration,
) -> anyhow::Result<()> {
    let kept = std::fs::read(journal.receipt_path(entry)).context("read the receipt")?;
    let kept = Receipt::try_from(&serde_json::from_slice::<Envelope>(&kept).context("read the receipt")?)?;
    let payload = client.keys().verify(&kept)?;
    let confirmed = client.confirm(&entry.recording_id, patience).await?;
    ensure!(confirmed.payload == kept.payload, "the gateway has another receipt for the recording");

    let before = Stamp::of(path)?;
    let blake3 = Footage::open(path)?.whole().await?;
    ensure!(before.size == payload.size && blake3 == payload.blake3, "the file is not what the receipt vouches for");
    ensure!(Stamp::of(path)? == before, "the file changed while it was hashed");
    std::fs::remove_file(path)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}
