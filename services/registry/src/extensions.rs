//! Extensions of deadlines (Article 13): locked objects first, and rows after.

use bytes::Bytes;
use caselock_domain::{
    event::RegistryEvent,
    extension::{self, Extension},
    id::{BureauId, RecordingId},
    object_key,
    retention::end_of,
    time::{Timestamp, to_proto, whole_seconds},
};
use caselock_proto::events::v1::DeadlineExtended;
use caselock_store::{Lock, NewObject, create_locked, read_document};
use sqlx::{Row, any::AnyRow};

use crate::{
    Cases, RegistryError, deadlines,
    keeper::LATE,
    locks::touch_known,
    malformed,
    outbox::{Telling, tell},
};

/// An extension is never larger than this.
const LIMIT: usize = 64 << 10;
/// How often an extension makes room for one that was written meanwhile.
const TURNS: u32 = 10;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// To when.
    pub until: Timestamp,
    /// 机构主管领导, who approved it.
    pub approver: String,
    /// Why.
    pub reason: String,
    /// Who asks: the identity of the caller's certificate.
    pub by: String,
}

impl Cases {
    /// Extends a recording's deadline: a locked object, read back, before this answers. What was said last is not written again.
    pub async fn extend(&self, bureau: &BureauId, id: RecordingId, wish: &Wish) -> Result<(), RegistryError> {
        let _turn = self.turns.take(&id.to_string()).await;
        self.recover_extensions(Some(id)).await?;
        for _ in 0..TURNS {
            let last = self.last_extension(id).await?;
            if last.as_ref().is_some_and(|last| says(last, wish)) {
                return Ok(());
            }
            let extension = Extension {
                media_type: extension::MEDIA_TYPE.into(),
                bureau: bureau.clone(),
                recording_id: id,
                seq: last.map_or(1, |last| last.seq + 1),
                at: whole_seconds((self.clock)()),
                by: wish.by.clone(),
                until: wish.until,
                approver: wish.approver.clone(),
                reason: wish.reason.clone(),
            };
            self.note_extension(&extension, false, Telling::News).await?;
            let there = self.write_extension(&extension).await?;
            self.note_extension(&there, true, Telling::News).await?;
            if says(&there, wish) {
                return Ok(());
            }
        }
        Err(RegistryError::Entry("others extend this deadline all the time: try again".into()))
    }

    /// Looks for extensions that were begun, and may lie in the store: whoever began them may have died.
    pub async fn recover_extensions(&self, only: Option<RecordingId>) -> Result<(), RegistryError> {
        let only = only.map(|id| id.to_string()).unwrap_or_default();
        let rows =
            sqlx::query("SELECT document FROM extensions WHERE is_written = 0 AND ($1 = '' OR recording_id = $1)");
        for row in rows.bind(&only).fetch_all(self.db.pool()).await? {
            match self.recover_extension(&of_row(&row)?).await {
                Err(error) if only.is_empty() => {
                    tracing::error!(%error, "an extension that was begun can't be recovered; trying again");
                }
                recovered => recovered?,
            }
        }
        Ok(())
    }

    async fn recover_extension(&self, begun: &Extension) -> Result<(), RegistryError> {
        let key = object_key::extension(&begun.bureau, begun.recording_id, begun.seq);
        match self.read_extension(&key).await? {
            Some(there) => {
                // It may have died before the lock was read back.
                self.write_extension(&there).await?;
                self.note_extension(&there, true, Telling::News).await
            }
            // It may still be on its way.
            None if (self.clock)().duration_since(begun.at) < LATE => Ok(()),
            None => {
                // Unless somebody has begun it anew meanwhile.
                let gone = sqlx::query(
                    "DELETE FROM extensions WHERE recording_id = $1 AND seq = $2 AND is_written = 0 AND at = $3",
                );
                let gone = gone.bind(begun.recording_id.to_string()).bind(begun.seq as i64);
                gone.bind(begun.at.as_second()).execute(self.db.pool()).await?;
                Ok(())
            }
        }
    }

    /// Takes an extension that lies in the store into the database.
    pub async fn adopt_extension(&self, key: &str) -> Result<(), RegistryError> {
        match self.read_extension(key).await? {
            Some(extension) => self.note_extension(&extension, true, Telling::Past).await,
            None => Ok(()),
        }
    }

