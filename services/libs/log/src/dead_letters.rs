//! Which dead letters are still to be looked at. Nothing is taken out of their topic: that one was handled is a record of its own, after
//! it in the same partition.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{Entry, Log, LogError, Offset, Record, Topic};

/// The header that names the offset of the dead letter that was handled.
const HANDLED: &str = "cl-handled";

/// The dead letters that were not handled, and what is kept of each.
#[derive(Debug)]
pub struct OpenLetters<T>(BTreeMap<(u32, Offset), T>);

impl<T> Default for OpenLetters<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> OpenLetters<T> {
    /// Takes the next record of a partition; of a dead letter `keep` says what is kept.
    pub fn apply(&mut self, entry: Entry, keep: impl FnOnce(Entry) -> T) {
        match entry.record.header_value(HANDLED) {
            // What names no offset handles nothing.
            Some(named) => {
                let named = std::str::from_utf8(named).ok().and_then(|text| text.parse().ok());
                named.map(|offset| self.0.remove(&(entry.partition, offset)));
            }
            None => {
                let _ = self.0.insert((entry.partition, entry.offset), keep(entry));
            }
        }
    }

    /// Those that are open, by partition and offset.
    pub fn all(&self) -> &BTreeMap<(u32, Offset), T> {
        &self.0
    }

    /// Likewise, with what is kept of them.
    pub fn into_all(self) -> BTreeMap<(u32, Offset), T> {
        self.0
    }
}

/// Notes that a dead letter was handled: how, why, and by whom. Repeating it changes nothing.
pub async fn append_handled(
    log: &dyn Log,
    letter: &Entry,
    how: &'static str,
    why: &str,
    by: &str,
) -> Result<(), LogError> {
    let record = Record { key: letter.record.key.clone(), headers: Vec::new(), payload: None };
    let record = record.header(HANDLED, letter.offset.to_string()).header("cl-action", how);
    let record =
        Record { payload: Some(Bytes::copy_from_slice(why.as_bytes())), ..record.header("cl-by", by.to_owned()) };
    log.append(Topic::DeadLetters, letter.partition, record).await?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{embedded::EmbeddedLog, read_to_end};

    #[tokio::test]
    async fn a_letter_is_open_until_it_is_handled_in_its_own_partition() {
        let dir = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(&dir.path().join("log")).unwrap();
        for partition in [0, 0, 1] {
            log.append(Topic::DeadLetters, partition, Record::new("k", "why")).await.unwrap();
        }
        let all = async || {
            let mut all = Vec::new();
            read_to_end(&*log, Topic::DeadLetters, |entry| all.push(entry)).await.unwrap();
            all
        };
        let open = async || {
            let mut open = OpenLetters::default();
            all().await.into_iter().for_each(|entry| open.apply(entry, |_| ()));
            open.all().keys().copied().collect::<Vec<_>>()
        };
        assert_eq!(open().await, [(0, 0), (0, 1), (1, 0)]);
        for _ in 0..2 {
            let first = all().await.into_iter().find(|entry| (entry.partition, entry.offset) == (0, 0)).unwrap();
            append_handled(&*log, &first, "dropped", "a trial", "archivist").await.unwrap();
            assert_eq!(open().await, [(0, 1), (1, 0)]);
        }
    }
}
