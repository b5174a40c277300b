//! The documents beside an original, as the store has them: what events tell of, and what a rebuild reads.

use caselock_domain::{
    derived::Derived,
    id::{BureauId, RecordingId},
    manifest::{self, Manifest},
    object_key,
    verification::Verification,
};
use caselock_store::{Store, read_document};
use serde_json::from_slice;
use sqlx::{Any, Transaction};

use crate::{
    Recording, RegistryError, Rules, attention,
    deadlines::{self, Origin},
    locks,
    outbox::Telling,
};

/// What lies beside an original.
#[derive(Debug, Clone, PartialEq)]
pub struct Documents {
    /// What it is.
    pub manifest: Manifest,
    /// What reading it back found, once that was done.
    pub verification: Option<Verification>,
    /// What was derived from it, once that was tried.
    pub derived: Option<Derived>,
}

impl Documents {
    /// The recording's id.
    pub fn id(&self) -> String {
        self.manifest.recording_id.to_string()
    }

    /// Saves the recording they are of, with its deadline and its flags.
    pub async fn save(
        &self,
        tx: &mut Transaction<'static, Any>,
        rules: &Rules,
        telling: Telling,
    ) -> Result<(), RegistryError> {
        let recording = Recording::of(self);
        // A database that knew recordings before it knew deadlines reads the events once more.
        if !recording.save(tx).await? && deadlines::is_known(tx, &recording.id).await? {
            return Ok(());
        }
        if telling == Telling::News {
            locks::begins_with(tx, &recording).await?;
        }
        let stored = (Origin::Stored, Some(self.manifest.retention.stored_at));
        let metadata = &self.manifest.metadata;
        deadlines::expect(tx, rules, (&recording.bureau, &recording.id), metadata, stored, telling).await?;
        attention::of_recording(tx, rules, &recording, metadata, telling).await
    }
}

/// Reads the documents of a generation; `None` where there is no manifest that can be read. What can't be read is told, and
/// blocks nothing.
pub async fn read(
    store: &dyn Store,
    bureau: &BureauId,
    id: RecordingId,
    generation: u32,
) -> Result<Option<Documents>, RegistryError> {
    let key = object_key::manifest(bureau, id, generation);
    let Some(manifest) = document::<Manifest>(store, &key).await? else { return Ok(None) };
    if (&manifest.bureau, manifest.recording_id, manifest.generation) != (bureau, id, generation) {
        tracing::error!(key, "the manifest of another recording");
        return Ok(None);
    }
    Ok(Some(Documents {
        manifest,
        verification: document(store, &object_key::verification(bureau, id, generation)).await?,
        derived: document(store, &object_key::derived(bureau, id, generation)).await?,
    }))
}

async fn document<T: serde::de::DeserializeOwned>(store: &dyn Store, key: &str) -> Result<Option<T>, RegistryError> {
    let Some((_, bytes)) = read_document(store, key, manifest::LIMIT).await? else { return Ok(None) };
    match from_slice(&bytes) {
        Ok(document) => Ok(Some(document)),
        Err(error) => {
            tracing::error!(key, %error, "a document can't be read");
            Ok(None)
        }
    }
}
