//! The bucket.

use caselock_store::probe::probe;
use caselock_store_s3::{S3Config, S3Store};
use jiff::Timestamp;

pub async fn check(config: &S3Config) -> anyhow::Result<()> {
    let store = S3Store::open(config).await;
    probe(&*store, Timestamp::now(), &format!("{:x}", rand::random::<u64>())).await?;
    println!("{}: keeps locks, holds and checksums", config.bucket);
    Ok(())
}
