//! The newest footage, as it was appended: whoever reads right behind the writer needs no copy from the file.

use std::collections::{HashMap, VecDeque};

use crate::{Entry, Offset, Record};

/// How many bytes are kept, of all partitions together.
const MOST: usize = 64 << 20;
/// What a record takes beside its payload, about: key, headers, and their places.
const BESIDE: usize = 2 << 10;

/// The newest records of `footage`. It has no holes, so what is kept of a partition follows without gaps up to its end.
#[derive(Default)]
pub struct Tail {
    /// By partition, each record with its number in the order of all.
    partitions: HashMap<u32, VecDeque<(u64, Entry)>>,
    next: u64,
    bytes: usize,
}

impl Tail {
    /// Takes what was made durable; what is oldest makes room.
    pub fn push(&mut self, entry: Entry) {
        self.bytes += length(&entry.record);
        self.partitions.entry(entry.partition).or_default().push_back((self.next, entry));
        self.next += 1;
        while self.bytes > MOST {
            let oldest = self.partitions.values_mut().min_by_key(|tail| tail.front().map_or(u64::MAX, |(n, _)| *n));
            let Some((_, entry)) = oldest.and_then(VecDeque::pop_front) else { return };
            self.bytes -= length(&entry.record);
        }
    }

    /// Records from `from` on, up to about `bytes`. `None` where the file must be asked.
    pub fn read(&self, partition: u32, from: Offset, bytes: usize) -> Option<Vec<Entry>> {
        let tail = self.partitions.get(&partition)?;
        let skipped = from.checked_sub(tail.front()?.1.offset)?;
        let mut size = 0;
        let entries = tail.iter().skip(usize::try_from(skipped).ok()?).map(|(_, entry)| entry).take_while(|entry| {
            let wanted = size < bytes;
            size += length(&entry.record);
            wanted
        });
        let entries: Vec<_> = entries.cloned().collect();
        (!entries.is_empty()).then_some(entries)
    }

    /// Drops what was deleted, or will not be read again.
    pub fn drop_before(&mut self, partition: u32, offset: Offset) {
        let Some(tail) = self.partitions.get_mut(&partition) else { return };
        while let Some((_, entry)) = tail.front()
            && entry.offset < offset
        {
            self.bytes -= length(&entry.record);
            tail.pop_front();
        }
    }
}

fn length(record: &Record) -> usize {
    BESIDE + record.payload.as_ref().map_or(0, |payload| payload.len())
}
