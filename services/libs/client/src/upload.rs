//! From a file to its receipt.

use std::{sync::Arc, time::Duration};

use caselock_domain::{
    digest::{self, Blake3, SegmentValue},
    id::RecordingId,
    reason::Reason,
    receipt::{Receipt, ReceiptPayload},
    shape::Shape,
};
use caselock_proto::v1::{self as proto, RecordingState, watch_recordings_response::Content};
use tokio::time::{sleep, timeout};
use tonic_types::StatusExt;

use crate::{
    Client, Footage, Throttle, UploadError,
    connect::Ingest,
    retry::Patience,
    send::{self, Ended, Segments, no_server},
};

/// How long to wait for news of a sealed recording before asking.
const NEWS: Duration = Duration::from_secs(20);
/// How long to wait before sealing again what is not stored yet.
const AGAIN: Duration = Duration::from_millis(500);

/// One file to be uploaded.
pub struct Upload<'a> {
    /// The idempotency key.
    pub key: String,
    /// The metadata.
    pub metadata: proto::RecordingMetadata,
    /// The limit on the bytes a second, shared by all uploads.
    pub throttle: Arc<Throttle>,
    /// How long to go on without any success.
    pub patience: Duration,
    /// Told how it goes.
    pub report: Report<'a>,
}

/// Takes progress.
pub type Report<'a> = &'a (dyn Fn(Progress) + Send + Sync);

/// How an upload goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// It is open; so many bytes are held already.
    Opened {
        /// The recording's id.
        recording: String,
        /// Bytes held already.
        held: u64,
    },
    /// So many more bytes are held.
    Held(u64),
    /// Everything is held and sealed; the receipt is to come.
    Sealed,
    /// The gateway asks to wait.
    Waiting {
        /// The stable reason.
        reason: String,
        /// For how long.
        delay: Duration,
    },
    /// Something failed; it is tried again.
    Retrying {
        /// What failed.
        error: String,
        /// After what time.
        delay: Duration,
    },
    /// The footage must be sent again, for this reason.
    SendAgain(String),
}

/// A file that is stored.
#[derive(Debug, Clone)]
pub struct Uploaded {
    /// The receipt, verified.
    pub receipt: Receipt,
    /// What it vouches for.
    pub payload: ReceiptPayload,
    /// How far the recording has come.
    pub state: RecordingState,
    /// Whether it was stored before this upload sent anything.
    pub was_there: bool,
}

impl Client {
    /// Uploads a file and returns with its verified receipt. Repeats whatever fails for reasons that pass, until nothing has
    /// succeeded for as long as `upload.patience`.
    pub async fn upload(&self, file: &Footage, upload: &Upload<'_>) -> Result<Uploaded, UploadError> {
        let mut patience = Patience::new(upload.patience);
        let mut known = Known::default();
        loop {
            let error = match self.attempt(file, upload, &mut known, &mut patience).await {
                Ok(uploaded) => return Ok(uploaded),
                Err(error) => error.at(self.server()),
            };
            let text = error.to_string();
            let delay = patience.next(error)?;
            (upload.report)(Progress::Retrying { error: text, delay });
            self.turn();
            sleep(delay).await;
        }
    }

    /// Asks a gateway, now, whether a recording is stored; its verified receipt if so. What has been disposed of, or is
    /// not known any more, has none. A gateway that does not answer is not the last word: the others are asked, and all again,
    /// for as long as `patience`.
    pub async fn confirm(&self, recording_id: &str, patience: Duration) -> Result<Receipt, UploadError> {
        let request = proto::GetUploadRequest { recording_id: recording_id.to_owned() };
        let call = |mut ingest: Ingest| {
            let request = request.clone();
            async move { ingest.get_upload(request).await }
        };
        let got = self.ask(&mut Patience::new(patience), call).await?;
        let recording = got.recording.unwrap_or_default();
        let stored = [RecordingState::Stored, RecordingState::Verified, RecordingState::Derived];
        match recording.receipt {
            Some(receipt) if stored.contains(&RecordingState::try_from(recording.state).unwrap_or_default()) => {
                let receipt = Receipt::from_proto(&receipt)?;
                self.keys.verify(&receipt)?;
                Ok(receipt)
            }
            _ => Err(UploadError::Receipt("the gateway does not say that the recording is stored".into())),
        }
    }

