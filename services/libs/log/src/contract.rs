//! What every adapter of [`Log`] promises, as tests. An adapter runs them with [`contract_tests!`](crate::contract_tests).
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::{collections::BTreeSet, future::Future, sync::Arc, time::Duration};

use crate::{Assignment, Control, Delivered, Entry, Followed, Log, LogError, Member, Offset, Record, Topic};

/// Makes a test of each part of the contract. `$fresh` is an async expression that gives an `Arc<dyn Log>` with empty topics.
#[macro_export]
macro_rules! contract_tests {
    ($fresh:expr) => {
        $crate::contract_tests!($fresh;
            what_is_appended_is_read_back_in_order,
            a_follower_sees_what_comes_later,
            concurrent_appends_lose_nothing,
            what_is_deleted_is_gone_and_nothing_else,
            the_newest_record_of_a_key_stays,
            a_group_goes_on_from_its_commit,
            what_was_not_committed_comes_again,
            partitions_move_to_a_new_member_after_its_commits,
            a_member_that_lost_its_partitions_cannot_commit,
            unread_entries_do_not_hide_a_revocation,
            the_settings_hold
        );
    };
    ($fresh:expr; $($name:ident),+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let (log, _keep) = $fresh.await;
                $crate::contract::$name(log).await;
            }
        )+
    };
}

const TOPIC: Topic = Topic::Footage;

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(180), future).await {
        Ok(value) => value,
        Err(_) => panic!("waited 180 s for: {what}"),
    }
}

fn record(text: &str) -> Record {
    Record::new(format!("key {text}"), text.to_owned()).header("cl-kind", "test")
}

/// Follows one partition from `from` until its end is at least `end`.
async fn read_to(log: &Arc<dyn Log>, topic: Topic, partition: u32, from: Offset, end: Offset) -> Vec<Entry> {
    let mut follower = log.follow(topic, vec![(partition, from)]).await.unwrap();
    let mut entries = Vec::new();
    loop {
        match within("the end", follower.recv()).await.unwrap().unwrap() {
            Followed::Entry(entry) => entries.push(entry),
            Followed::End { position, .. } if position >= end => return entries,
            Followed::End { .. } => {}
        }
    }
}

/// A member with its present assignment. A group may be rebalanced at any time, when a member that was dropped is noticed
/// late for example: each revocation is answered, each assignment taken.
struct Seat {
    member: Member,
    assignment: Assignment,
}

impl Seat {
    async fn join(log: &Arc<dyn Log>) -> Self {
        let member = log.join("g", TOPIC).await.unwrap();
        Self { member, assignment: Assignment { epoch: 0, partitions: Vec::new() } }
    }

    /// Waits for an assignment of so many partitions, none of them revoked since.
    async fn assigned(&mut self, count: usize) -> &Assignment {
        while self.assignment.partitions.len() != count {
            let control = within("an assignment", self.member.control.recv()).await.unwrap();
            self.take(control);
        }
        &self.assignment
    }

    fn take(&mut self, control: Control) {
        match control {
            Control::Assigned(assignment) => self.assignment = assignment,
            Control::Revoked { done, .. } => {
                self.assignment.partitions.clear();
                done.send(()).unwrap();
            }
            Control::Failed(error) => panic!("{error}"),
        }
    }

    /// The next record of the present assignment.
    async fn next(&mut self) -> Entry {
        loop {
            tokio::select! {
                biased;
                control = self.member.control.recv() => self.take(control.unwrap()),
                delivered = within("a record", self.member.entries.recv()) => {
                    let Delivered { epoch, entry } = delivered.unwrap();
                    if epoch == self.assignment.epoch {
                        return entry;
                    }
                }
            }
        }
    }

    async fn commit(&self, partition: u32, offset: Offset) -> Result<(), LogError> {
        self.member.commits.commit(self.assignment.epoch, partition, offset).await
    }
}

pub async fn what_is_appended_is_read_back_in_order(log: Arc<dyn Log>) {
    let big = Record::new("big", (0..9 << 20).map(|i: u32| (i / 251) as u8).collect::<Vec<_>>());
    let empty = Record::new("empty", Vec::new());
    let records = [record("one"), big, empty, record("last").header("cl-kind", "again").header("b", vec![0u8, 255])];
    let mut offsets = Vec::new();
    for r in &records {
        offsets.push(log.append(TOPIC, 1, r.clone()).await.unwrap());
    }
    assert!(offsets.is_sorted_by(|a, b| a < b), "{offsets:?}");
    let bounds = log.bounds(TOPIC, 1).await.unwrap();
    assert_eq!((bounds.start, bounds.end), (offsets[0], offsets[3] + 1));
    let entries = read_to(&log, TOPIC, 1, 0, bounds.end).await;
    let expected = offsets.iter().zip(&records);
    let expected: Vec<_> =
        expected.map(|(offset, r)| Entry { partition: 1, offset: *offset, record: r.clone() }).collect();
    assert!(entries == expected, "other records came back");
    assert!(read_to(&log, TOPIC, 0, 0, 0).await.is_empty());
}

