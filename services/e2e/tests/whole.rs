//! From a folder to locked, receipted, viewable footage, on both stacks.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use caselock_domain::{digest::Blake3, manifest::Manifest, receipt::Receipt};
use caselock_e2e::{
    Footage, Kind, Stack, Uploader,
    browser::{self, Shown},
    on_both_stacks,
};
use caselock_log::Topic;
use caselock_store::{ErrorKind, Store, oldest_version, read_document};
use futures::TryStreamExt;
use serde_json::Value;

on_both_stacks!(a_folder_becomes_locked_receipted_viewable_footage);

const SEGMENT: u64 = 8 << 20;
const SECONDS: f64 = 6.0;

/// Over 1 GiB of what devices and offices leave, and of what sizes are awkward.
fn mixed() -> Footage {
    let picture = ["-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=25:duration=6"];
    let sound = ["-f", "lavfi", "-i", "sine=frequency=440:duration=6"];
    let film = |codecs: &[&'static str]| [&picture[..], &sound[..], codecs].concat();
    Footage::new()
        .ffmpeg(
            "现场检查 0001.mp4",
            &film(&["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac"]),
        )
        .ffmpeg(
            "recorder.hevc.mp4",
            &film(&["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none", "-c:a", "aac"]),
        )
        .ffmpeg("site-camera.ts", &film(&["-c:v", "mpeg2video", "-b:v", "4M", "-c:a", "mp2"]))
        .ffmpeg("old-recorder.avi", &film(&["-c:v", "mjpeg", "-q:v", "5", "-c:a", "pcm_s16le"]))
        .ffmpeg("询问录音.wav", &[&sound[..], &["-c:a", "pcm_s16le"]].concat())
        .ffmpeg("询问录音.mp3", &[&sound[..], &["-c:a", "libmp3lame"]].concat())
        .turned_photo("现场照片.jpg")
        .ffmpeg("photo.png", &["-f", "lavfi", "-i", "mandelbrot=size=1024x768:rate=1", "-frames:v", "1"])
        .with("检查笔录.pdf", b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n")
        .random("一个字节.bin", 1)
        .random("exactly one segment.bin", SEGMENT)
        .random("one byte more.bin", SEGMENT + 1)
        .random("over a hundred segments.bin", 100 * SEGMENT + 4321)
        .random("many segments.bin", 29 * SEGMENT)
}

async fn a_folder_becomes_locked_receipted_viewable_footage(kind: Kind) {
    let footage = mixed();
    let mut stack = Stack::start(kind, &[]).await;
    let uploader = Uploader::new(&stack);
    let files = footage.files();
    let size: u64 = files.iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!(size > 1 << 30, "{size} bytes are less than 1 GiB");
    let run = uploader.upload(footage.path(), &[]);
    run.expect_stored(files.len());
    assert!(run.of_kind("stored").all(|event| event["was_there"] == false));

    // Again, from the journal; and again without one, from the gateway: nothing is sent.
    for uploader in [&uploader, &Uploader::new(&stack)] {
        let again = uploader.upload(footage.path(), &[]);
        again.expect_stored(files.len());
        assert!(again.of_kind("stored").all(|event| event["was_there"] == true));
        assert_eq!(again.bytes_held(), 0);
    }

    let stored: BTreeMap<String, Value> =
        run.of_kind("stored").map(|event| (event["file"].as_str().unwrap().to_owned(), event.clone())).collect();
    stack.wait_derived(&run).await;
    stack.stop();
    // What is stored is held in the log no longer: each partition was deleted up to what was committed.
    let log = stack.log().await;
    for partition in 0..log.partitions(Topic::Footage) {
        let bounds = log.bounds(Topic::Footage, partition).await.unwrap();
        let committed = log.committed("caselock-archiver", Topic::Footage, partition).await.unwrap();
        assert_eq!((bounds.start, committed.unwrap_or(0)), (bounds.end, bounds.end), "partition {partition}");
    }
    drop(log);
    let store = stack.store().await;
    let mut shown = Vec::new();
    for path in &files {
        let event = &stored[path.canonicalize().unwrap().to_str().unwrap()];
        let proxy = check(&stack, &*store, path, event).await;
        shown.extend(proxy);
    }
    assert_eq!(shown.len(), 6, "every video and every sound has a proxy");
    for played in browser::play(shown).await {
        assert!(played.ended, "{played:?}");
        assert!((played.duration - SECONDS).abs() < 0.5 && played.position >= played.duration - 0.1, "{played:?}");
        let is_sound = played.name.ends_with("wav") || played.name.ends_with("mp3");
        assert_eq!((played.width, played.height), if is_sound { (0, 0) } else { (1280, 720) }, "{played:?}");
    }
}

async fn stored_digest(store: &dyn Store, key: &str, version: &str) -> Blake3 {
    let mut chunks = store.read(key, version, 0).await.unwrap();
    let mut hasher = blake3::Hasher::new();
    while let Some(chunk) = chunks.try_next().await.unwrap() {
        hasher.update(&chunk);
    }
    Blake3(*hasher.finalize().as_bytes())
}

/// As `b3sum` prints it.
fn b3sum(path: &Path) -> Blake3 {
    let program = std::env::var("CASELOCK_TEST_B3SUM").unwrap_or_else(|_| "b3sum".into());
    let output =
        Command::new(program).arg("--no-names").arg(path).output().expect("b3sum, as deploy/test.sh installs it");
    let digest = format!("blake3:{}", String::from_utf8(output.stdout).unwrap().trim());
    serde_json::from_value(digest.into()).unwrap()
}

/// A picture as so many grey dots, row by row.
fn dots(picture: &[u8], (width, height): (usize, usize), more: &[&str]) -> Vec<i32> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), picture).unwrap();
    let scale = format!("scale={width}:{height}:flags=area,format=gray");
    let output = Command::new("ffmpeg")
        .args(["-v", "error"])
        .args(more)
        .arg("-i")
        .arg(file.path())
        .args(["-vf", &scale, "-f", "rawvideo", "-"])
        .output()
        .unwrap();
    assert_eq!(output.stdout.len(), width * height, "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout.into_iter().map(i32::from).collect()
}

