//! The newest footage, as it was appended: whoever reads right behind the writer needs no copy from the file.

use std::collections::{HashMap, VecDeque};

use crate::{Entry, Offset, Record};

/// What a record takes beside its payload, about: key, headers, and their places.
const BESIDE: usize = 2 << 10;

/// The newest records of `footage`. It has no holes, so what is kept of a partition follows without gaps up to its end.
pub struct Tail {
    /// How many bytes are kept, of all partitions together.
    most: usize,
    /// By partition, each record with its number in the order of all.
    partitions: HashMap<u32, VecDeque<(u64, Entry)>>,
    next: u64,
    bytes: usize,
}

impl Tail {
    /// Keeps at most so many bytes.
    pub fn of(most: usize) -> Self {
        Self { most, partitions: HashMap::new(), next: 0, bytes: 0 }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.partitions.clear();
        self.bytes = 0;
    }

    /// Takes what was made durable; what is oldest makes room.
    pub fn push(&mut self, entry: Entry) {
        self.bytes += length(&entry.record);
        self.partitions.entry(entry.partition).or_default().push_back((self.next, entry));
        self.next += 1;
        while self.bytes > self.most {
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
    BESIDE + record.payload_len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1 << 10;

    fn entry(partition: u32, offset: Offset) -> Entry {
        Entry { partition, offset, record: Record::new("k", vec![0; 8 * KIB]) }
    }

    fn offsets(tail: &Tail, partition: u32, from: Offset, bytes: usize) -> Option<Vec<Offset>> {
        Some(tail.read(partition, from, bytes)?.into_iter().map(|entry| entry.offset).collect())
    }

    /// Three records are kept of those that are pushed: each takes ten KiB.
    fn three(pushed: &[(u32, Offset)]) -> Tail {
        let mut tail = Tail::of(30 * KIB);
        pushed.iter().for_each(|(partition, offset)| tail.push(entry(*partition, *offset)));
        tail
    }

    #[test]
    fn what_is_oldest_of_all_partitions_makes_room() {
        let tail = three(&[(0, 5), (1, 9), (0, 6), (0, 7), (1, 10)]);
        assert_eq!(offsets(&tail, 0, 6, usize::MAX), Some(vec![6, 7]));
        assert_eq!(offsets(&tail, 1, 10, usize::MAX), Some(vec![10]));
        assert_eq!(tail.bytes, 30 * KIB);
    }

    #[test]
    fn what_is_not_kept_must_be_asked_of_the_file() {
        let tail = three(&[(0, 5), (0, 6), (0, 7), (0, 8)]);
        assert_eq!(offsets(&tail, 0, 5, usize::MAX), None, "it made room");
        assert_eq!(offsets(&tail, 0, 9, usize::MAX), None, "it is not written yet");
        assert_eq!(offsets(&tail, 1, 0, usize::MAX), None, "nothing was written there");
    }

    #[test]
    fn a_reader_is_given_about_as_much_as_it_asks_for_and_at_least_one() {
        let tail = three(&[(0, 5), (0, 6), (0, 7)]);
        assert_eq!(offsets(&tail, 0, 5, 1), Some(vec![5]));
        assert_eq!(offsets(&tail, 0, 5, 11 * KIB), Some(vec![5, 6]));
    }

    #[test]
    fn what_was_deleted_is_dropped() {
        let mut tail = three(&[(0, 5), (1, 5), (0, 6)]);
        tail.drop_before(0, 6);
        assert_eq!(offsets(&tail, 0, 5, usize::MAX), None);
        assert_eq!(offsets(&tail, 0, 6, usize::MAX), Some(vec![6]));
        assert_eq!(offsets(&tail, 1, 5, usize::MAX), Some(vec![5]));
        assert_eq!(tail.bytes, 20 * KIB);
    }
}
