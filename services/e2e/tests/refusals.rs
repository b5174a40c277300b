//! Services that refuse to start on a log or store that can't keep the promises, and commands that were called wrongly.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use caselock_e2e::{Footage, Kind, Program, Stack, Uploader, binary, free_port, wait_until};
use caselock_log::Topic;
use caselock_store_s3::{S3Config, S3Store};

/// A program ends by itself, not with 0, and says why.
fn expect_refusal(mut program: Program, why: &[&str]) {
    wait_until("its end", || program.ended().is_some());
    assert_ne!(program.ended(), Some(0));
    let log = program.log();
    assert!(why.iter().all(|text| log.contains(text)), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_forgets_footage_is_refused() {
    let stack = Stack::prepare_topics(&[(Topic::Footage, "retention.ms", "604800000")]).await;
    for service in ["gateway", "archiver"] {
        let program = stack.spawn(service, free_port(), &[]);
        expect_refusal(program, &["caselock.footage.v1", "retention.ms is 604800000, and must be -1"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_without_object_lock_is_refused() {
    let stack = Stack::prepare(Kind::Distributed, &[]).await;
    let bucket = format!("e2e-{}", uuid::Uuid::new_v4());
    let config = S3Config { bucket: bucket.clone(), ..stack.s3.clone() };
    S3Store::open(&config).await.create_bucket_without_lock().await.unwrap();
    let program = stack.spawn("archiver", free_port(), &[("s3.bucket", bucket)]);
    expect_refusal(program, &["the store fails the check object-lock"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_settings_are_named_before_anything_starts() {
    let stack = Stack::prepare(Kind::Embedded, &[]).await;
    for (setting, why) in [
        ("archiver.retention.period=P5M", "archiver.retention.period is P5M"),
        ("gateway.bureau_share_percent=0", "gateway.bureau_share_percent: expected 1 to 100"),
        ("gateway.listten=x", "did you mean gateway.listen?"),
        ("telemetry.filter=info,[", "telemetry.filter"),
        ("telemetry.otlp_endpoint=collector:4317", "telemetry.otlp_endpoint: expected http://HOST:PORT or https://"),
        (
            "telemetry.otlp_endpoint=https://a:b@collector:4317",
            "telemetry.otlp_endpoint: expected an address without a user",
        ),
        ("telemetry.otlp_ca=ca.pem", "telemetry.otlp_ca: expected an https:// telemetry.otlp_endpoint"),
    ] {
        let (key, value) = setting.split_once('=').unwrap();
        expect_refusal(stack.spawn("standalone", free_port(), &[(key, value.into())]), &[why]);
    }
    let archiver = binary("caselock-archiver");
    let check =
        Command::new(archiver).args(["--check-config", "--set", "archiver.retention.period=P5M"]).output().unwrap();
    assert!(!check.status.success());
    // A check does nothing: not even what is asked beside it.
    let audit = Command::new(binary("caselock-registry")).args(["--check-config", "audit"]).output().unwrap();
    assert!(!audit.status.success() && String::from_utf8_lossy(&audit.stderr).contains("without a command"));
    let security = ["--check-config", "--set", "kafka.properties.security_protocol=nonsense"];
    let check = Command::new(binary("caselock-media")).args(security).output().unwrap();
    assert!(String::from_utf8_lossy(&check.stderr).contains("kafka.properties"), "{check:?}");
    let check = Command::new(binary("caselock-media"))
        .arg("--check-config")
        .env("CASELOCK__KAFKA__PROPERTIES__ENABLE_SSL_CERTIFICATE_VERIFICATION", "true")
        .output()
        .unwrap();
    assert!(check.status.success(), "{check:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_usage_has_an_exit_code_of_its_own() {
    let stack = Stack::prepare(Kind::Embedded, &[]).await;
    let footage = Footage::new().random("a", 10).with("wrong.csv", b"file,colour\na,red\n");
    let manifest = footage.path().join("wrong.csv").display().to_string();
    let uploader = Uploader::new(&stack);
    for wrong in [
        &["--set", "colour=red"][..],
        &["--manifest", &manifest],
        &["--template", "("],
        &["--receipt-keys", "/nowhere"],
        &["--bwlimit", "fast"],
        &["--unheard-of"],
    ] {
        let run = uploader.upload(footage.path(), wrong);
        assert_eq!(run.code, 2, "{wrong:?}: {}", run.stderr);
    }
    assert_eq!(uploader.upload(&footage.path().join("nothing"), &[]).code, 2);
}

/// An operator's command makes the topics that are missing, says of each whether it is as it must be, and checks a bucket.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_makes_and_checks_what_services_stand_on() {
    let stack = Stack::prepare(Kind::Distributed, &[]).await;
    let run = |more: &[&str]| {
        let mut command = Command::new(binary("caselock-admin"));
        command.args(stack.flags(&["kafka", "s3"])).args(more).output().unwrap()
    };
    let replicas = if stack.kafka.single_node { "1" } else { "3" };
    let new = format!("kafka.topic_prefix=admin-{}.", uuid::Uuid::new_v4());
    for _ in 0..2 {
        let made = run(&["--set", &new, "topics", "make", "--replicas", replicas]);
        let said = String::from_utf8(made.stdout).unwrap();
        assert!(made.status.success() && said.matches(": as it must be").count() == 5, "{said} {:?}", made.stderr);
    }
    let wrong = run(&["--set", "kafka.partitions=3", "topics", "check", "--replicas", replicas]);
    assert!(!wrong.status.success() && String::from_utf8_lossy(&wrong.stderr).contains("partitions"), "{wrong:?}");
    if stack.kafka.single_node {
        let alone = run(&["topics", "make", "--replicas", "3"]);
        assert!(String::from_utf8_lossy(&alone.stderr).contains("one node has one replica"), "{alone:?}");
    }
    assert!(run(&["check-bucket"]).status.success());
    let nowhere = run(&["--set", "s3.bucket=nowhere-at-all", "check-bucket"]);
    assert!(
        !nowhere.status.success() && String::from_utf8_lossy(&nowhere.stderr).contains("can't be checked"),
        "{nowhere:?}"
    );
}

/// It uploads a small recording and reads its lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_tries_an_installation() {
    let mut stack = Stack::start(Kind::Distributed, &[]).await;
    let ca = stack.dir.path().join("ca");
    let file = |name: &str| ca.join(name).display().to_string();
    let tried = Command::new(binary("caselock-admin"))
        .args(stack.flags(&["kafka", "s3"]))
        .args(["smoke", "--server", &stack.server, "--ca", &file("ca.pem"), "--certificate", &file("demo.pem")])
        .args(["--key", &file("demo.key"), "--receipt-key", &file("receipt-key.pub.pem")])
        .output()
        .unwrap();
    let said = String::from_utf8(tried.stdout).unwrap();
    assert!(tried.status.success() && said.contains("stored and receipted") && said.contains("locked until"), "{said}");
    stack.stop();
}