    async fn attempt(
        &self,
        file: &Footage,
        upload: &Upload<'_>,
        known: &mut Known,
        patience: &mut Patience,
    ) -> Result<Uploaded, UploadError> {
        let size = file.stamp().size;
        loop {
            let (recording, held) = self.open(upload, file).await?;
            if let Some(uploaded) = self.stored(&recording, upload, file, known).await? {
                return Ok(uploaded);
            }
            let mut segments = known.segments(&recording, held, size)?;
            if known.generation.replace(recording.generation).is_some_and(|before| before < recording.generation) {
                if recording.reason == Reason::SegmentConflict.as_str() {
                    // Somebody else sends other bytes under this key: going on would never end for either.
                    return Err(another_file());
                }
                (upload.report)(Progress::SendAgain(recording.reason.clone()));
            }
            let bytes = segments.held.keys().map(|i| u64::from(segments.shape.length_of(size, *i))).sum();
            (upload.report)(Progress::Opened { recording: recording.recording_id.clone(), held: bytes });
            let before = segments.held.len();
            let sent = self.send_all(upload, file, &mut segments, patience, &recording).await;
            known.digests = segments.digests.clone();
            // Where nothing came through, it may have become slow.
            known.is_fast = segments.is_fast && segments.held.len() > before;
            if !sent? {
                sleep(AGAIN).await;
                continue;
            }
            if !file.is_unchanged()? {
                return Err(UploadError::Changed);
            }
            let whole = whole(&segments).ok_or(UploadError::Changed)?;
            known.whole = Some(whole);
            if let Some(uploaded) = self.seal(upload, file, &segments, whole, known, patience).await? {
                return Ok(uploaded);
            }
        }
    }

    async fn open(
        &self,
        upload: &Upload<'_>,
        file: &Footage,
    ) -> Result<(proto::Recording, Vec<proto::HeldSegment>), UploadError> {
        let request = proto::OpenUploadRequest {
            idempotency_key: upload.key.clone(),
            metadata: Some(upload.metadata.clone()),
            size: Some(file.stamp().size),
        };
        let opened = self.ingest().ok_or_else(no_server)?.open_upload(request).await;
        let opened = match opened {
            Ok(opened) => opened.into_inner(),
            Err(status) => {
                let there =
                    status.get_error_details().error_info().and_then(|i| i.metadata.get("recording_id").cloned());
                let refused = UploadError::from(status);
                let Some(id) = there.filter(|_| refused.is(Reason::OpenConflict)) else { return Err(refused) };
                // The same file with other metadata is refused; another file needs another key.
                return Err(if self.is_another(&id, file).await? { another_file() } else { refused });
            }
        };
        Ok((opened.recording.unwrap_or_default(), opened.held))
    }

