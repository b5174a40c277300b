//! The whole state from the bucket alone. Stopped at any point, it goes on where it was; until its end nothing is judged by
//! what is there.

use std::time::Duration;

use caselock_domain::{
    id::{BureauId, RecordingId},
    object_key,
};
use futures::{StreamExt, stream};
use sqlx::Row;
use tokio_util::sync::CancellationToken;

use crate::{Cases, Db, RegistryError, documents, outbox::Telling};

/// Recordings whose documents are read at once, and saved in one transaction.
const AT_ONCE: usize = 16;
const BATCH: usize = 100;
/// How long to wait before going on after a failure.
const PAUSE: Duration = Duration::from_secs(5);

/// Reads every manifest and every entry of a case into the database. Returns how many recordings were read by this call.
pub async fn rebuild(cases: &Cases) -> Result<u64, RegistryError> {
    let (db, store) = (&cases.db, &*cases.store);
    let begun = sqlx::query("SELECT after_key FROM rebuild").fetch_optional(db.pool()).await?;
    let mut after: Option<String> = begun.map(|row| row.try_get(0)).transpose()?.filter(|key: &String| !key.is_empty());
    note(db, after.as_deref().unwrap_or_default()).await?;
    let mut count = 0;
    loop {
        let page = store.keys("v1/", after.as_deref()).await?;
        // Of a recording the manifest comes before everything else, in the order of keys as well as here.
        count += take_manifests(cases, &page.keys).await?;
        for key in &page.keys {
            if object_key::is_case_entry(key) {
                // Keys come in order, so entries do.
                cases.take_entry(key, false).await?;
            } else if object_key::is_extension(key) {
                pass_over(key, cases.adopt_extension(key).await)?;
            } else if object_key::disposed_generation(key).is_some() {
                pass_over(key, cases.adopt_disposal(key).await)?;
            }
        }
        let Some(last) = page.keys.last().filter(|_| page.more) else { break };
        note(db, last).await?;
        after = Some(last.clone());
    }
    sqlx::query("DELETE FROM rebuild").execute(db.pool()).await?;
    Ok(count)
}

/// Begins a rebuild where a new database meets a store that is not empty: events alone do not tell of every case, and by a view
/// that lacks one nothing may be loosened.
pub async fn begin_where_needed(cases: &Cases) -> Result<(), RegistryError> {
    if !cases.db.is_new().await? {
        return Ok(());
    }
    let mut after = None;
    loop {
        let page = cases.store.keys("v1/", after.as_deref()).await?;
        if page.keys.iter().any(|key| !key.starts_with("v1/probe/")) {
            tracing::warn!("the database is new, and the store is not empty: it is rebuilt from the store");
            return note(&cases.db, "").await;
        }
        match page.keys.into_iter().next_back().filter(|_| page.more) {
            Some(last) => after = Some(last),
            None => return Ok(()),
        }
    }
}

/// Goes on with a rebuild that has begun, until it is done or `stop`.
pub async fn go_on(cases: Cases, stop: CancellationToken) {
    let work = async {
        loop {
            let done = async {
                if !cases.db.is_rebuilding().await? {
                    return Ok(());
                }
                let count = rebuild(&cases).await?;
                tracing::info!(count, "the rebuild from the store is done");
                Ok::<(), RegistryError>(())
            };
            match done.await {
                Ok(()) => return,
                Err(error) => tracing::warn!(%error, "the rebuild from the store failed; going on with it"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    stop.run_until_cancelled(work).await;
}

/// Reads the documents of every manifest among these keys, some at once, and saves them, some in one transaction.
async fn take_manifests(cases: &Cases, keys: &[String]) -> Result<u64, RegistryError> {
    let manifests: Vec<_> = keys.iter().filter_map(|key| manifest_of(key)).collect();
    let read = stream::iter(manifests).map(|(bureau, id, generation)| {
        let store = cases.store.clone();
        async move { documents::read(&*store, &bureau, id, generation).await }
    });
    let mut batches = std::pin::pin!(read.buffered(AT_ONCE).chunks(BATCH));
    let mut count = 0;
    while let Some(batch) = batches.next().await {
        let mut transaction = cases.db.begin().await?;
        for documents in batch {
            let Some(documents) = documents? else { continue };
            documents.save(&mut transaction, &cases.rules, Telling::Past).await?;
            count += 1;
        }
        transaction.commit().await?;
    }
    Ok(count)
}

/// A document that can't be read is told, and stops nothing.
pub fn pass_over(key: &str, adopted: Result<(), RegistryError>) -> Result<(), RegistryError> {
    match adopted {
        Err(error @ RegistryError::Entry(_)) => {
            tracing::error!(key, %error, "a document can't be taken over");
            Ok(())
        }
        adopted => adopted,
    }
}

async fn note(db: &Db, after: &str) -> Result<(), RegistryError> {
    sqlx::query("INSERT INTO rebuild (id, after_key) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET after_key = excluded.after_key")
        .bind(after)
        .execute(db.pool())
        .await?;
    Ok(())
}

/// The recording and generation whose manifest a key is.
fn manifest_of(key: &str) -> Option<(BureauId, RecordingId, u32)> {
    let generation = object_key::manifest_generation(key)?;
    let mut parts = key.strip_prefix("v1/")?.split('/');
    let bureau: BureauId = parts.next()?.parse().ok()?;
    let id: RecordingId = parts.nth(1)?.parse().ok()?;
    (object_key::manifest(&bureau, id, generation) == key).then_some((bureau, id, generation))
}