pub async fn a_follower_sees_what_comes_later(log: Arc<dyn Log>) {
    let mut follower = log.follow(TOPIC, vec![(0, 0), (1, 0)]).await.unwrap();
    let mut ends = BTreeSet::new();
    while ends.len() < 2 {
        match within("both ends", follower.recv()).await.unwrap().unwrap() {
            Followed::End { partition, .. } => ends.insert(partition),
            Followed::Entry(entry) => panic!("{entry:?}"),
        };
    }
    log.append(TOPIC, 1, record("later")).await.unwrap();
    loop {
        match within("the later record", follower.recv()).await.unwrap().unwrap() {
            Followed::Entry(entry) => return assert_eq!((entry.partition, entry.record), (1, record("later"))),
            Followed::End { .. } => {}
        }
    }
}

pub async fn concurrent_appends_lose_nothing(log: Arc<dyn Log>) {
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let log = log.clone();
        tasks.spawn(async move {
            let mut appended = Vec::new();
            for i in 0..25 {
                let text = format!("{writer} {i}");
                appended.push((log.append(TOPIC, 0, record(&text)).await.unwrap(), text));
            }
            appended
        });
    }
    let mut appended: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    appended.sort();
    let end = log.end(TOPIC, 0).await.unwrap();
    assert_eq!(end, 200);
    let entries = read_to(&log, TOPIC, 0, 0, end).await;
    let read: Vec<_> = entries
        .into_iter()
        .map(|e| (e.offset, String::from_utf8(e.record.payload.unwrap().to_vec()).unwrap()))
        .collect();
    assert_eq!(read, appended);
}

pub async fn what_is_deleted_is_gone_and_nothing_else(log: Arc<dyn Log>) {
    let mut offsets = Vec::new();
    for i in 0..6 {
        offsets.push(log.append(TOPIC, 0, record(&i.to_string())).await.unwrap());
    }
    log.append(TOPIC, 1, record("elsewhere")).await.unwrap();
    log.delete_before(TOPIC, 0, offsets[3]).await.unwrap();
    log.delete_before(TOPIC, 0, offsets[1]).await.unwrap();
    let bounds = log.bounds(TOPIC, 0).await.unwrap();
    assert_eq!(bounds.start, offsets[3]);
    let entries = read_to(&log, TOPIC, 0, offsets[0], bounds.end).await;
    assert_eq!(entries.iter().map(|e| e.offset).collect::<Vec<_>>(), offsets[3..]);
    assert_eq!(log.bounds(TOPIC, 1).await.unwrap().start, 0);
    log.delete_before(TOPIC, 0, bounds.end).await.unwrap();
    assert_eq!(log.bounds(TOPIC, 0).await.unwrap(), bounds.end..bounds.end);
    assert_eq!(log.end(TOPIC, 0).await.unwrap(), bounds.end);
    // The end is not forgotten with the records.
    assert_eq!(log.append(TOPIC, 0, record("next")).await.unwrap(), bounds.end);
}

pub async fn the_newest_record_of_a_key_stays(log: Arc<dyn Log>) {
    for (key, value) in [("a", Some("1")), ("b", Some("1")), ("a", Some("2")), ("c", Some("1")), ("c", None)] {
        let record = Record { key: key.into(), headers: Vec::new(), payload: value.map(Into::into) };
        log.append(Topic::Uploads, 2, record).await.unwrap();
    }
    let end = log.end(Topic::Uploads, 2).await.unwrap();
    let mut newest = std::collections::BTreeMap::new();
    for entry in read_to(&log, Topic::Uploads, 2, 0, end).await {
        newest.insert(entry.record.key, entry.record.payload);
    }
    let value = |text: &'static str| Some(bytes::Bytes::from(text));
    assert_eq!(newest.get(&b"a"[..]), Some(&value("2")));
    assert_eq!(newest.get(&b"b"[..]), Some(&value("1")));
    assert!(matches!(newest.get(&b"c"[..]), None | Some(None)));
}

