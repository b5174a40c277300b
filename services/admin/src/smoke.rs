//! One small recording, all the way.

use std::{io::Write, path::PathBuf, time::Duration};

use anyhow::{Context, ensure};
use caselock_client::{Client, Connect, Footage, Progress, Throttle, Tls, Upload};
use caselock_domain::{receipt::KeyRing, time::to_proto};
use caselock_proto::v1 as proto;
use caselock_store::Store;
use caselock_store_s3::{S3Config, S3Store};
use clap::Args;
use jiff::Timestamp;

#[derive(Args)]
pub struct Smoke {
    /// The gateway: https://HOST:PORT, or http:// where it has no TLS.
    #[arg(long, value_name = "URL")]
    server: String,
    /// The CA of the gateway's certificate, PEM.
    #[arg(long, value_name = "FILE", requires_all = ["certificate", "key"])]
    ca: Option<PathBuf>,
    /// The bureau's certificate, PEM.
    #[arg(long, value_name = "FILE", requires = "ca")]
    certificate: Option<PathBuf>,
    /// Its key, PEM.
    #[arg(long, value_name = "FILE", requires = "ca")]
    key: Option<PathBuf>,
    /// The public key that receipts are signed with, PEM.
    #[arg(long, value_name = "FILE")]
    receipt_key: PathBuf,
    /// Seconds to go on without any success.
    #[arg(long, default_value_t = 120)]
    patience: u64,
}

pub async fn run(config: &S3Config, smoke: &Smoke) -> anyhow::Result<()> {
    let read = |path: &PathBuf| std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()));
    let tls = match (&smoke.ca, &smoke.certificate, &smoke.key) {
        (Some(ca), Some(certificate), Some(key)) => {
            Some(Tls { ca: read(ca)?, certificate: read(certificate)?, key: read(key)? })
        }
        _ => None,
    };
    let mut keys = KeyRing::default();
    keys.add_pem(&read(&smoke.receipt_key)?).context("read the receipts' key")?;
    let client = Client::new(&Connect { servers: vec![smoke.server.clone()], tls }, keys)?;

    let id = rand::random::<u64>();
    let mut file = tempfile::NamedTempFile::new().context("make a file for the recording")?;
    writeln!(file, "Caselock was tried with this recording, {id:016x}.")?;
    let report = |progress: Progress| match progress {
        Progress::Retrying { error, .. } => eprintln!("trying again: {error}"),
        Progress::Waiting { reason, .. } => eprintln!("the gateway asks to wait: {reason}"),
        _ => {}
    };
    let upload = Upload {
        metadata: metadata(),
        key: format!("smoke:{id:016x}"),
        throttle: <std::sync::Arc<Throttle>>::default(),
        patience: Duration::from_secs(smoke.patience),
        report: &report,
    };
    let receipt = client.upload(&Footage::open(file.path())?, &upload).await.context("upload")?.payload;
    println!("stored and receipted: {} of {}", receipt.recording_id, receipt.bureau);

    let store = S3Store::open(config).await;
    let lock = store.lock(&receipt.object_key, &receipt.version).await.context("read the lock")?;
    let until = lock.until.context("the object has no lock")?;
    ensure!(until >= receipt.locked_until, "the object is locked until {until}, not until {}", receipt.locked_until);
    println!("locked until {until}: {}", receipt.object_key);
    Ok(())
}

fn metadata() -> proto::RecordingMetadata {
    let now = Some(to_proto(Timestamp::now()));
    proto::RecordingMetadata {
        source: proto::Source::BodyWornRecorder as i32,
        matter: proto::Matter::Inspection as i32,
        record_form: proto::RecordForm::Audiovisual as i32,
        unit: "caselock-admin".into(),
        officers: vec!["caselock-admin".into()],
        device_id: "caselock-admin".into(),
        recorded_started_at: now,
        recorded_ended_at: now,
        notice_given: Some(true),
        original_name: "smoke.txt".into(),
        content_type: "text/plain".into(),
        ..Default::default()
    }
}
