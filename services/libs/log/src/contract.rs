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
    match tokio::time::timeout(Duration::from_secs(60), future).await {
        Ok(value) => value,
        Err(_) => panic!("waited 60 s for: {what}"),
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

async fn assigned(member: &mut Member) -> Assignment {
    loop {
        match within("an assignment", member.control.recv()).await.unwrap() {
            Control::Assigned(assignment) => return assignment,
            Control::Revoked { done, .. } => done.send(()).unwrap(),
            Control::Failed(error) => panic!("{error}"),
        }
    }
}

async fn next(member: &mut Member, epoch: u64) -> Entry {
    loop {
        let Delivered { epoch: of, entry } = within("a record", member.entries.recv()).await.unwrap();
        if of == epoch {
            return entry;
        }
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
    let end = log.bounds(TOPIC, 0).await.unwrap().end;
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
    // The end is not forgotten with the records.
    assert_eq!(log.append(TOPIC, 0, record("next")).await.unwrap(), bounds.end);
}

pub async fn the_newest_record_of_a_key_stays(log: Arc<dyn Log>) {
    for (key, value) in [("a", Some("1")), ("b", Some("1")), ("a", Some("2")), ("c", Some("1")), ("c", None)] {
        let record = Record { key: key.into(), headers: Vec::new(), payload: value.map(Into::into) };
        log.append(Topic::Uploads, 2, record).await.unwrap();
    }
    let end = log.bounds(Topic::Uploads, 2).await.unwrap().end;
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
    assert_eq!(log.committed("g", TOPIC, 1).await.unwrap(), None);
    let mut member = log.join("g", TOPIC).await.unwrap();
    let assignment = assigned(&mut member).await;
    let all: Vec<_> = (0..log.partitions(TOPIC)).map(|p| (p, 0)).collect();
    assert_eq!(assignment.partitions, all);
    for i in 0..4 {
        let entry = next(&mut member, assignment.epoch).await;
        assert_eq!((entry.partition, entry.offset), (1, i));
    }
    member.commits.commit(assignment.epoch, 1, 3).await.unwrap();
    assert_eq!(log.committed("g", TOPIC, 1).await.unwrap(), Some(3));
    assert_eq!(log.committed("other", TOPIC, 1).await.unwrap(), None);
    drop(member);

    let mut member = log.join("g", TOPIC).await.unwrap();
    let assignment = assigned(&mut member).await;
    assert!(assignment.partitions.contains(&(1, 3)), "{assignment:?}");
    assert_eq!(next(&mut member, assignment.epoch).await.offset, 3);
}

pub async fn what_was_not_committed_comes_again(log: Arc<dyn Log>) {
    log.append(TOPIC, 0, record("once")).await.unwrap();
    for _ in 0..2 {
        let mut member = log.join("g", TOPIC).await.unwrap();
        let epoch = assigned(&mut member).await.epoch;
        assert_eq!(next(&mut member, epoch).await.record, record("once"));
    }
}

pub async fn partitions_move_to_a_new_member_after_its_commits(log: Arc<dyn Log>) {
    for partition in 0..log.partitions(TOPIC) {
        log.append(TOPIC, partition, record("first")).await.unwrap();
    }
    let mut one = log.join("g", TOPIC).await.unwrap();
    let first = assigned(&mut one).await;
    for _ in 0..log.partitions(TOPIC) {
        next(&mut one, first.epoch).await;
    }
    let joining = tokio::spawn({
        let log = log.clone();
        async move { log.join("g", TOPIC).await.unwrap() }
    });
    match within("the revocation", one.control.recv()).await.unwrap() {
        Control::Revoked { lost: false, done } => {
            for (partition, _) in &first.partitions {
                one.commits.commit(first.epoch, *partition, 1).await.unwrap();
            }
            done.send(()).unwrap();
        }
        other => panic!("{other:?}"),
    }
    let mut two = joining.await.unwrap();
    let (mine, theirs) = tokio::join!(assigned(&mut one), assigned(&mut two));
    let mut all = [mine.partitions.clone(), theirs.partitions.clone()].concat();
    all.sort_unstable();
    // Everything was committed before it moved, so nothing comes twice.
    assert_eq!(all, (0..log.partitions(TOPIC)).map(|p| (p, 1)).collect::<Vec<_>>());
    assert!(!mine.partitions.is_empty() && !theirs.partitions.is_empty());
}

pub async fn a_member_that_lost_its_partitions_cannot_commit(log: Arc<dyn Log>) {
    let mut one = log.join("g", TOPIC).await.unwrap();
    let first = assigned(&mut one).await;
    let joining = tokio::spawn({
        let log = log.clone();
        async move {
            let mut two = log.join("g", TOPIC).await.unwrap();
            let assignment = assigned(&mut two).await;
            (two, assignment)
        }
    });
    assigned(&mut one).await;
    let (_two, theirs) = within("the second member", joining).await.unwrap();
    let (partition, _) = theirs.partitions[0];
    let commit = one.commits.commit(first.epoch, partition, 1).await;
    assert!(matches!(commit, Err(LogError::Fenced { .. })), "{commit:?}");
    assert_eq!(log.committed("g", TOPIC, partition).await.unwrap(), None);
}

pub async fn unread_entries_do_not_hide_a_revocation(log: Arc<dyn Log>) {
    for i in 0..200 {
        log.append(TOPIC, 0, record(&i.to_string())).await.unwrap();
    }
    let mut one = log.join("g", TOPIC).await.unwrap();
    let first = assigned(&mut one).await;
    // Not one entry more is read: the queue is full, and the member must still hear of the revocation.
    next(&mut one, first.epoch).await;
    let joining = tokio::spawn({
        let log = log.clone();
        async move { log.join("g", TOPIC).await.unwrap() }
    });
    let control = within("the revocation", one.control.recv()).await.unwrap();
    let Control::Revoked { done, .. } = control else { panic!("{control:?}") };
    done.send(()).unwrap();
    let _two = joining.await.unwrap();
    let second = assigned(&mut one).await;
    assert!(second.epoch > first.epoch);
}

pub async fn the_settings_hold(log: Arc<dyn Log>) {
    for topic in Topic::ALL {
        log.check(topic).await.unwrap();
        assert!(log.partitions(topic) >= 2);
    }
}
