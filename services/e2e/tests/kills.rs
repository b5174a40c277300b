//! kill -9, at any moment, of the uploader and of every service: nothing missing, nothing twice.
#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader},
    path::Path,
    time::Duration,
};

use caselock_e2e::{Footage, Kind, Run, Stack, Uploader, free_port, header, on_both_stacks, seeded, wait_until};
use caselock_log::{Entry, Topic};
use caselock_store::Store;
use rand::RngExt;

on_both_stacks!(
    the_uploader_is_killed_ten_times,
    every_service_is_killed_under_load,
    a_device_is_wiped_only_of_what_is_proven,
    files_that_look_alike_are_told_apart,
    what_cannot_be_uploaded_is_said_and_changes_nothing,
);

const SEGMENT: u64 = 8 << 20;

/// Every file is one object with its own bytes.
async fn check(store: &dyn Store, run: &Run) {
    for event in run.of_kind("stored") {
        let folder = format!("v1/demo/recordings/{}/", event["recording_id"].as_str().unwrap());
        let key = format!("{folder}0/original");
        let keys = store.keys(&folder, None).await.unwrap().keys;
        assert!(keys.contains(&key), "{keys:?}");
        for key in &keys {
            assert_eq!(store.versions(key).await.unwrap().len(), 1, "{key}");
        }
        let bytes = std::fs::read(event["file"].as_str().unwrap()).unwrap();
        let (_, stored) = caselock_store::read_document(store, &key, bytes.len()).await.unwrap().unwrap();
        assert!(stored == bytes, "{key} is not {}", event["file"]);
        assert_eq!(event["blake3"], blake3::hash(&bytes).to_hex().as_str());
    }
}

/// Of each kind of event there is one about each recording: copies have its id and content.
async fn told_once(stack: &Stack, run: &Run) {
    if stack.kind == Kind::Embedded {
        // Its log is another process's.
        return;
    }
    let ids: BTreeSet<_> = run.of_kind("stored").map(|event| event["recording_id"].as_str().unwrap()).collect();
    let (mut contents, mut kinds) = (BTreeMap::new(), BTreeMap::new());
    for Entry { record, .. } in stack.records(Topic::Events).await {
        let [id, kind, subject] = ["ce_id", "ce_type", "ce_subject"].map(|name| header(&record, name));
        if ids.contains(subject.as_str()) && kind.starts_with("io.caselock.recording.") {
            assert_eq!(contents.entry(id.clone()).or_insert(record.payload.clone()), &record.payload, "{kind}");
            assert_eq!(kinds.entry((subject, kind)).or_insert(id.clone()), &id);
        }
    }
    let stored = kinds.keys().filter(|(_, kind)| kind == "io.caselock.recording.stored.v1");
    assert_eq!(stored.count(), ids.len());
}

