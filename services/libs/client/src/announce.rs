//! Saying what a device holds before its bytes come.

use std::time::Duration;

use caselock_proto::v1::{AnnounceRecordingsRequest, Announcement};

use crate::{Client, UploadError, retry::Patience, send::no_server};

/// Announcements in one call: their texts stay well below a message's limit.
const AT_ONCE: usize = 200;

impl Client {
    /// Announces recordings, so that what never comes is noticed. Repeats what fails for reasons that pass, as long as there is
    /// patience.
    pub async fn announce(&self, recordings: Vec<Announcement>, patience: Duration) -> Result<(), UploadError> {
        let mut patience = Patience::new(patience);
        for some in recordings.chunks(AT_ONCE) {
            let request = AnnounceRecordingsRequest { recordings: some.to_vec() };
            loop {
                let mut ingest = self.ingest().ok_or_else(no_server)?;
                match ingest.announce_recordings(request.clone()).await.map_err(UploadError::from) {
                    Ok(_) => break,
                    Err(error) => {
                        let delay = patience.next(error.at(self.server()))?;
                        self.turn();
                        tokio::time::sleep(delay).await;
                    }
                }
            }
            patience.renew();
        }
        Ok(())
    }
}
