//! The whole state from the bucket alone. Stopped at any point, it goes on where it was; until its end nothing is judged by
//! what is there.

use caselock_domain::{
    id::{BureauId, RecordingId},
    object_key,
};
use caselock_store::Store;
use sqlx::Row;

use crate::{Db, Recording, RegistryError, documents};

/// Reads every manifest into the database. Returns how many recordings were read by this call.
pub async fn rebuild(db: &Db, store: &dyn Store) -> Result<u64, RegistryError> {
    let begun = sqlx::query("SELECT after_key FROM rebuild").fetch_optional(db.pool()).await?;
    let mut after: Option<String> = begun.map(|row| row.try_get(0)).transpose()?.filter(|key: &String| !key.is_empty());
    note(db, after.as_deref().unwrap_or_default()).await?;
    let mut count = 0;
    loop {
        let page = store.keys("v1/", after.as_deref()).await?;
        for key in &page.keys {
            let Some((bureau, id, generation)) = manifest_of(key) else { continue };
            let Some(documents) = documents::read(store, &bureau, id, generation).await? else { continue };
            let mut transaction = db.begin().await?;
            Recording::of(&documents).save(&mut transaction).await?;
            transaction.commit().await?;
            count += 1;
        }
        let Some(last) = page.keys.last().filter(|_| page.more) else { break };
        note(db, last).await?;
        after = Some(last.clone());
    }
    sqlx::query("DELETE FROM rebuild").execute(db.pool()).await?;
    Ok(count)
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
