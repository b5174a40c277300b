//! The registry beside the other services: it knows what is stored, however often it dies, and from the bucket alone.
#![allow(clippy::unwrap_used)]

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use caselock_e2e::{Footage, Kind, PATIENCE, Run, Stack, Uploader, binary, free_port, wait_until};
use caselock_registry::{Db, Recording};
use rand::RngExt;
use serde_json::Value;

fn database(path: &Path) -> String {
    format!("sqlite:{}?mode=rwc", path.display())
}

/// The recordings of a run, as a registry knows them, once it knows them all.
async fn known(db: &Db, run: &Run) -> Vec<Recording> {
    let bureau = "demo".parse().unwrap();
    let mut recordings = Vec::new();
    for event in run.of_kind("stored") {
        let id = event["recording_id"].as_str().unwrap().parse().unwrap();
        let find = async {
            loop {
                match Recording::find(db, &bureau, id).await.unwrap() {
                    // Read back and derived: nothing more comes.
                    Some(found) if found.verification.is_some() && found.derivation.is_some() => return found,
                    _ => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        };
        let found = tokio::time::timeout(PATIENCE, find).await.expect("the registry knows it");
        assert_eq!(found.blake3.trim_start_matches("blake3:"), event["blake3"].as_str().unwrap());
        assert_eq!(found.verification.as_deref(), Some("intact"));
        recordings.push(found);
    }
    recordings
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_missed_while_it_is_down_and_the_bucket_alone_says_the_same() {
    let mut stack = Stack::start(Kind::Distributed, &[]).await;
    let path = stack.dir.path().join("registry.sqlite");
    let start = |stack: &Stack| stack.spawn("registry", free_port(), &[("registry.database", database(&path))]).ready();
    let registry = start(&stack);
    let footage = Footage::new().random("a", 1000).random("b", 9 << 20);
    let uploader = Uploader::new(&stack);
    let first = uploader.upload(footage.path(), &["--set", "case_number=（2026）罚－１"]);
    first.expect_stored(2);
    let db = Db::open(database(&path)).await.unwrap();
    let mut followed = known(&db, &first).await;
    assert_eq!(followed[0].case_number.as_deref(), Some("(2026)罚-1"));
    assert!(followed.iter().all(|recording| recording.hold_at_storing));
    Uploader::ask(&stack, "demo", &["case", "open", "(2026)罚-1"]).answer();
    registry.kill();

    let footage = Footage::new().random("c", 2000);
    let second = uploader.upload(footage.path(), &[]);
    second.expect_stored(1);
    let registry = start(&stack);
    followed.extend(known(&db, &second).await);
    assert_eq!(registry.stop(), Some(0));
    // A new database beside a store that is not empty: the registry makes it anew by itself, cases included.
    let lost = stack.dir.path().join("lost.sqlite");
    let anew = stack.spawn("registry", free_port(), &[("registry.database", database(&lost))]).ready();
    let db = Db::open(database(&lost)).await.unwrap();
    wait_until("the end of the rebuild", || anew.log().contains("the rebuild from the store is done"));
    let mut again = known(&db, &first).await;
    again.extend(known(&db, &second).await);
    assert_eq!(again, followed);
    assert!(Uploader::ask(&stack, "demo", &["case", "show", "(2026)罚-1"]).answer()["entries"] == 1);
    assert_eq!(anew.stop(), Some(0));
    stack.stop();

    // From the bucket alone, by the command: the log is not asked.
    let other = stack.dir.path().join("rebuilt.sqlite");
    let rebuilt = Command::new(binary("caselock-registry"))
        .args(stack.flags(&["s3", "registry"]))
        .args(["--set", &format!("registry.database={}", database(&other)), "rebuild", "--from-store"])
        .output()
        .unwrap();
    assert!(rebuilt.status.success(), "{}", String::from_utf8_lossy(&rebuilt.stderr));
    assert_eq!(String::from_utf8_lossy(&rebuilt.stdout), "3 recordings were read from the store\n");
    let db = Db::open(database(&other)).await.unwrap();
    let mut again = known(&db, &first).await;
    again.extend(known(&db, &second).await);
    assert_eq!(again, followed);
}

/// The rebuild is killed (-9) wherever it happens to be, again and again, and goes on until it has read all there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_killed_anywhere_ends_in_the_same_state() {
    let mut stack = Stack::start(Kind::Distributed, &[]).await;
    let mut footage = Footage::new();
    for number in 0..60 {
        footage = footage.random(&format!("IMG_{number:04}.jpg"), 500 + number);
    }
    let run = Uploader::new(&stack).upload(footage.path(), &["--parallel", "16", "--set", "case_number=2026-9"]);
    run.expect_stored(60);
    stack.wait_derived(&run).await;
    stack.stop();
    let rebuild = |path: &Path| {
        let mut command = Command::new(binary("caselock-registry"));
        command.args(stack.flags(&["s3", "registry"]));
        command.args(["--set", &format!("registry.database={}", database(path)), "rebuild", "--from-store"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let [whole, torn] = ["whole.sqlite", "torn.sqlite"].map(|name| stack.dir.path().join(name));
    let began = Instant::now();
    assert!(rebuild(&whole).wait_with_output().unwrap().status.success());
    let mut time = began.elapsed();
    let mut random = rand::rng();
    let mut killed = 0;
    for _ in 0..10 {
        let mut child = rebuild(&torn);
        std::thread::sleep(time.mul_f64(random.random_range(0.2..0.95)));
        if child.try_wait().unwrap().is_none() {
            killed += 1;
        } else {
            // The first one began with nothing in the machine's caches.
            time = time.mul_f64(0.7);
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(killed > 0, "no kill came in time");
    assert!(rebuild(&torn).wait_with_output().unwrap().status.success());
    let (whole, torn) = (Db::open(database(&whole)).await.unwrap(), Db::open(database(&torn)).await.unwrap());
    let all = known(&whole, &run).await;
    assert_eq!(known(&torn, &run).await, all);
    assert!(!torn.is_rebuilding().await.unwrap());
}

/// As a nightly job does it, with nothing but the folder: an exit code, a line for each, and sums.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_says_whether_something_is_wrong() {
    let mut stack = Stack::start(Kind::Embedded, &[]).await;
    let footage = Footage::new().random("a", 1000).random("b", 2000);
    let run = Uploader::new(&stack).upload(footage.path(), &[]);
    run.expect_stored(2);
    stack.wait_derived(&run).await;
    stack.stop();
    let data = format!("standalone.data={}", stack.data().display());
    let standalone = |arguments: &[&str]| {
        let output =
            Command::new(binary("caselock-standalone")).args(["--set", &data]).args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said, error) = standalone(&["rebuild", "--from-store"]);
    assert_eq!((code, said.as_str()), (Some(0), "2 recordings were read from the store\n"), "{error}");
    let (code, said, error) = standalone(&["audit", "--json"]);
    assert_eq!(code, Some(0), "{said}{error}");
    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3, "{said}");
    // No registry has looked at them since the database was made anew.
    let sums = serde_json::json!({ "subjects": 2, "with_findings": 0, "under_retained": 0, "unsettled": 2 });
    assert_eq!(lines[2], sums);
    // A manifest is lost.
    let id = run.of_kind("stored").next().unwrap()["recording_id"].as_str().unwrap();
    let manifest = format!("v1/demo/recordings/{id}/0/manifest.json");
    let store = stack.data().join("store");
    std::fs::remove_file(store.join(&manifest)).unwrap();
    std::fs::remove_file(store.join(".caselock/meta").join(format!("{manifest}.json"))).unwrap();
    let (code, said, error) = standalone(&["audit"]);
    assert_eq!(code, Some(3), "{said}{error}");
    assert!(said.starts_with(&format!("MISSING_OBJECT  {manifest}\n")), "{said}");
    // Where no store is, nothing is right, and none is made.
    let elsewhere = stack.dir.path().join("elsewhere");
    for command in [&["audit"][..], &["rebuild", "--from-store"]] {
        let (code, _, error) = standalone(&[command, &["--data", elsewhere.to_str().unwrap()]].concat());
        assert_eq!(code, Some(1), "{error}");
        assert!(error.contains("there is no store in") && !elsewhere.exists(), "{error}");
    }
    let sums = "2 compared, 1 with something wrong, 0 under-retained, 2 still to be brought to what the rule says now by a \
                running registry\n";
    assert!(said.ends_with(sums), "{said}");
}
