//! Rebuild and audit of a store with many recordings.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use bytes::Bytes;
use caselock_domain::{
    case::{self, CaseChange, CaseEntry, CaseId, CaseNumber},
    derived::{self, Derived},
    digest::Blake3,
    id::{BureauId, RecordingId},
    manifest::{self, Manifest, Retention},
    object_key,
    receipt::Envelope,
    retention::{end_of, rule::Rolling},
    time::{Timestamp, whole_seconds},
    verification::{self, Verification},
};
use caselock_registry::{Cases, Db, Rules, audit, rebuild};
use caselock_runtime::clock::system_clock;
use caselock_store::{Crc64Nvme, NewObject, Store, fs::FsStore};
use caselock_store_s3::{S3Config, S3Store};
use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::ToSpan;
use serde::Serialize;
use tempfile::TempDir;

use crate::peak_memory;

/// So many recordings have a case, of which every other one is evidence in it.
const PER_CASE: u64 = 10;

/// Objects put at once.
const AT_ONCE: usize = 32;

/// What is measured.
#[derive(Args)]
pub struct OfStore {
    /// How many recordings, each with four objects: original, manifest, verification and list of derivatives. Every other one is
    /// held as evidence, five in each case.
    #[arg(long)]
    recordings: u64,
    /// The database: `sqlite:PATH?mode=rwc` or `postgres://…`. It must be empty.
    #[arg(long)]
    database: String,
}

/// Fills, rebuilds, and compares.
pub async fn run(asked: &OfStore) -> anyhow::Result<()> {
    let dir = TempDir::new()?;
    let began = Instant::now();
    let store: Arc<dyn Store> = match s3_config() {
        Some(config) => {
            let s3 = S3Store::open(&config).await;
            s3.create_bucket().await.context("make a bucket")?;
            fill_store(&*s3, asked.recordings).await?;
            s3
        }
        None => {
            fill_directory(dir.path(), asked.recordings).await?;
            FsStore::open(dir.path().to_owned(), system_clock())?
        }
    };
    println!("filled with {} recordings in {:.0} s", asked.recordings, began.elapsed().as_secs_f64());
    let db = Db::open(&*asked.database).await.context("open the database")?;
    let cases = Cases::new(db, store, system_clock(), Arc::new(Rules::packaged()?), 6.months());
    let began = Instant::now();
    let count = rebuild(&cases).await?;
    ensure!(count == asked.recordings, "{count} of {} recordings were read", asked.recordings);
    tell("rebuild", count, began);
    let began = Instant::now();
    let rolling = Rolling::default();
    let summary = audit(&cases, &rolling, Duration::ZERO, |line| {
        for finding in &line.findings {
            eprintln!("{finding:?}");
        }
    })
    .await?;
    let subjects = asked.recordings + asked.recordings.div_ceil(PER_CASE);
    ensure!(summary.subjects == subjects && summary.with_findings == 0, "{summary:?}");
    tell("audit", asked.recordings, began);
    Ok(())
}

fn tell(what: &str, count: u64, began: Instant) {
    let seconds = began.elapsed().as_secs_f64();
    let rate = count as f64 / seconds;
    let million = 1e6 / rate / 3600.0;
    println!(
        "{what}: {count} recordings in {seconds:.1} s, {rate:.0} a second; a million would take {million:.1} h; peak memory {} MiB",
        peak_memory()
    );
}

fn s3_config() -> Option<S3Config> {
    let variable = |name: &str| std::env::var(format!("CASELOCK_TEST_S3_{name}")).ok();
    Some(S3Config {
        bucket: format!("load-{:x}", rand::random::<u64>()),
        prefix: String::new(),
        region: variable("REGION").unwrap_or_else(|| "us-east-1".into()),
        endpoint: Some(variable("ENDPOINT")?),
        access_key: variable("ACCESS_KEY").map(Into::into),
        secret_key: variable("SECRET_KEY").map(Into::into),
        ..S3Config::default()
    })
}

/// An object that is put.
struct Object {
    key: String,
    content_type: &'static str,
    bytes: Bytes,
    is_held: bool,
}

