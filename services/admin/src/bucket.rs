//! The bucket.

use anyhow::ensure;
use caselock_store::probe::probe;
use caselock_store_s3::{S3Config, S3Store};
use jiff::Timestamp;

pub async fn check(config: &S3Config) -> anyhow::Result<()> {
    let store = S3Store::open(config).await;
    probe(&*store, Timestamp::now(), &format!("{:x}", rand::random::<u64>())).await?;
    println!("{}: keeps locks, holds and checksums", config.bucket);
    match store.rules_that_remove().await? {
        None => {
            println!("{}: does not tell these keys its lifecycle rules (s3:GetLifecycleConfiguration)", config.bucket)
        }
        Some(rules) => {
            let named = rules.join(", ");
            ensure!(
                rules.is_empty(),
                "the bucket's lifecycle rules remove footage, hide it or put it away, once no lock prevents it: {named}; remove them"
            );
            println!("{}: no lifecycle rule removes footage", config.bucket);
        }
    }
    Ok(())
}