pub async fn a_group_goes_on_from_its_commit(log: Arc<dyn Log>) {
    for i in 0..4 {
        log.append(TOPIC, 1, record(&i.to_string())).await.unwrap();
    }
    let count = log.partitions(TOPIC) as usize;
    assert_eq!(log.committed("g", TOPIC, 1).await.unwrap(), None);
    let mut seat = Seat::join(&log).await;
    let all: Vec<_> = (0..count as u32).map(|p| (p, 0)).collect();
    assert_eq!(seat.assigned(count).await.partitions, all);
    for i in 0..4 {
        let entry = seat.next().await;
        assert_eq!((entry.partition, entry.offset), (1, i));
    }
    seat.commit(1, 3).await.unwrap();
    assert_eq!(log.committed("g", TOPIC, 1).await.unwrap(), Some(3));
    assert_eq!(log.committed("other", TOPIC, 1).await.unwrap(), None);
    drop(seat);

    let mut seat = Seat::join(&log).await;
    let assignment = seat.assigned(count).await;
    assert!(assignment.partitions.contains(&(1, 3)), "{assignment:?}");
    assert_eq!(seat.next().await.offset, 3);
}

pub async fn what_was_not_committed_comes_again(log: Arc<dyn Log>) {
    log.append(TOPIC, 0, record("once")).await.unwrap();
    for _ in 0..2 {
        let mut seat = Seat::join(&log).await;
        assert_eq!(seat.next().await.record, record("once"));
    }
}

/// Joins beside a member, in a task of its own: the group waits for the member to answer.
fn second(log: &Arc<dyn Log>) -> tokio::task::JoinHandle<Seat> {
    let log = log.clone();
    tokio::spawn(async move { Seat::join(&log).await })
}

pub async fn partitions_move_to_a_new_member_after_its_commits(log: Arc<dyn Log>) {
    let count = log.partitions(TOPIC);
    for partition in 0..count {
        log.append(TOPIC, partition, record("first")).await.unwrap();
    }
    let mut one = Seat::join(&log).await;
    one.assigned(count as usize).await;
    for _ in 0..count {
        one.next().await;
    }
    let joining = second(&log);
    match within("the revocation", one.member.control.recv()).await.unwrap() {
        Control::Revoked { lost: false, done } => {
            for partition in 0..count {
                one.commit(partition, 1).await.unwrap();
            }
            one.assignment.partitions.clear();
            done.send(()).unwrap();
        }
        other => panic!("{other:?}"),
    }
    let mut two = joining.await.unwrap();
    // Shared out so that each has some; everything was committed before it moved, so nothing comes twice.
    let share = (count as usize).div_ceil(2);
    let (mine, theirs) = tokio::join!(
        async {
            while !(1..=share).contains(&one.assignment.partitions.len()) {
                let control = within("a share", one.member.control.recv()).await.unwrap();
                one.take(control);
            }
            one.assignment.partitions.clone()
        },
        async {
            while !(1..=share).contains(&two.assignment.partitions.len()) {
                let control = within("a share", two.member.control.recv()).await.unwrap();
                two.take(control);
            }
            two.assignment.partitions.clone()
        }
    );
    let mut all = [mine, theirs].concat();
    all.sort_unstable();
    assert_eq!(all, (0..count).map(|p| (p, 1)).collect::<Vec<_>>());
}

pub async fn a_member_that_lost_its_partitions_cannot_commit(log: Arc<dyn Log>) {
    let count = log.partitions(TOPIC) as usize;
    let mut one = Seat::join(&log).await;
    let first = one.assigned(count).await.epoch;
    let joining = second(&log);
    while one.assignment.epoch == first {
        let control = within("the rebalance", one.member.control.recv()).await.unwrap();
        one.take(control);
    }
    let _two = joining.await.unwrap();
    for partition in 0..count as u32 {
        let commit = one.member.commits.commit(first, partition, 1).await;
        assert!(matches!(commit, Err(LogError::Fenced { .. })), "{commit:?}");
        assert_eq!(log.committed("g", TOPIC, partition).await.unwrap(), None);
    }
}

pub async fn unread_entries_do_not_hide_a_revocation(log: Arc<dyn Log>) {
    for i in 0..200 {
        log.append(TOPIC, 0, record(&i.to_string())).await.unwrap();
    }
    let mut one = Seat::join(&log).await;
    let first = one.assigned(log.partitions(TOPIC) as usize).await.epoch;
    // Not one entry more is read: the queue is full, and the member must still hear of the revocation.
    one.next().await;
    let joining = second(&log);
    let control = within("the revocation", one.member.control.recv()).await.unwrap();
    assert!(matches!(control, Control::Revoked { .. }), "{control:?}");
    one.take(control);
    let _two = joining.await.unwrap();
    while one.assignment.epoch == first {
        let control = within("the next assignment", one.member.control.recv()).await.unwrap();
        one.take(control);
    }
}

pub async fn the_settings_hold(log: Arc<dyn Log>) {
    for topic in Topic::ALL {
        log.check(topic).await.unwrap();
        assert!(log.partitions(topic) >= 2);
    }
}