/// A recording's objects, the original first, and with the first recording of a case its record. The original's version is filled
/// in by whoever knows it.
fn objects(number: u64, version: &str, stored_at: Timestamp, until: Timestamp) -> anyhow::Result<Vec<Object>> {
    let (bureau, key): (BureauId, _) = ("load".parse()?, format!("load:{number}").parse()?);
    let case: CaseNumber = format!("case-{}", number / PER_CASE).try_into()?;
    let is_evidence = number % 2 == 1;
    let id = RecordingId::derive(&bureau, &key);
    let original = Bytes::from(format!("recording {number:012}"));
    let blake3 = Blake3([7; 32]);
    let metadata = serde_json::from_value(serde_json::json!({
        "source": "body_worn_recorder", "matter": "inspection", "record_form": "audiovisual",
        "unit": format!("unit-{}", number % 40), "officers": [format!("officer-{}", number % 600)],
        "device_id": format!("device-{}", number % 2000), "original_name": format!("DSJ_{number}.MP4"),
        "content_type": "video/mp4", "recorded_started_at": stored_at, "recorded_ended_at": stored_at,
        "notice_given": true, "case_number": is_evidence.then(|| case.as_str()),
    }))?;
    let manifest = Manifest {
        media_type: manifest::MEDIA_TYPE.into(),
        recording_id: id,
        generation: 0,
        bureau,
        idempotency_key: key,
        metadata,
        size: original.len() as u64,
        blake3,
        crc64nvme: Crc64Nvme::of(&original).to_string(),
        segment_size: 8 << 20,
        segments: vec!["07".repeat(32)],
        object_key: object_key::original(&"load".parse()?, id, 0),
        version: version.to_owned(),
        retention: Retention {
            stored_at,
            period: "P6M".into(),
            time_zone: "Asia/Shanghai".into(),
            locked_until: until,
            legal_hold: is_evidence,
            rule: "Article 15".into(),
        },
        receipt: Envelope { payload_type: String::new(), payload: String::new(), signatures: Vec::new() },
    };
    let verification = Verification {
        media_type: verification::MEDIA_TYPE.into(),
        recording_id: id,
        generation: 0,
        version: version.to_owned(),
        verified_at: stored_at,
        size: manifest.size,
        blake3,
        sha256: "07".repeat(32),
        sm3: "07".repeat(32),
        intact: true,
    };
    let derived = Derived {
        media_type: derived::MEDIA_TYPE.into(),
        recording_id: id,
        generation: 0,
        original_blake3: blake3,
        derived_at: stored_at,
        derivatives: Vec::new(),
        failure: None,
        probe: serde_json::Value::Null,
        warnings: Vec::new(),
    };
    let bureau = &manifest.bureau;
    let object = |key, content_type, bytes| Object { key, content_type, bytes, is_held: is_evidence };
    let mut all = vec![
        object(manifest.object_key.clone(), "video/mp4", original),
        object(object_key::manifest(bureau, id, 0), manifest::MEDIA_TYPE, json(&manifest)?),
        object(object_key::verification(bureau, id, 0), verification::MEDIA_TYPE, json(&verification)?),
        object(object_key::derived(bureau, id, 0), derived::MEDIA_TYPE, json(&derived)?),
    ];
    if number.is_multiple_of(PER_CASE) {
        let key = object_key::case_entry(bureau, CaseId::derive(bureau, &case), 1);
        let opened = CaseEntry {
            media_type: case::MEDIA_TYPE.into(),
            bureau: bureau.clone(),
            number: case,
            seq: 1,
            at: stored_at,
            by: "load".into(),
            change: CaseChange::Opened { party: None, cause: None, full_recording_required: false },
        };
        all.push(Object { key, content_type: case::MEDIA_TYPE, bytes: json(&opened)?, is_held: true });
    }
    Ok(all)
}

fn json(document: &impl Serialize) -> anyhow::Result<Bytes> {
    Ok(serde_json::to_vec_pretty(document)?.into())
}

fn times() -> anyhow::Result<(Timestamp, Timestamp)> {
    let stored_at = whole_seconds(Timestamp::now());
    Ok((stored_at, end_of(stored_at, &6.months())?))
}

async fn fill_store(store: &dyn Store, count: u64) -> anyhow::Result<()> {
    let (stored_at, until) = times()?;
    let put = async |object: Object| {
        let Object { key, content_type, bytes, is_held } = object;
        let new = NewObject { content_type: content_type.into(), part_size: 0, lock_until: until };
        let version = store.put(&key, &new, bytes.clone(), Crc64Nvme::of(&bytes)).await?;
        if is_held {
            store.set_hold(&key, &version, true).await?;
        }
        Ok::<_, anyhow::Error>(version)
    };
    let filled = stream::iter(0..count).map(async |number| {
        let version = put(objects(number, "", stored_at, until)?.remove(0)).await?;
        for object in objects(number, &version, stored_at, until)?.into_iter().skip(1) {
            put(object).await?;
        }
        Ok::<(), anyhow::Error>(())
    });
    filled.buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    Ok(())
}

/// Writes the files of a directory store as it writes them itself, but for syncing each: the form is taken from one that it
/// has written.
async fn fill_directory(root: &Path, count: u64) -> anyhow::Result<()> {
    let (stored_at, until) = times()?;
    let sample = TempDir::new()?;
    let Object { key, content_type, bytes, .. } = objects(0, "", stored_at, until)?.remove(0);
    let new = NewObject { content_type: content_type.into(), part_size: 0, lock_until: until };
    let store = FsStore::open(sample.path().to_owned(), system_clock())?;
    store.put(&key, &new, bytes.clone(), Crc64Nvme::of(&bytes)).await?;
    let meta_of = |root: &Path, key: &str| root.join(".caselock/meta").join(format!("{key}.json"));
    let mut meta: serde_json::Value = serde_json::from_slice(&std::fs::read(meta_of(sample.path(), &key))?)?;
    let version = meta["version"].as_str().context("a version")?.to_owned();
    for number in 0..count {
        for Object { key, content_type, bytes, is_held } in objects(number, &version, stored_at, until)? {
            meta["legal_hold"] = is_held.into();
            meta["size"] = bytes.len().into();
            meta["crc64nvme"] = Crc64Nvme::of(&bytes).to_string().into();
            meta["content_type"] = content_type.into();
            for (path, content) in [(meta_of(root, &key), serde_json::to_vec(&meta)?.into()), (root.join(&key), bytes)]
            {
                std::fs::create_dir_all(path.parent().context("a folder")?)?;
                std::fs::write(path, content)?;
            }
        }
    }
    Ok(())
}