    /// Whether the receipt of a recording, or what is held of it by now, shows that it is of another file.
    async fn is_another(&self, id: &str, file: &Footage) -> Result<bool, UploadError> {
        let request = proto::GetUploadRequest { recording_id: id.to_owned() };
        let got = self.ingest().ok_or_else(no_server)?.get_upload(request).await?.into_inner();
        let recording = got.recording.unwrap_or_default();
        if let Some(receipt) = &recording.receipt {
            let payload = self.keys.verify(&Receipt::from_proto(receipt)?)?;
            return Ok(payload.blake3 != file.whole().await?);
        }
        let size = file.stamp().size;
        let segments = Known::default().segments(&recording, got.held, size)?;
        for (index, value) in &segments.held {
            let is_beyond = *index >= segments.shape.segments_of(size);
            if is_beyond || send::digest(file, &segments, *index).await?.value != *value {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Sends until everything is held; `false` if the upload must be looked at anew.
    async fn send_all(
        &self,
        upload: &Upload<'_>,
        file: &Footage,
        segments: &mut Segments,
        patience: &mut Patience,
        recording: &proto::Recording,
    ) -> Result<bool, UploadError> {
        if recording.state() == RecordingState::Open {
            loop {
                let before = segments.held.len();
                let ended = send::send(self, upload, file, segments).await;
                if segments.held.len() > before {
                    patience.renew();
                }
                match ended? {
                    Ended::Complete => break,
                    Ended::Closed => return Ok(false),
                    Ended::Next if segments.held.len() > before => {}
                    Ended::Next => {
                        let message = "the gateway ended the stream".to_owned();
                        let reason = Reason::Draining.as_str().into();
                        return Err(UploadError::Unavailable { reason, message, after: Duration::ZERO });
                    }
                }
            }
        }
        send::read_held(file, segments).await?;
        Ok(true)
    }

    /// Seals, and seals again, until the receipt is there; `None` if the footage must be sent again.
    async fn seal(
        &self,
        upload: &Upload<'_>,
        file: &Footage,
        segments: &Segments,
        whole: Blake3,
        known: &Known,
        patience: &mut Patience,
    ) -> Result<Option<Uploaded>, UploadError> {
        let mut told = false;
        loop {
            let request = proto::SealUploadRequest {
                recording_id: segments.recording.to_string(),
                generation: segments.generation,
                size: segments.size,
                blake3: whole.0.to_vec().into(),
            };
            let sealed = self.ingest().ok_or_else(no_server)?.seal_upload(request).await;
            let recording = match sealed {
                Ok(sealed) => sealed.into_inner().recording.unwrap_or_default(),
                Err(status) => match UploadError::from(status) {
                    // Lost between two looks, given up by another client, or stored long ago and forgotten: the next
                    // opening says how it stands.
                    error
                        if [Reason::SealIncomplete, Reason::UploadClosed, Reason::RecordingNotFound]
                            .into_iter()
                            .any(|reason| error.is(reason)) =>
                    {
                        return Ok(None);
                    }
                    error => return Err(error),
                },
            };
            if recording.state() != RecordingState::Open {
                patience.renew();
            }
            if let Some(uploaded) = self.stored(&recording, upload, file, known).await? {
                return Ok(Some(uploaded));
            }
            if recording.generation != segments.generation || recording.state() == RecordingState::Abandoned {
                return Ok(None);
            }
            if !told && recording.state() == RecordingState::Sealed {
                (upload.report)(Progress::Sealed);
                told = true;
            }
            if let Some(now) = self.news(&recording).await
                && now.generation == segments.generation
                && let Some(uploaded) = self.stored(&now, upload, file, known).await?
            {
                return Ok(Some(uploaded));
            }
        }
    }

    /// Waits until something about the recording changes, or for a while. What it has become, if that was told.
    async fn news(&self, recording: &proto::Recording) -> Option<proto::Recording> {
        let mut ingest = self.ingest()?;
        let wait = async {
            let request = proto::WatchRecordingsRequest { recording_ids: vec![recording.recording_id.clone()] };
            let mut changes = ingest.watch_recordings(request).await?.into_inner();
            while let Some(change) = changes.message().await? {
                if let Some(Content::Change(proto::RecordingChange { recording: Some(now), .. })) = change.content
                    && (now.receipt.is_some() || now.generation != recording.generation)
                {
                    return Ok(now);
                }
            }
            Err(tonic::Status::unavailable("the watch ended"))
        };
        match timeout(NEWS, wait).await {
            Ok(Ok(now)) => Some(now),
            // Whatever happened, the next seal tells; only not in a hot loop.
            _ => {
                sleep(AGAIN).await;
                None
            }
        }
    }

    /// The upload's end, if the recording has its receipt: verified, and for this very file, whose bytes are read where they
    /// have not been yet.
    async fn stored(
        &self,
        recording: &proto::Recording,
        upload: &Upload<'_>,
        file: &Footage,
        known: &Known,
    ) -> Result<Option<Uploaded>, UploadError> {
        let Some(receipt) = &recording.receipt else { return Ok(None) };
        let receipt = Receipt::from_proto(receipt)?;
        let payload = self.keys.verify(&receipt)?;
        let own = upload.key.parse().map(|key| RecordingId::derive(&payload.bureau, &key));
        if own != Ok(payload.recording_id) || payload.recording_id.to_string() != recording.recording_id {
            return Err(UploadError::Receipt("it vouches for another recording".into()));
        }
        let whole = match known.whole {
            Some(whole) => whole,
            None => file.whole().await?,
        };
        if payload.size != file.stamp().size || payload.blake3 != whole {
            // Another file under the same key was stored; this one was not.
            return Err(another_file());
        }
        Ok(Some(Uploaded { receipt, payload, state: recording.state(), was_there: known.whole.is_none() }))
    }
}

fn another_file() -> UploadError {
    UploadError::Refused {
        reason: Reason::SealDigestMismatch.as_str().into(),
        message: "another file goes by this key".into(),
        fields: Vec::new(),
    }
}

/// What was found out about the file, over all attempts.
#[derive(Default)]
struct Known {
    digests: Vec<Option<digest::SegmentDigest>>,
    whole: Option<Blake3>,
    generation: Option<u32>,
    /// Whether the link was found fast enough for several streams.
    is_fast: bool,
}

impl Known {
    fn segments(
        &self,
        recording: &proto::Recording,
        held: Vec<proto::HeldSegment>,
        size: u64,
    ) -> Result<Segments, UploadError> {
        let malformed = || UploadError::Unavailable {
            reason: "MALFORMED".into(),
            message: "the gateway's answer can't be read".into(),
            after: Duration::ZERO,
        };
        let shape = Shape { segment_size: recording.segment_size, size: Some(size) };
        let power = recording.segment_size.is_power_of_two() && recording.segment_size >= 1024;
        let count = if power { shape.segments_of(size) as usize } else { return Err(malformed()) };
        let mut digests = self.digests.clone();
        digests.resize(count, None);
        let held = held.iter().map(|h| Some((h.index, SegmentValue(h.value[..].try_into().ok()?))));
        Ok(Segments {
            recording: recording.recording_id.parse().map_err(|_| malformed())?,
            generation: recording.generation,
            shape,
            size,
            held: held.collect::<Option<_>>().ok_or_else(malformed)?,
            digests,
            is_fast: self.is_fast,
        })
    }
}

fn whole(segments: &Segments) -> Option<Blake3> {
    let values: Option<Vec<_>> = segments.digests.iter().map(|d| d.map(|d| d.value)).collect();
    digest::merge(&values?, segments.digests.first()?.as_ref()?.root)
}
