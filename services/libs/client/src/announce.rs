//! Saying what a device holds before its bytes come.

use std::time::Duration;

use caselock_proto::v1::{AnnounceRecordingsRequest, Announcement};

use crate::{Client, UploadError, connect::Ingest, retry::Patience};

/// Announcements in one call: their texts stay well below a message's limit.
const AT_ONCE: usize = 200;

impl Client {
    /// Announces recordings, so that what never comes is noticed. Repeats what fails for reasons that pass, as long as there is
    /// patience.
    pub async fn announce(&self, recordings: Vec<Announcement>, patience: Duration) -> Result<(), UploadError> {
        let mut patience = Patience::new(patience);
        for some in recordings.chunks(AT_ONCE) {
            let request = AnnounceRecordingsRequest { recordings: some.to_vec() };
            let call = |mut ingest: Ingest| {
                let request = request.clone();
                async move { ingest.announce_recordings(request).await }
            };
            self.ask(&mut patience, call).await?;
            patience.renew();
        }
        Ok(())
    }
}