    /// A recording's extensions that were read back, in their order.
    pub async fn extensions(&self, id: RecordingId) -> Result<Vec<Extension>, RegistryError> {
        let rows =
            sqlx::query("SELECT document FROM extensions WHERE recording_id = $1 AND is_written = 1 ORDER BY seq");
        rows.bind(id.to_string()).fetch_all(self.db.pool()).await?.iter().map(of_row).collect()
    }

    async fn last_extension(&self, id: RecordingId) -> Result<Option<Extension>, RegistryError> {
        let row = sqlx::query(
            "SELECT document FROM extensions WHERE recording_id = $1 AND is_written = 1 ORDER BY seq DESC LIMIT 1",
        );
        row.bind(id.to_string()).fetch_optional(self.db.pool()).await?.as_ref().map(of_row).transpose()
    }

    async fn read_extension(&self, key: &str) -> Result<Option<Extension>, RegistryError> {
        let Some((_, bytes)) = read_document(&*self.store, key, LIMIT).await? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| RegistryError::Entry(format!("{key}: {error}")))
    }

    /// Writes an extension unless its place is taken, locks what stands there, and returns that. It is locked as long as other
    /// footage at least; beside a stored recording it is kept like that.
    async fn write_extension(&self, extension: &Extension) -> Result<Extension, RegistryError> {
        let key = object_key::extension(&extension.bureau, extension.recording_id, extension.seq);
        let bytes = serde_json::to_vec_pretty(extension).map_err(|e| RegistryError::Entry(e.to_string()))?;
        let until = end_of((self.clock)(), &self.locked_for)?;
        let new = NewObject { content_type: extension::MEDIA_TYPE.into(), part_size: 0, lock_until: until };
        let lock = Lock { until: Some(until), hold: false };
        match create_locked(&*self.store, &key, &new, Bytes::from(bytes), lock, LIMIT).await? {
            None => Ok(extension.clone()),
            Some(there) => serde_json::from_slice(&there).map_err(|e| RegistryError::Entry(format!("{key}: {e}"))),
        }
    }

    /// Notes an extension: begun, or written, which makes it count.
    async fn note_extension(
        &self,
        extension: &Extension,
        is_written: bool,
        telling: Telling,
    ) -> Result<(), RegistryError> {
        let id = extension.recording_id.to_string();
        let document = serde_json::to_string(extension).map_err(|e| RegistryError::Entry(e.to_string()))?;
        let mut tx = self.db.begin().await?;
        let noted = sqlx::query(
            "INSERT INTO extensions (recording_id, seq, document, until, at, is_written) VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (recording_id, seq) DO UPDATE SET document = excluded.document, until = excluded.until,
                 at = excluded.at, is_written = excluded.is_written
             WHERE extensions.is_written = 0",
        );
        let noted = noted
            .bind(&id)
            .bind(extension.seq as i64)
            .bind(document)
            .bind(extension.until.as_second())
            .bind(extension.at.as_second())
            .bind(i64::from(is_written));
        if noted.execute(&mut *tx).await?.rows_affected() == 1 && is_written {
            deadlines::settle(&mut tx, &id, telling).await?;
            // It is kept as the recording is, from now on.
            touch_known(&mut tx, &[extension.recording_id]).await?;
            if telling == Telling::News {
                let extended = DeadlineExtended {
                    recording_id: id,
                    bureau: extension.bureau.to_string(),
                    until: Some(to_proto(extension.until)),
                    extensions: extension.seq as u32,
                };
                let event = RegistryEvent::DeadlineExtended(extended);
                tell(&mut tx, extension.bureau.as_str(), &event, extension.at).await?;
            }
        }
        Ok(tx.commit().await?)
    }
}

fn of_row(row: &AnyRow) -> Result<Extension, RegistryError> {
    let document: String = row.try_get(0)?;
    serde_json::from_str(&document).map_err(malformed)
}

/// Whether an extension is the one that is wished for.
fn says(extension: &Extension, wish: &Wish) -> bool {
    (extension.until, &extension.approver, &extension.reason, &extension.by)
        == (wish.until, &wish.approver, &wish.reason, &wish.by)
}