fn apart(a: &[i32], b: &[i32]) -> i32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<i32>() / a.len() as i32
}

/// Whether there is something to be seen on a picture, and the right way up.
fn look_at(original: &Path, name: &str, picture: &[u8]) {
    let is_plain = |dots: &[i32]| dots.iter().max().unwrap() - dots.iter().min().unwrap() < 40;
    let seen = dots(picture, (64, 48), &[]);
    assert!(!is_plain(&seen), "{name} of {} is plain", original.display());
    if name == "contact-sheet" {
        // Sixteen frames, each with a picture.
        for (row, column) in (0..4).flat_map(|row| (0..4).map(move |column| (row, column))) {
            let dots = (0..12).flat_map(|y| (0..16).map(move |x| (row * 12 + y) * 64 + column * 16 + x));
            let frame: Vec<_> = dots.map(|at| seen[at]).collect();
            assert!(!is_plain(&frame), "frame {row}, {column} of {}", original.display());
        }
    }
    if name == "preview" {
        // What a viewer who heeds the orientation shows of the photo, and no other.
        let bytes = std::fs::read(original).unwrap();
        let raw = dots(&bytes, (64, 48), &["-noautorotate"]);
        let turned: Vec<_> = raw.iter().rev().copied().collect();
        let is_turned = original.extension().unwrap() == "jpg";
        let (right, wrong) = if is_turned { (&turned, &raw) } else { (&raw, &turned) };
        assert!(apart(&seen, right) < 8 && apart(&seen, wrong) > 20, "{}", original.display());
    }
}

/// One file: its digest, its receipt, its object and lock, its derivatives. Its proxy, if it has one.
async fn check(stack: &Stack, store: &dyn Store, path: &Path, event: &Value) -> Option<Shown> {
    let (blake3, size) = (b3sum(path), path.metadata().unwrap().len());
    assert_eq!(event["blake3"], blake3.to_hex().as_str(), "{}", path.display());

    let envelope = std::fs::read(event["receipt"].as_str().unwrap()).unwrap();
    let receipt = Receipt::try_from(&serde_json::from_slice(&envelope).unwrap()).unwrap();
    let payload = stack.keys().verify(&receipt).unwrap();
    assert_eq!((payload.size, payload.blake3), (size, blake3));

    let folder = format!("v1/demo/recordings/{}/0", payload.recording_id);
    assert_eq!(payload.object_key, format!("{folder}/original"));
    let versions = store.versions(&payload.object_key).await.unwrap();
    assert_eq!(versions.len(), 1, "one object");
    assert_eq!(versions[0].id, payload.version);
    assert_eq!(stored_digest(store, &payload.object_key, &payload.version).await, blake3, "{}", path.display());

    let (_, manifest) = read_document(store, &format!("{folder}/manifest.json"), 1 << 20).await.unwrap().unwrap();
    let manifest: Manifest = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(Receipt::try_from(&manifest.receipt).unwrap(), receipt);

    let (_, derived) = read_document(store, &format!("{folder}/derived.json"), 1 << 20).await.unwrap().unwrap();
    let derived: Value = serde_json::from_slice(&derived).unwrap();
    assert_eq!(derived["failure"], Value::Null, "{}", path.display());
    let names: Vec<_> =
        derived["derivatives"].as_array().unwrap().iter().map(|d| d["name"].as_str().unwrap()).collect();
    let expected: &[&str] = match path.extension().unwrap().to_str().unwrap() {
        "mp4" | "ts" | "avi" => &["poster", "contact-sheet", "proxy"],
        "mp3" | "wav" => &["waveform", "proxy"],
        "jpg" | "png" => &["preview"],
        _ => &[],
    };
    assert_eq!(names, expected, "{}", path.display());

    let mut keys = vec![payload.object_key.clone(), format!("{folder}/manifest.json")];
    keys.extend(["verification.json", "derived.json"].map(|name| format!("{folder}/{name}")));
    keys.extend(
        derived["derivatives"].as_array().unwrap().iter().map(|d| d["object_key"].as_str().unwrap().to_owned()),
    );
    for key in keys {
        let version = oldest_version(store, &key).await.unwrap().unwrap();
        let lock = store.lock(&key, &version.id).await.unwrap();
        assert_eq!(lock.until, Some(payload.locked_until), "{key}");
        for bypass in [false, true] {
            let deleted = store.delete_version(&key, &version.id, bypass).await;
            assert_eq!(deleted.unwrap_err().kind, ErrorKind::Locked, "{key}");
        }
    }
    for picture in derived["derivatives"].as_array().unwrap().iter().filter(|d| d["content_type"] == "image/jpeg") {
        let (_, bytes) = read_document(store, picture["object_key"].as_str().unwrap(), 1 << 24).await.unwrap().unwrap();
        look_at(path, picture["name"].as_str().unwrap(), &bytes);
    }
    let proxy = derived["derivatives"].as_array().unwrap().iter().find(|d| d["name"] == "proxy")?;
    let (_, bytes) = read_document(store, proxy["object_key"].as_str().unwrap(), 1 << 30).await.unwrap().unwrap();
    let content_type = proxy["content_type"].as_str().unwrap().to_owned();
    let name = PathBuf::from(path).file_name().unwrap().to_str().unwrap().to_owned();
    Some(Shown { name, content_type, bytes })
}