async fn the_uploader_is_killed_ten_times(kind: Kind) {
    let mut footage = Footage::new();
    let mut total = 0;
    for (name, length) in
        [("a", 9 * SEGMENT + 1), ("b", 6 * SEGMENT), ("c", 4 * SEGMENT - 5), ("d", 100), ("e", SEGMENT)]
    {
        footage = footage.random(name, length);
        total += length;
    }
    let mut stack = Stack::start(kind, &[]).await;
    let uploader = Uploader::new(&stack);
    // Slow enough that the kills come in the middle.
    let rate = ["--bwlimit", "15M"];
    let mut random = seeded();
    let count = |what: &str| stack.metric(stack.gateway(), &format!("caselock_gateway_{what}_bytes")) as i64;
    let mut in_flight = 0;
    for kill in 0..10 {
        let before = (count("received"), count("accepted"));
        let is_small = kill % 3 == 2;
        if is_small {
            footage = footage.random(&format!("0 {kill}"), 100);
            total += 100;
        }
        let mut child = uploader.start(footage.path(), &rate);
        if is_small {
            // While its receipt is waited for, or kept.
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
            assert!(lines.any(|line| line.contains(r#""event":"sealed""#)));
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(50..750))).await;
        assert!(child.try_wait().unwrap().is_none(), "a kill came too late");
        let accepted = count("accepted") - before.1;
        child.kill().unwrap();
        child.wait().unwrap();
        // What had come when it died and was not acknowledged yet; and what lay in the sockets. What was in flight at the
        // kill before this one may be acknowledged only now.
        in_flight += (count("received") - before.0 - accepted).max(0) + (4 << 20);
    }
    let run = uploader.upload(footage.path(), &[]);
    run.expect_stored(8);
    let sent = count("received");
    println!("{total} bytes; {sent} came; at most {in_flight} were in flight at a kill");
    assert!(sent <= total as i64 + in_flight, "{sent} bytes came of {total}, {in_flight} in flight at a kill");
    stack.stop();
    check(&*stack.store().await, &run).await;
}

async fn every_service_is_killed_under_load(kind: Kind) {
    let mut stack = Stack::start(kind, &[]).await;
    for (round, service) in stack.services().into_iter().enumerate() {
        // Of media's round the video keeps it busy for a while.
        let seconds = if service == "media" { 40 } else { round + 2 };
        let source = format!("testsrc2=size=1280x720:duration={seconds}");
        let footage = Footage::new()
            .random(&format!("large {round}"), 16 * SEGMENT + 3)
            .random(&format!("small {round}"), 77)
            .random(&format!("middle {round}"), 3 * SEGMENT)
            .ffmpeg(&format!("video {round}.mp4"), &["-f", "lavfi", "-i", &source, "-g", "25", "-preset", "ultrafast"]);
        let total: u64 = footage.files().iter().map(|path| path.metadata().unwrap().len()).sum();
        let count =
            |stack: &Stack, what: &str| stack.metric(stack.gateway(), &format!("caselock_gateway_{what}_bytes"));
        // What came, over the lives of a gateway, and what of it was not acknowledged when it, or what it relies on, was killed.
        let (mut came, mut in_flight) = (0, 0);
        let (mut base, mut accepted_base) = (count(&stack, "received"), count(&stack, "accepted"));
        let uploader = Uploader::new(&stack);
        let mut child = uploader.start(footage.path(), &["--bwlimit", "6M"]);
        for _ in 0..3 {
            if service == "media" {
                wait_until("a job in hand", || stack.metric("media", "caselock_media_jobs_in_hand") > 0);
            } else {
                // Under load: something more was taken since the last start.
                let accepted = || stack.metric(stack.gateway(), "caselock_gateway_accepted_bytes");
                let before = accepted();
                wait_until("more footage", || accepted() > before);
                assert!(child.try_wait().unwrap().is_none(), "the load ended before the kills");
            }
            let (received, accepted) = (count(&stack, "received"), count(&stack, "accepted"));
            // Between this look and the kill more may come.
            in_flight += (received - base).saturating_sub(accepted - accepted_base) + SEGMENT;
            stack.restart(service);
            if service == stack.gateway() {
                came += received - base;
                (base, accepted_base) = (0, 0);
            } else {
                (base, accepted_base, came) = (received, accepted, came + received - base);
            }
        }
        let run = Run::of(child);
        run.expect_stored(4);
        came += count(&stack, "received") - base;
        println!("{service}: {total} bytes; {came} came; at most {in_flight} were in flight at the kills");
        assert!(
            came <= total + in_flight,
            "{service}: {came} bytes came of {total}, {in_flight} in flight at the kills"
        );
        stack.wait_derived(&run).await;
        told_once(&stack, &run).await;
        if kind == Kind::Distributed {
            check(&*stack.store().await, &run).await;
        } else {
            stack.stop();
            check(&*stack.store().await, &run).await;
            stack.run(service);
        }
    }
    stack.stop();
}

/// A process that was paused past its session's timeout goes on as if nothing had been.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zombie_archiver_breaks_nothing() {
    let mut stack = Stack::start(Kind::Distributed, &[]).await;
    let footage = Footage::new().random("a", 10 * SEGMENT).random("b", 5 * SEGMENT + 9);
    let uploader = Uploader::new(&stack);
    let mut child = uploader.start(footage.path(), &["--bwlimit", "5M"]);
    wait_until("the first parts", || stack.metric("archiver", "caselock_archiver_parts") > 0);
    stack.programs["archiver"].signal("STOP");
    let second = stack.spawn("archiver", free_port(), &[]).ready();
    // The second got the partitions when the session of the first had run out; both work on the rest.
    wait_until("parts of the second", || second.metric("caselock_archiver_parts") > 0);
    stack.programs["archiver"].signal("CONT");
    assert!(child.try_wait().unwrap().is_none(), "everything was stored before the first went on");
    let run = Run::of(child);
    run.expect_stored(2);
    // What is deleted from the log was committed before.
    let log = stack.log().await;
    for partition in 0..log.partitions(Topic::Footage) {
        let start = log.bounds(Topic::Footage, partition).await.unwrap().start;
        let committed = log.committed("caselock-archiver", Topic::Footage, partition).await.unwrap();
        assert!(start <= committed.unwrap_or(0), "partition {partition} begins at {start}, {committed:?} is committed");
    }
    let later = Footage::new().random("c", 4 * SEGMENT);
    let more = uploader.upload(later.path(), &[]);
    more.expect_stored(1);
    let store = stack.store().await;
    check(&*store, &run).await;
    check(&*store, &more).await;
    assert_eq!(second.stop(), Some(0));
    stack.stop();
}

/// The names of the files in a folder.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

async fn a_device_is_wiped_only_of_what_is_proven(kind: Kind) {
    let mut stack = Stack::start(kind, &[]).await;
    let footage = Footage::new().random("a", SEGMENT + 1).random("b", 3 << 20);
    let uploader = Uploader::new(&stack);
    uploader.upload(footage.path(), &[]).expect_stored(2);
    // Another file took the place of one that is stored, with the same size, time, beginning and end: only the hash of
    // the whole tells.
    let path = footage.path().join("b");
    let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[(3 << 20) / 2] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    let run = uploader.upload(footage.path(), &["--delete-source"]);
    assert_eq!(run.code, 5, "{}", run.stderr);
    assert_eq!(run.of_kind("deleted").count(), 1);
    let kept: Vec<_> = run.of_kind("kept").collect();
    assert!(kept[0]["error"].as_str().unwrap().contains("not what the receipt vouches for"), "{kept:?}");
    assert_eq!(names(footage.path()), ["b"]);

    // A recorder with a dead clock: the name, size and time of a file that is stored, and other content. It is footage of
    // its own.
    let reused = Footage::new().random("clip", 500);
    uploader.upload(reused.path(), &[]).expect_stored(1);
    let clip = reused.path().join("clip");
    let modified = std::fs::metadata(&clip).unwrap().modified().unwrap();
    std::fs::write(&clip, [9u8; 500]).unwrap();
    std::fs::File::options().write(true).open(&clip).unwrap().set_modified(modified).unwrap();
    let run = uploader.upload(reused.path(), &[]);
    run.expect_stored(1);
    assert!(run.of_kind("stored").all(|event| event["was_there"] == false));

    // With the gateway away nothing goes.
    let other = Footage::new().random("c", 1000);
    uploader.upload(other.path(), &[]).expect_stored(1);
    stack.kill(stack.gateway());
    let run = uploader.upload(other.path(), &["--delete-source", "--patience", "1"]);
    assert_eq!((run.code, run.of_kind("deleted").count()), (5, 0));
    assert_eq!(names(other.path()), ["c"]);
    stack.run(stack.gateway());
    let run = uploader.upload(other.path(), &["--delete-source"]);
    assert_eq!((run.code, run.of_kind("deleted").count()), (0, 1));
    assert!(names(other.path()).is_empty());
}

/// Two files of one device that agree in size, first and last MiB: each is stored, under a key of its own.
async fn files_that_look_alike_are_told_apart(kind: Kind) {
    let mut stack = Stack::start(kind, &[]).await;
    let footage = Footage::new().random("a", 3 << 20);
    let uploader = Uploader::new(&stack);
    uploader.upload(footage.path(), &[]).expect_stored(1);
    let mut bytes = std::fs::read(footage.path().join("a")).unwrap();
    bytes[(3 << 20) / 2] ^= 1;
    // The same name in another folder, and another name.
    let other = Footage::new();
    std::fs::write(other.path().join("a"), &bytes).unwrap();
    bytes[(3 << 20) / 2] ^= 2;
    std::fs::write(other.path().join("b"), &bytes).unwrap();
    let run = uploader.upload(other.path(), &[]);
    run.expect_stored(2);
    assert!(run.of_kind("stored").all(|event| event["was_there"] == false));
    // Two in one run, each with metadata of its own.
    bytes[0] ^= 1;
    let pair = Footage::new().with("c", &bytes);
    bytes[(3 << 20) / 2] ^= 4;
    let pair = pair.with("d", &bytes);
    let manifest = stack.dir.path().join("manifest.csv");
    std::fs::write(&manifest, "file,unit\nc,one\nd,another\n").unwrap();
    uploader.upload(pair.path(), &["--manifest", &manifest.display().to_string()]).expect_stored(2);
    // Copies under other names are recordings of their own, in whatever order they come; nothing is refused, or stored again.
    let copies =
        Footage::new().with("a copy", b"the same").with("another copy", b"the same").with("copy 3", b"the same");
    let first = uploader.upload(&copies.path().join("copy 3"), &[]);
    first.expect_stored(1);
    let all = uploader.upload(copies.path(), &[]);
    all.expect_stored(3);
    let ids: BTreeSet<_> = all.of_kind("stored").map(|event| event["recording_id"].to_string()).collect();
    assert_eq!(ids.len(), 3);
    assert!(ids.contains(&first.of_kind("stored").next().unwrap()["recording_id"].to_string()));
    let again = Uploader::new(&stack).upload(copies.path(), &[]);
    again.expect_stored(3);
    assert!(again.of_kind("stored").all(|event| event["was_there"] == true), "{:?}", again.events);
    // The same file with other metadata is refused, and the fields are named.
    let changed = Uploader::new(&stack).upload(footage.path(), &["--set", "unit=another"]);
    assert_eq!(changed.code, 3);
    let error = changed.of_kind("failed").next().unwrap()["error"].as_str().unwrap().to_owned();
    assert!(error.contains("OPEN_CONFLICT") && error.contains("metadata.unit"), "{error}");
    stack.stop();
    check(&*stack.store().await, &run).await;
}

async fn what_cannot_be_uploaded_is_said_and_changes_nothing(kind: Kind) {
    let stack = Stack::start(kind, &[]).await;
    let footage = Footage::new().random("empty", 0).random("fine", 10);
    let uploader = Uploader::new(&stack);
    let run = uploader.upload(footage.path(), &[]);
    assert_eq!(run.code, 3);
    let failed: Vec<_> = run.of_kind("failed").collect();
    assert!(failed[0]["error"].as_str().unwrap().contains("empty"), "{failed:?}");
    assert_eq!(run.of_kind("stored").count(), 1);
    // A source whose fields are missing, in a dry run: nothing is sent.
    let run = uploader.upload(footage.path(), &["--dry-run", "--set", "source=toaster"]);
    assert_eq!((run.code, run.of_kind("would_upload").count()), (3, 0));
    // A certificate of another CA is not let in; a bureau's own sees nothing of another's.
    let other = Uploader::of(&stack, "other", &stack.server);
    let theirs = other.upload(&footage.path().join("fine"), &[]);
    theirs.expect_stored(1);
    let id = |run: &Run| run.of_kind("stored").next().unwrap()["recording_id"].clone();
    assert_ne!(id(&theirs), id(&uploader.upload(&footage.path().join("fine"), &[])));
}
