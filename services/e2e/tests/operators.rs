//! What operators do by hand, on the real Kafka and S3.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

use caselock_domain::{
    digest::Blake3,
    fact::{Fact, FactKey, Subject},
    id::RecordingId,
    receipt::{PAYLOAD_TYPE, ReceiptPayload, ReceiptSigner},
    time::Timestamp,
};
use caselock_e2e::{Footage, Kind, Stack, Uploader, binary, wait_until};
use caselock_log::{Record, Topic, append_fact};
use serde_json::Value;

fn admin(stack: &Stack, arguments: &[&str]) -> Output {
    let settings = stack.flags(&["kafka", "s3"]);
    let mut command = Command::new(binary("caselock-admin"));
    command.args(&settings).args(arguments).env("USER", "archivist").output().unwrap()
}

/// What it prints, a JSON object on a line, where it succeeds.
#[track_caller]
fn objects(stack: &Stack, arguments: &[&str]) -> Vec<Value> {
    let output = admin(stack, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[track_caller]
fn done(stack: &Stack, arguments: &[&str]) -> String {
    let output = admin(stack, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn refused(stack: &Stack, arguments: &[&str], why: &str) {
    let output = admin(stack, arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(why), "{arguments:?}: {said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_went_wrong_is_found_and_put_right_by_hand() {
    let mut stack = Stack::start(Kind::Distributed, &[]).await;
    let registry = stack.start_registry().await.unwrap();
    // What begins as a video and is none: media makes nothing of it, and says so.
    let broken = [&b"\0\0\0\x18ftypisom\0\0\x02\0isomiso2"[..], &[7; 1000]].concat();
    let footage = Footage::new().with("a.mp4", &broken).random("b.bin", 1000);
    let run = Uploader::new(&stack).upload(footage.path(), &[]);
    run.expect_stored(2);
    stack.wait_derived(&run).await;
    // What nobody wrote as a segment.
    let log = stack.log().await;
    log.append(Topic::Footage, 0, Record::new("nobody", "nothing")).await.unwrap();

    let uploads = objects(&stack, &["uploads", "list", "--all", "--json"]);
    assert_eq!(uploads.len(), 2);
    assert!(uploads.iter().all(|upload| upload["bureau"] == "demo" && upload["state"] == "derived"), "{uploads:?}");
    assert_eq!(done(&stack, &["uploads", "list"]), "", "nothing is under way");
    let id = uploads[0]["recording_id"].as_str().unwrap();
    assert!(done(&stack, &["uploads", "show", id]).contains("\"locked_until\""));
    refused(&stack, &["uploads", "show", "da1baaa6-1bdb-89fd-97f4-72881d4e0b33"], "the log knows nothing of");

    let letters = || objects(&stack, &["dead-letters", "list", "--json"]);
    wait_until("both dead letters", || letters().len() == 2);
    wait_until("their number", || registry.metric("caselock_dead_letters_open") == 2);
    let of = |topic: &str| {
        let all = letters();
        let found = all.iter().find(|letter| letter["headers"]["cl-topic"] == topic).unwrap();
        (found["letter"].as_str().unwrap().to_owned(), found["headers"]["cl-reason"].as_str().unwrap().to_owned())
    };
    let (segment, malformed) = of("caselock.footage.v1");
    let (job, unreadable) = of("caselock.media-jobs.v1");
    assert_eq!((malformed.as_str(), unreadable.as_str()), ("FOOTAGE_MALFORMED", "UNREADABLE"));
    assert!(done(&stack, &["dead-letters", "show", &job]).contains("UNREADABLE"));
    // All or none: the segment's bytes are not there.
    let why = ["--reason", "a trial"];
    refused(&stack, &[&["dead-letters", "retry", &job, &segment], &why[..]].concat(), "were asked for again");
    refused(&stack, &[&["dead-letters", "drop", "0/999"], &why[..]].concat(), "no dead letter that waits");
    refused(&stack, &[&["dead-letters", "drop", "7"], &why[..]].concat(), "PARTITION/OFFSET");
    assert_eq!(letters().len(), 2);
    done(&stack, &[&["dead-letters", "drop", &segment], &why[..]].concat());
    done(&stack, &[&["dead-letters", "retry", &job], &why[..]].concat());
    refused(&stack, &[&["dead-letters", "retry", &job], &why[..]].concat(), "no dead letter that waits");
    // Done again, and nothing new to tell.
    wait_until("the job", || stack.programs["media"].admin("/metrics").contains("outcome=\"repeated\""));
    assert_eq!(done(&stack, &["dead-letters", "list"]), "");
    wait_until("their number", || registry.metric("caselock_dead_letters_open") == 0);

    let about = ["--subject", id, "--type", "io.caselock.recording.stored.v1"];
    let events = || objects(&stack, &[&["events", "show"], &about[..]].concat());
    let before = events();
    assert_eq!(before.len(), 1);
    refused(&stack, &["events", "replay", "--type", "io.caselock.recording.stored.v1"], "say where it ends");
    assert_eq!(done(&stack, &[&["events", "replay"], &about[..]].concat()), "1 events told again\n");
    let after = events();
    assert_eq!((after.len(), &after[1]["headers"]), (2, &before[0]["headers"]));
    // Once more it is one again, not two.
    assert_eq!(done(&stack, &[&["events", "replay"], &about[..]].concat()), "1 events told again\n");
    let none = ["events", "show", "--until", "2020-01-01T00:00:00Z"];
    assert!(objects(&stack, &none).is_empty());

    assert!(
        done(&stack, &["compare"])
            .contains("2 recordings that the log has receipts of compared with the store: 0 with")
    );
    // A receipt of what is not there; no archiver puts it right meanwhile.
    stack.kill("archiver");
    let recording = RecordingId::derive(&"demo".parse().unwrap(), &"lost".parse().unwrap());
    let at: Timestamp = "2026-11-20T01:30:00Z".parse().unwrap();
    let key = std::fs::read_to_string(stack.dir.path().join("ca/receipt-key.pem")).unwrap();
    let receipt = ReceiptSigner::from_pem(&key).unwrap().sign(&ReceiptPayload {
        media_type: PAYLOAD_TYPE.into(),
        recording_id: recording,
        generation: 0,
        bureau: "demo".parse().unwrap(),
        original_name: "lost.mp4".into(),
        size: 1,
        blake3: Blake3([0; 32]),
        object_key: format!("v1/demo/recordings/{recording}/0/original"),
        version: "00000000-0000-0000-0000-000000000000".into(),
        stored_at: at,
        locked_until: at,
        legal_hold: false,
    });
    let key = FactKey { recording, generation: 0, subject: Subject::Receipted };
    append_fact(&*log, &key, Some(&Fact::Receipted(Box::new(receipt.unwrap()), at))).await.unwrap();
    let found = admin(&stack, &["compare"]);
    let said = String::from_utf8(found.stdout).unwrap();
    assert_eq!(found.status.code(), Some(3), "{said}");
    for what in ["is not there in version", "manifest.json is not there", "no event says"] {
        assert!(said.contains(what), "{what}: {said}");
    }
    stack.stop();
}
