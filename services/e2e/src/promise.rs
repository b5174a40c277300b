//! What is promised of a recording that was uploaded through a [`Bench`].

use std::path::{Path, PathBuf};

use caselock_client::Uploaded;
use caselock_domain::{id::RecordingId, manifest::Manifest, object_key, receipt::Receipt, state::Phase};
use caselock_log::{Record, Topic};
use caselock_store::{ErrorKind, read_document};

use crate::{Bench, random_file};

/// The key that tests upload under.
pub const KEY: &str = "k";

/// The recording of [`KEY`].
pub fn id() -> RecordingId {
    RecordingId::derive(&"demo".parse().unwrap(), &KEY.parse().unwrap())
}

/// A header of a record, as text.
pub fn header(record: &Record, name: &str) -> String {
    String::from_utf8(record.header_value(name).unwrap().to_vec()).unwrap()
}

impl Bench {
    /// A file of random bytes.
    pub fn file(&self, length: u64) -> PathBuf {
        let path = self.dir.path().join("footage.bin");
        random_file(&path, length);
        path
    }

    /// One object, locked and held; one receipt, in the client's hands, the manifest and the facts alike; its event, whose
    /// copies are the same.
    pub async fn check(&self, path: &Path, uploaded: &Uploaded) {
        let payload = self.keys.verify(&uploaded.receipt).unwrap();
        let whole = *blake3::hash(&std::fs::read(path).unwrap()).as_bytes();
        assert_eq!(payload.blake3.0, whole);
        let versions = self.store.versions(&payload.object_key).await.unwrap();
        assert_eq!(versions.len(), 1);
        assert_eq!(versions[0].id, payload.version);
        let lock = self.store.lock(&payload.object_key, &payload.version).await.unwrap();
        assert_eq!((lock.until, lock.hold), (Some(payload.locked_until), true));
        let deleted = self.store.delete_version(&payload.object_key, &payload.version, true).await;
        assert_eq!(deleted.unwrap_err().kind, ErrorKind::Locked);

        let key = object_key::manifest(&payload.bureau, payload.recording_id, payload.generation);
        let (version, manifest) = read_document(&*self.store, &key, 1 << 20).await.unwrap().unwrap();
        assert_eq!(self.store.lock(&key, &version).await.unwrap(), lock);
        let manifest: Manifest = serde_json::from_slice(&manifest).unwrap();
        assert_eq!(Receipt::try_from(&manifest.receipt).unwrap(), uploaded.receipt);

        // The end is finished: told, and tidied.
        self.wait_for("the end", payload.recording_id, |facts| {
            facts.phase() == Some(Phase::Stored) && facts.now().unwrap().finished_work().is_empty()
        })
        .await;
        let facts = self.facts(payload.recording_id).await;
        assert_eq!(facts.now().unwrap().receipt(), Some(&uploaded.receipt));
        let own = async |topic| {
            let records = self.records(topic, payload.recording_id).await.into_iter().map(|(_, record)| record);
            records.filter(|record| record.key == payload.recording_id.to_string()).collect::<Vec<_>>()
        };
        let events = own(Topic::Events).await;
        let stored: Vec<_> =
            events.iter().filter(|record| header(record, "ce_type") == "io.caselock.recording.stored.v1").collect();
        assert!(!stored.is_empty());
        assert!(stored.iter().all(|record| *record == stored[0]), "copies of the event differ");
        assert!(!own(Topic::MediaJobs).await.is_empty());
    }

    /// Uploads while `meanwhile` does its worst.
    pub async fn stored_in_the_end(&self, path: &Path, meanwhile: impl Future<Output = ()>) -> Uploaded {
        let (uploaded, ()) = tokio::join!(self.upload(&self.client, path, KEY), meanwhile);
        let uploaded = uploaded.unwrap();
        self.check(path, &uploaded).await;
        uploaded
    }

    /// As if the log had lost every segment.
    pub async fn lose_all_footage(&self) {
        for partition in 0..self.log.partitions(Topic::Footage) {
            let end = self.log.bounds(Topic::Footage, partition).await.unwrap().end;
            self.log.delete_before(Topic::Footage, partition, end).await.unwrap();
        }
    }
}
