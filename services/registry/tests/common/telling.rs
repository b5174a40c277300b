//! What a registry tells: its events on the log, and a judge and an outbox to make them.
#![allow(clippy::unwrap_used, dead_code)]

use std::sync::Arc;

use caselock_domain::{
    event::RecordingEvent,
    fact::{Announced, Fact, FactKey, Subject},
    flag::Flag,
    id::RecordingId,
    manifest::Manifest,
    metadata::Metadata,
    object_key,
    time::Timestamp,
};
use caselock_log::{Log, Topic, append_fact};
use caselock_proto::events::v1::RecordingStored;
use caselock_registry::{Disposer, Judge, Outbox, raised};
use caselock_store::{NewObject, create, read_document};

use super::world::{World, demo, rules};

/// An event of the registry, as it stands on the log.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Told {
    pub subject: String,
    pub kind: String,
    pub id: String,
    pub sequence: String,
}

impl World {
    pub fn outbox(&self) -> Outbox {
        self.outbox_on(&self.log)
    }

    pub fn outbox_on(&self, log: &Arc<dyn Log>) -> Outbox {
        Outbox::new(self.fresh.db.clone(), log.clone())
    }

    pub fn judge(&self) -> Judge {
        Judge {
            db: self.fresh.db.clone(),
            following: Arc::new(self.following(&self.store)),
            outbox: self.outbox(),
            clock: self.dial.clock(),
            rules: rules(),
        }
    }

    pub fn disposer(&self) -> Disposer {
        self.disposer_on(&self.log, &self.store)
    }

    pub fn disposer_on(&self, log: &Arc<dyn Log>, store: &Arc<dyn caselock_store::Store>) -> Disposer {
        let following = Arc::new(self.following(store));
        Disposer::new(self.cases_on(store), following, self.keeper_on(store), self.outbox_on(log), log.clone())
    }

    /// Publishes all there is, as a registry that begins.
    pub async fn publish(&self) {
        let outbox = self.outbox();
        outbox.open(&self.following(&self.store)).await.unwrap();
        while outbox.publish().await.unwrap() > 0 {}
    }

    /// What the registry has told so far about a subject, in order, of types that contain this.
    pub async fn told(&self, subject: &str, kind: &str) -> Vec<Told> {
        let mut told = Vec::new();
        for partition in 0..self.log.partitions(Topic::Events) {
            for (_, record) in self.bench.partition(Topic::Events, partition).await {
                let header = |name: &str| String::from_utf8(record.header_value(name).unwrap().to_vec()).unwrap();
                if header("ce_source").ends_with("/registry") {
                    let (kind, id) = (header("ce_type"), header("ce_id"));
                    told.push(Told { subject: header("ce_subject"), kind, id, sequence: header("ce_sequence") });
                }
            }
        }
        told.retain(|told| told.subject == subject && told.kind.contains(kind));
        told
    }

    /// As if another recording of the device had been stored: its manifest, and the event of it; and the registry has read it.
    pub async fn stores(&self, key: &str, change: impl FnOnce(&mut Manifest)) -> RecordingId {
        let id = self.stores_unseen(key, change).await;
        self.following(&self.store).catch_up().await.unwrap();
        id
    }

    /// As [`World::stores`], with no registry to read it.
    pub async fn stores_unseen(&self, key: &str, change: impl FnOnce(&mut Manifest)) -> RecordingId {
        let own = object_key::manifest(&demo(), self.id, 0);
        let (_, bytes) = read_document(&*self.store, &own, 1 << 20).await.unwrap().unwrap();
        let mut manifest: Manifest = serde_json::from_slice(&bytes).unwrap();
        manifest.recording_id = RecordingId::derive(&demo(), &key.parse().unwrap());
        manifest.metadata.case_number = None;
        manifest.retention.legal_hold = false;
        change(&mut manifest);
        let id = manifest.recording_id;
        let (key, lock_until) = (object_key::manifest(&demo(), id, 0), manifest.retention.locked_until);
        let new = NewObject { content_type: "application/json".into(), part_size: 0, lock_until };
        create(&*self.store, &key, &new, serde_json::to_vec(&manifest).unwrap().into()).await.unwrap();
        let message = RecordingStored { recording_id: id.to_string(), bureau: "demo".into(), ..Default::default() };
        let event = RecordingEvent::Stored(message);
        caselock_log::publish(&*self.log, &event, &demo(), id, 0, manifest.retention.stored_at, None).await.unwrap();
        id
    }

    /// The flags that are raised for a subject.
    pub async fn flags(&self, subject: &str) -> Vec<Flag> {
        let raised = raised(&self.fresh.db, &[subject.to_owned()]).await.unwrap();
        raised.into_iter().map(|(_, raised)| raised.flag).collect()
    }

    /// A recording that its bureau announced, its scene over at a moment.
    pub async fn announce(&self, key: &str, scene_ended_at: Timestamp) -> RecordingId {
        let metadata: Metadata = serde_json::from_value(serde_json::json!({
            "source": "body_worn_recorder", "matter": "inspection", "record_form": "audiovisual", "unit": "u",
            "officers": ["o"], "device_id": "DSJ-1", "original_name": format!("{key}.mp4"), "content_type": "video/mp4",
            "recorded_started_at": scene_ended_at, "recorded_ended_at": scene_ended_at, "scene_ended_at": scene_ended_at,
        }))
        .unwrap();
        let idempotency = key.parse().unwrap();
        let id = RecordingId::derive(&demo(), &idempotency);
        let fact = Announced { bureau: demo(), key: idempotency, metadata, announced_at: scene_ended_at };
        let key = FactKey { recording: id, generation: 0, subject: Subject::Announced([1; 16]) };
        append_fact(&*self.log, &key, Some(&Fact::Announced(Box::new(fact)))).await.unwrap();
        id
    }
}
