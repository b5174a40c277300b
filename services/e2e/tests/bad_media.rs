//! Files that are not what they seem: each costs one job; the original is stored, and the reason is told.
#![allow(clippy::unwrap_used)]

use prost::Message;

use std::{collections::BTreeMap, net::TcpListener, path::Path, sync::Arc, time::Duration};

use caselock_client::{Client, Connect, Upload};
use caselock_e2e::{Footage, Kind, Stack, Uploader, on_both_stacks, wait_until};
use caselock_log::{Entry, Topic};
use caselock_proto::events::v1::RecordingDerivationFailed;
use caselock_proto::v1::RecordingMetadata;

on_both_stacks!(bad_videos_cost_one_job_each_and_nothing_else);

fn header(entry: &Entry, name: &str) -> String {
    entry.record.header_value(name).map(|value| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
}

fn is_derivation(entry: &Entry) -> bool {
    header(entry, "ce_type").starts_with("io.caselock.recording.deriv")
}

/// Uploads with a client that calls everything a video.
async fn upload_as_video(stack: &Stack, path: &Path) -> String {
    let connect = Connect { servers: vec![stack.server.clone()], tls: Some(stack.tls("demo")) };
    let metadata = RecordingMetadata {
        original_name: "playlist.mp4".into(),
        content_type: "video/mp4".into(),
        ..caselock_e2e::metadata()
    };
    let patience = Duration::from_secs(60);
    let upload = Upload { key: "a-lie".into(), metadata, throttle: Arc::default(), patience, report: &|_| {} };
    let client = Client::new(&connect, stack.keys()).unwrap();
    let uploaded = client.upload(&caselock_client::Footage::open(path).unwrap(), &upload).await.unwrap();
    uploaded.payload.recording_id.to_string()
}

async fn bad_videos_cost_one_job_each_and_nothing_else(kind: Kind) {
    // Whoever is asked by a playlist would see the call.
    let loopback = TcpListener::bind("127.0.0.1:0").unwrap();
    loopback.set_nonblocking(true).unwrap();
    let address = loopback.local_addr().unwrap();
    let playlist =
        format!("#EXTM3U\n#EXTINF:5,\nfile:///etc/passwd\n#EXTINF:5,\nhttp://{address}/x.ts\n#EXT-X-ENDLIST\n");
    // The beginning of an MP4, and then nothing of the kind.
    let mut lie = b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41".to_vec();
    lie.extend((0..200_000u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()));
    let whole = Footage::new().ffmpeg(
        "whole.mp4",
        &["-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25:duration=4", "-c:v", "libx264", "-preset", "ultrafast"],
    );
    let mut cut = std::fs::read(whole.path().join("whole.mp4")).unwrap();
    cut.truncate(cut.len() / 2);
    let footage = Footage::new().with("lie.mp4", &lie).with("cut.mp4", &cut).with("playlist.mp4", playlist.as_bytes());

    let mut stack = Stack::start(kind, &[]).await;
    let run = Uploader::new(&stack).upload(footage.path(), &[]);
    run.expect_stored(3);
    let mut ids: BTreeMap<String, String> = run
        .of_kind("stored")
        .map(|e| {
            let name = e["file"].as_str().unwrap().rsplit('/').next().unwrap();
            (name.to_owned(), e["recording_id"].as_str().unwrap().to_owned())
        })
        .collect();
    // To our own command a playlist is one, whatever it is called. Another client may say that it is a video.
    ids.insert("a lie about a playlist".into(), upload_as_video(&stack, &footage.path().join("playlist.mp4")).await);
    let media = if kind == Kind::Embedded { "standalone" } else { "media" };
    wait_until("the ends of the jobs", || {
        let count = |what: &str| stack.metric(media, &format!("caselock_media_{what}"));
        count("derivation_failures") == ids.len() as u64 && count("jobs_in_hand") == 0
    });
    // The service goes on.
    let next = Uploader::new(&stack).upload(whole.path(), &[]);
    next.expect_stored(1);
    stack.wait_derived(&next).await;
    let contacted = loopback.accept();
    assert!(contacted.is_err(), "the playlist was followed: {contacted:?}");
    stack.stop();

    let mut events = stack.records(Topic::Events).await;
    events.retain(is_derivation);
    let dead = stack.records(Topic::DeadLetters).await;
    for (name, id) in &ids {
        let letters: Vec<_> = dead.iter().filter(|entry| entry.record.key == id.as_bytes()).collect();
        assert_eq!(letters.len(), 1, "{name}");
        assert_eq!(header(letters[0], "cl-topic"), "caselock.media-jobs.v1");
        let reason = match name.as_str() {
            "lie.mp4" | "cut.mp4" => "UNREADABLE",
            _ => "NOT_MEDIA",
        };
        assert_eq!(header(letters[0], "cl-reason"), reason, "{name}");
        let [event] = &events.iter().filter(|entry| entry.record.key == id.as_bytes()).collect::<Vec<_>>()[..] else {
            panic!("{name}: {events:?}")
        };
        assert_eq!(header(event, "ce_type"), "io.caselock.recording.derivation-failed.v1", "{name}");
        let event = RecordingDerivationFailed::decode(event.record.payload.clone().unwrap()).unwrap();
        assert_eq!(event.reason, reason, "{name}");
    }
    let store = stack.store().await;
    for id in ids.values() {
        let key = format!("v1/demo/recordings/{id}/0/original");
        let version = caselock_store::oldest_version(&*store, &key).await.unwrap().unwrap();
        assert!(store.delete_version(&key, &version.id, true).await.is_err(), "{key} is locked");
    }
}
