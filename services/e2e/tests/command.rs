//! The bureaus' command beside `upload`: watching, status, receipts, results, languages, manifests and templates.
#![allow(clippy::unwrap_used)]

use std::{
    ffi::OsStr,
    io::Write,
    os::unix::ffi::OsStrExt,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use caselock_e2e::{Footage, Kind, Stack, Uploader, binary, free_port, on_a_terminal, on_both_stacks, wait_until};
use regex::Regex;
use serde_json::Value;

on_both_stacks!(
    receipts_are_kept_listed_checked_and_shown_in_both_languages,
    metadata_comes_from_manifests_in_gbk_and_from_names,
    a_watched_folder_is_taken_as_it_fills_and_another_gateway_does_as_well,
);

fn caselock(arguments: &[&str]) -> Output {
    Command::new(binary("caselock")).args(arguments).env_remove("LANG").env_remove("LC_ALL").output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

async fn receipts_are_kept_listed_checked_and_shown_in_both_languages(kind: Kind) {
    let mut stack = Stack::start(kind, &[]).await;
    let footage = Footage::new().random("一个", 1000).random("b", 2000);
    let uploader = Uploader::new(&stack);
    let result = stack.dir.path().join("result.csv").display().to_string();
    let run = uploader.upload(footage.path(), &["--result", &result]);
    run.expect_stored(2);
    let csv = std::fs::read_to_string(&result).unwrap();
    assert_eq!(csv.lines().count(), 3, "{csv}");
    for event in run.of_kind("stored") {
        let id = event["recording_id"].as_str().unwrap();
        assert!(csv.lines().any(|line| line.contains(id) && line.contains(",stored,")), "{csv}");
    }
    let journal = uploader.journal.display().to_string();
    let lines = std::fs::read(uploader.journal.join("journal.jsonl")).unwrap();
    let listed = text(&caselock(&["status", "--journal", &journal, "--json"]));
    assert_eq!(listed.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok()).count(), 2, "{listed}");

    assert_eq!(std::fs::read(uploader.journal.join("journal.jsonl")).unwrap(), lines);

    let keys = stack.dir.path().join("ca/receipt-key.pub.pem").display().to_string();
    let receipt = run.of_kind("stored").find(|e| e["size"] == 2000).unwrap()["receipt"].as_str().unwrap().to_owned();
    let file = footage.path().join("b").display().to_string();
    let verify = |more: &[&str]| caselock(&[&["receipt", "verify", "--receipt-keys", &keys], more].concat());
    let good = verify(&["--file", &file, &receipt]);
    assert_eq!((good.status.code(), text(&good).starts_with("good")), (Some(0), true), "{}", text(&good));
    let chinese = verify(&["--lang", "zh", &receipt]);
    assert!(text(&chinese).starts_with("有效"), "{}", text(&chinese));
    // After a key was changed there are two in the file, and each receipt is checked by its own.
    let both = stack.dir.path().join("both.pem");
    let newer = Command::new("openssl").args(["genpkey", "-algorithm", "ed25519"]).output().unwrap().stdout;
    std::fs::write(&both, &newer).unwrap();
    let public = Command::new("openssl").args(["pkey", "-pubout", "-in"]).arg(&both).output().unwrap().stdout;
    std::fs::write(&both, [public, std::fs::read(&keys).unwrap()].concat()).unwrap();
    let by_both = caselock(&["receipt", "verify", "--receipt-keys", &both.display().to_string(), &receipt]);
    assert_eq!(by_both.status.code(), Some(0), "{by_both:?}");
    let other = footage.path().join("一个").display().to_string();
    assert_eq!(verify(&["--file", &other, &receipt]).status.code(), Some(3));
    // One letter of the payload is another.
    let forged = stack.dir.path().join("forged.json");
    let mut envelope: Value = serde_json::from_slice(&std::fs::read(&receipt).unwrap()).unwrap();
    let payload = envelope["payload"].as_str().unwrap().replacen('e', "f", 1);
    envelope["payload"] = payload.into();
    std::fs::write(&forged, envelope.to_string()).unwrap();
    assert_eq!(verify(&[&forged.display().to_string()]).status.code(), Some(3));

    // What goes wrong is Chinese as well; what machines read is not.
    let bad = Footage::new().with("空", b"").with("c", b"1");
    let said = uploader.say(bad.path(), &["--lang", "zh", "--set", "unit="]);
    assert!(said.contains("文件为空"), "{said}");
    let said = Uploader::new(&stack).say(&footage.path().join("b"), &["--lang", "zh", "--set", "unit=另一科"]);
    assert!(said.contains("被拒绝（OPEN_CONFLICT）：该记录此前已以不同的元数据或大小登记"), "{said}");
    assert_eq!(said.matches("原登记不变").count(), 1, "{said}");
    let events = uploader.upload(bad.path(), &["--lang", "zh"]);
    let failed = events.of_kind("failed").next().unwrap()["error"].as_str().unwrap().to_owned();
    assert!(failed.contains("the file is empty"), "{failed}");

    let help = text(&caselock(&["upload", "--help", "--lang", "zh"]));
    assert!(help.contains("清单"), "{help}");
    for english in ["Usage", "Options", "Arguments", "Print"] {
        assert!(!help.contains(english), "{english} in {help}");
    }
    // What can't be is said at once, and a mistyped folder looks like no journal.
    let nowhere = stack.dir.path().join("nowhere").display().to_string();
    for (arguments, why) in [
        (&["status", "--journal", &nowhere][..], "there is no journal in"),
        (&["case", "list", "--registry", "localhost:7444"], "expected https://HOST:PORT"),
        (
            &["case", "list", "--registry", &stack.registry, "--ca", &keys, "--cert", &keys, "--key", &keys],
            "no certificate",
        ),
    ] {
        let refused = caselock(arguments);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(refused.status.code() == Some(2) && said.contains(why), "{arguments:?}: {refused:?}");
    }
    assert!(!std::path::Path::new(&nowhere).exists());
    // Who reads no more stops nothing.
    let mut child = uploader.saying(footage.path(), &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    // However help is asked for.
    for asked in [&["--lang", "zh", "help", "case", "open"][..], &["--lang=zh", "case", "help", "open"]] {
        let help = text(&caselock(asked));
        assert!(help.contains("立案；") && !help.contains("Usage"), "{asked:?}: {help}");
    }
    let wrong = caselock(&["uplaod", "--lang", "zh"]);
    let said = String::from_utf8_lossy(&wrong.stderr);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(said.contains("未知命令 uplaod") && said.contains("upload"), "{said}");
    stack.stop();
}

async fn metadata_comes_from_manifests_in_gbk_and_from_names(kind: Kind) {
    let mut stack = Stack::start(kind, &[]).await;
    let footage = Footage::new().random("DSJ0042_20261120_090500.bin", 100).random("b.bin", 200);
    let table = "文件,科室,执法人员\nb.bin,医疗监督科,王五;赵六\n笔录.bin,传染病科,王五\n";
    let (gbk, ..) = encoding_rs::GBK.encode(table);
    // A name as old devices and archives write it, which is no UTF-8.
    let (name, ..) = encoding_rs::GBK.encode("笔录.bin");
    std::fs::write(footage.path().join(OsStr::from_bytes(&name)), b"old").unwrap();
    let manifest = stack.dir.path().join("清单.csv");
    std::fs::write(&manifest, gbk).unwrap();
    let template = r"^(?P<device_id>DSJ\d+)_(?P<recorded_started_at>\d{8}_\d{6})";
    let uploader = Uploader::new(&stack);
    let manifest = manifest.display().to_string();
    let run = uploader.upload(footage.path(), &["--manifest", &manifest, "--template", template]);
    run.expect_stored(3);
    let again = uploader.upload(footage.path(), &["--manifest", &manifest, "--template", template]);
    assert!(again.of_kind("stored").filter(|event| event["was_there"] == true).count() == 3, "{:?}", again.events);
    assert_eq!(again.bytes_held(), 0);
    stack.stop();
    let store = stack.store().await;
    let mut seen = Vec::new();
    for event in run.of_kind("stored") {
        let key = format!("v1/demo/recordings/{}/0/manifest.json", event["recording_id"].as_str().unwrap());
        let (_, bytes) = caselock_store::read_document(&*store, &key, 1 << 20).await.unwrap().unwrap();
        let metadata = serde_json::from_slice::<Value>(&bytes).unwrap()["metadata"].clone();
        seen.push((metadata["unit"].clone(), metadata["device_id"].clone(), metadata["recorded_started_at"].clone()));
    }
    seen.sort_by_key(|(unit, ..)| unit.to_string());
    assert_eq!(seen.remove(0).0, "传染病科");
    let named = run.of_kind("stored").filter(|event| event["file"].as_str().unwrap().ends_with("/笔录.bin"));
    assert_eq!(named.count(), 1);
    assert_eq!(seen[0].0, "医疗监督科");
    let from_name = (Value::from("综合监督科"), Value::from("DSJ0042"), Value::from("2026-11-20T01:05:00Z"));
    assert_eq!(seen[1], from_name);
}

async fn a_watched_folder_is_taken_as_it_fills_and_another_gateway_does_as_well(kind: Kind) {
    let mut stack = Stack::start(kind, &[]).await;
    let footage = Footage::new();
    // The first of the two does not answer.
    let servers = format!("https://localhost:{},{}", free_port(), stack.server);
    let uploader = Uploader::of(&stack, "demo", &servers);
    let log = stack.dir.path().join("watch.jsonl");
    let mut watch = uploader.watch(footage.path(), &log, &["--settle", "1", "--every", "1"]);
    let stored = || std::fs::read_to_string(&log).unwrap_or_default().matches(r#""event":"stored""#).count();
    let footage = footage.random("first", 3000);
    wait_until("the first file", || stored() == 1);
    let footage = footage.random("second", 5000);
    wait_until("the second file", || stored() == 2);
    let id = watch.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    assert_eq!(watch.wait().unwrap().code(), Some(0));

    // One that is being written is left alone until it rests; killed and begun again, all that is proven goes.
    let mut watch = uploader.watch(footage.path(), &log, &["--settle", "3", "--every", "1"]);
    let opened = |name: &str| {
        let told = std::fs::read_to_string(&log).unwrap_or_default();
        told.lines().any(|line| line.contains(r#""event":"opened""#) && line.contains(name))
    };
    let mut grown = 0;
    for name in (0..).map(|n| format!("grows {n}")) {
        grown += 1;
        let path = footage.path().join(&name);
        let (began, mut last, mut widest) = (Instant::now(), Instant::now(), Duration::ZERO);
        while began.elapsed() < Duration::from_secs(7) {
            let mut file = std::fs::File::options().create(true).append(true).open(&path).unwrap();
            file.write_all(&[grown; 1000]).unwrap();
            widest = widest.max(last.elapsed());
            last = Instant::now();
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        // Where this machine was so slow that the file did rest, it says nothing.
        if widest.max(last.elapsed()) < Duration::from_secs(2) {
            assert!(!opened(&name), "{name} was taken while it grew");
            break;
        }
    }
    wait_until("what grew", || opened(&format!("grows {}", grown - 1)));
    watch.kill().unwrap();
    watch.wait().unwrap();
    let mut watch = uploader.watch(footage.path(), &log, &["--settle", "1", "--every", "1", "--delete-source"]);
    wait_until("an empty folder", || footage.files().is_empty());
    let told = std::fs::read_to_string(&log).unwrap();
    assert_eq!(told.matches(r#""event":"deleted""#).count(), 2 + usize::from(grown), "{told}");
    watch.kill().unwrap();
    watch.wait().unwrap();
    stack.stop();
}

/// Without a terminal, people are told every ten seconds how far it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_is_told_in_plain_lines() {
    let mut stack = Stack::start(Kind::Embedded, &[]).await;
    let footage = Footage::new().random("large", 16 << 20).random("small", 10);
    let said = Uploader::new(&stack).say(footage.path(), &["--bwlimit", "1M"]);
    let told: Vec<_> = said.lines().filter(|line| line.ends_with(" of 16.00 MiB sent")).collect();
    assert!(!told.is_empty(), "{said}");
    assert!(told.iter().any(|line| line.starts_with("1 of 2 files stored, ")), "{told:?}");
    stack.stop();
}

/// On a terminal a bar says how far it is: never less than before, never more than there is, and all of it in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_is_shown_on_a_terminal() {
    let mut stack = Stack::start(Kind::Embedded, &[]).await;
    let footage = Footage::new().random("large", 15 << 20).random("small", 1 << 20);
    let seen = on_a_terminal(&Uploader::new(&stack).saying(footage.path(), &["--bwlimit", "8M"]), 200);
    let bar = Regex::new(r"(\d) of 2 files stored \[[^\]]*\] ([\d.]+) (B|KiB|MiB)/([\d.]+) MiB").unwrap();
    let mut told = Vec::new();
    for found in bar.captures_iter(&seen) {
        let unit = match &found[3] {
            "B" => 1.0,
            "KiB" => 1024.0,
            _ => 1_048_576.0,
        };
        told.push((found[1].parse::<u32>().unwrap(), found[2].parse::<f64>().unwrap() * unit));
        assert!(["16.00", "15.00", "1.00"].contains(&&found[4]), "{}", &found[0]);
    }
    assert!(told.len() > 3, "{seen:?}");
    for pair in told.windows(2) {
        assert!(pair[0].0 <= pair[1].0 && pair[0].1 <= pair[1].1, "{pair:?}");
    }
    assert!(told.iter().all(|(files, bytes)| *files <= 2 && *bytes <= 16.0 * 1_048_576.0), "{told:?}");
    assert!(told.last().unwrap().1 >= 16.0 * 1_048_576.0, "{told:?}");
    assert!(seen.contains("2 stored now, 0 stored before"), "{seen:?}");
    stack.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_journal_is_kept_off_what_is_uploaded() {
    let stack = Stack::prepare(Kind::Embedded, &[]).await;
    let footage = Footage::new().random("a", 10);
    let journal = footage.path().join("journal").display().to_string();
    let run = Uploader::new(&stack).upload(footage.path(), &["--journal", &journal]);
    assert_eq!(run.code, 2, "{}", run.stderr);
    assert!(!footage.path().join("journal").exists());
    // A folder that is not there is for a person to mend.
    let away = caselock(&["watch", &footage.path().join("away").display().to_string()]);
    assert_eq!(away.status.code(), Some(2), "{}", String::from_utf8_lossy(&away.stderr));
}
