//! Cases from the command line to the locks in the store, on both stacks.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    fs,
    process::Command,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::{Duration, Instant},
};

use caselock_domain::{case::CaseId, id::BureauId, object_key};
use caselock_e2e::{
    Footage, Kind, PATIENCE, Program, Run, Stack, Uploader, binary, free_port, header, kept_contract, on_a_terminal,
    on_both_stacks, postgres_database, seeded, wait_until,
};
use caselock_log::Topic;
use caselock_proto::events::v1::RetentionDrifted;
use caselock_store::{ErrorKind, Lock, oldest_version};
use caselock_store_s3::connect;
use jiff::Timestamp;
use prost::Message;
use rand::RngExt;
use serde_json::Value;

on_both_stacks!(a_case_from_the_command_line, cases_from_a_file);

const OPERATOR: &str = "operator-archivist";

/// A stack with its registry.
async fn start(kind: Kind, settings: &[(&str, &str)]) -> (Stack, Option<Program>) {
    let stack = Stack::prepare_to_lock_for_years(kind, settings).await.started();
    let registry = stack.start_registry().await;
    (stack, registry)
}

fn ids(run: &Run) -> Vec<String> {
    run.of_kind("stored").map(|event| event["recording_id"].as_str().unwrap().to_owned()).collect()
}

/// The recordings of a query, once all of them are as they must be.
fn settled(stack: &Stack, query: &[&str], count: usize) -> Vec<Value> {
    let mut found = Vec::new();
    wait_until(&format!("{count} settled recordings for {query:?}"), || {
        let run = Uploader::ask(stack, "demo", &[&["find"], query].concat());
        assert_eq!(run.code, 0, "{}", run.stderr);
        found = run.events;
        found.len() == count && found.iter().all(|one| one["settled"] == true)
    });
    found
}

async fn a_case_from_the_command_line(kind: Kind) {
    let (mut stack, registry) = start(kind, &[]).await;
    let ask = |who: &str, arguments: &[&str]| Uploader::ask(&stack, who, arguments);
    let uploader = Uploader::new(&stack);
    let footage = Footage::new().random("a", 1000).random("b", 2000);
    let named = uploader.upload(footage.path(), &["--set", "case_number=（2026）罚－１"]);
    named.expect_stored(2);
    let footage = Footage::new().random("c", 3000);
    let used = ["recorded_started_at=2026-11-21 09:00:00", "recorded_ended_at=2026-11-21 09:10:00"];
    let [started, ended] = used;
    let other = uploader.upload(
        footage.path(),
        &["--set", "officers=李四", "--set", "device_id=DSJ-2", "--set", started, "--set", ended],
    );
    other.expect_stored(1);
    let bound = ids(&other).remove(0);

    // Held before anybody opened the case, and as long as it is open.
    let number = "(2026)罚-1";
    let held = settled(&stack, &["--case-number", number], 2);
    assert!(held.iter().all(|one| one["legal_hold"] == true && one["kept_because"] == "open_case"));
    assert_eq!(settled(&stack, &["--officer", "李四"], 1)[0]["kept_because"], "floor");
    // By device, by time of use, by what reading it back found.
    for (query, count) in [
        (&["--device-id", "DSJ-2"][..], 1),
        (&["--device-id", "DSJ-1"], 2),
        (&["--used-from", "2026-11-21"], 1),
        (&["--used-before", "2026-11-21"], 2),
        (&["--used-from", "2026-11-20T09:00:00+08:00", "--used-before", "2026-11-20 09:00:01"], 2),
        (&["--verification", "intact"], 3),
        (&["--verification", "damaged"], 0),
    ] {
        settled(&stack, query, count);
    }
    ask("demo", &["case", "bind", number, &bound]).expect_refused("CASE_NOT_FOUND");
    let opened = ask("demo", &["case", "open", number, "--cause", "无证行医"]);
    assert_eq!((&opened.answer()["status"], &opened.answer()["recordings"]), (&"open".into(), &2.into()));
    // Asked once more it is answered once more; other words are refused.
    assert_eq!(ask("demo", &["case", "open", number]).answer()["entries"], 1);
    ask("demo", &["case", "open", number, "--cause", "other"]).expect_refused("CASE_CONFLICT");
    ask("demo", &["case", "bind", number, "00000000-0000-8000-8000-000000000000"])
        .expect_refused("RECORDING_NOT_FOUND");
    assert_eq!(ask("demo", &["case", "bind", number, &bound]).answer()["recordings"], 3);
    // What was answered is so: the recording is held, and found by what its case says.
    let found = ask("demo", &["find", "--recording", &bound]);
    assert_eq!((&found.answer()["legal_hold"], &found.answer()["kept_for_case"]), (&true.into(), &number.into()));
    // What comes for a case that is open is evidence in it at once.
    let later = uploader.upload(Footage::new().random("d", 4000).path(), &["--set", &format!("case_number={number}")]);
    later.expect_stored(1);
    assert_eq!(
        settled(&stack, &["--case-number", number], 4).iter().filter(|one| one["legal_hold"] == true).count(),
        4
    );
    ask("demo", &["case", "amend", number, "--party", "某诊所"]).answer();
    settled(&stack, &["--party", "某诊所", "--cause", "无证行医", "--unit", "综合监督科"], 4);
    ask("demo", &["case", "note", number, "--reason", "设备故障", "--author", "张三", "--reviewer", "王五"]).answer();

    // Another bureau knows nothing of it.
    ask("other", &["case", "show", number]).expect_refused("CASE_NOT_FOUND");
    ask("other", &["case", "show", number, "--bureau", "demo"]).expect_refused("REQUEST_INVALID");
    assert!(ask("other", &["find", "--recording", &bound]).events.is_empty());
    ask("other", &["case", "open", number]).answer();
    ask("other", &["case", "bind", number, &bound]).expect_refused("RECORDING_NOT_FOUND");

    // Decades are not locked on a bureau's word alone.
    ask("demo", &["case", "close", number, "--class", "10y"]).expect_refused("OPERATOR_NEEDED");
    let operator = |arguments: &[&str]| ask(OPERATOR, &[arguments, &["--bureau", "demo"]].concat());
    operator(&["case", "close", number, "--class", "20y"]).expect_refused("REQUEST_INVALID");
    operator(&["case", "close", number, "--class", "10y", "--on", "2999-01-01"]).expect_refused("REQUEST_INVALID");
    let closed = operator(&["case", "close", number, "--class", "10y", "--on", "2026-03-31"]);
    assert_eq!(closed.answer()["kept_until"], "2036-03-31T16:00:00Z");
    operator(&["case", "close", number, "--class", "30y"]).expect_refused("CASE_CLOSED");
    // And what comes after it was closed is kept as long as the rest.
    let last = uploader.upload(Footage::new().random("e", 5000).path(), &["--set", &format!("case_number={number}")]);
    last.expect_stored(1);
    for one in settled(&stack, &["--case-number", number], 5) {
        assert_eq!(one["locked_until"], "2036-03-31T16:00:00Z");
        assert_eq!((&one["legal_hold"], &one["kept_because"]), (&false.into(), &"closed_case".into()));
    }
    ask("demo", &["case", "reopen", number, "--reason", "申诉"]).answer();
    let held = ask("demo", &["find", "--case-number", number]).events;
    assert!(held.len() == 5 && held.iter().all(|one| one["legal_hold"] == true), "{held:?}");
    ask("demo", &["case", "reopen", number, "--reason", "other"]).expect_refused("CASE_NOT_CLOSED");
    let shown = operator(&["case", "show", number]);
    let kinds: Vec<_> =
        shown.answer()["record"].as_array().unwrap().iter().map(|entry| &entry["change"]["kind"]).collect();
    assert_eq!(kinds, ["opened", "bound", "amended", "noted", "closed", "reopened"]);
    assert!(shown.answer()["record"][4]["by"].as_str().unwrap().ends_with("/operator/archivist"));
    // For people it is a table, in their language and by their clocks.
    for (lang, lines) in [
        (
            "en",
            [
                "cause: 无证行医",
                "class: 10 years",
                "until: 2036-04-01 00:00:00+08:00",
                "period: 10y from the closing day",
            ],
        ),
        (
            "zh",
            ["案由：无证行医", "结案类别：10 年", "保存至：2036-04-01 00:00:00+08:00", "保管期限：10 年，自结案之日起"],
        ),
    ] {
        let table = on_a_terminal(&Uploader::asking(&stack, "demo", &["case", "show", number, "--lang", lang]), 250);
        for line in lines {
            assert!(table.contains(line), "{line} in {table}");
        }
        assert!(!table.contains('{') && !table.contains("16:00:00Z"), "{table}");
    }

    // The store says the same.
    if let Some(registry) = registry {
        for counted in ["subjects_compared", "objects_tightened", "holds_lifted", "events_published"] {
            assert!(registry.metric(&format!("caselock_registry_{counted}")) > 0, "{counted}");
        }
        assert_eq!(registry.stop(), Some(0));
    }
    stack.stop();
    let store = stack.store().await;
    for id in [&named, &other, &later, &last].into_iter().flat_map(ids) {
        for key in store.keys(&format!("v1/demo/recordings/{id}/0/"), None).await.unwrap().keys {
            let version = oldest_version(&*store, &key).await.unwrap().unwrap().id;
            let lock = store.lock(&key, &version).await.unwrap();
            assert_eq!(lock, Lock { until: Some("2036-03-31T16:00:00Z".parse().unwrap()), hold: true }, "{key}");
        }
    }
}

async fn cases_from_a_file(kind: Kind) {
    let (stack, _registry) = start(kind, &[]).await;
    let text = "案号,当事人,案由,结案类别,结案日期\n（2026）1,甲诊所,无证行医,,\n2026-2,,,30y,2026/02/28\n\
                2026-3,,,100y,2026-02-28\n";
    let path = stack.dir.path().join("cases.csv");
    fs::write(&path, encoding_rs::GBK.encode(text).0).unwrap();
    let import = || Uploader::ask(&stack, OPERATOR, &["case", "import", path.to_str().unwrap(), "--bureau", "demo"]);
    for _ in 0..2 {
        let run = import();
        assert_eq!(run.code, 3, "{}", run.stderr);
        let results: Vec<_> = run.events.iter().map(|row| (row["line"].as_u64().unwrap(), &row["result"])).collect();
        assert_eq!(results, [(2, &"done".into()), (3, &"done".into()), (4, &"refused".into())]);
        assert!(run.events[2]["error"].as_str().unwrap().contains("REQUEST_INVALID"));
    }
    // What is better known in the other system by now is added.
    fs::write(&path, "\u{feff}number,party\n(2026)1,乙诊所\n").unwrap();
    assert_eq!(import().code, 0);
    let cases = Uploader::ask(&stack, "demo", &["case", "list"]).events;
    let told: Vec<_> =
        cases.iter().map(|case| (case["number"].as_str().unwrap(), &case["party"], &case["status"])).collect();
    let party = Value::from("乙诊所");
    assert_eq!(
        told,
        [
            ("(2026)1", &party, &"open".into()),
            ("2026-2", &Value::Null, &"closed".into()),
            ("2026-3", &Value::Null, &"open".into()),
        ]
    );
    assert_eq!(cases[0]["entries"], 2);
    let closed = Uploader::ask(&stack, "demo", &["case", "list", "--status", "closed"]);
    assert_eq!(closed.answer()["kept_until"], "2056-02-28T16:00:00Z");
    // A table that is older than the reopening of a case does not close it again.
    Uploader::ask(&stack, "demo", &["case", "reopen", "2026-2", "--reason", "申诉"]).answer();
    for closed_on in ["2026-02-28", "20260228", ""] {
        fs::write(&path, format!("number,party,class,closed_on\n2026-2,丙,30y,{closed_on}\n")).unwrap();
        let old = import();
        assert_eq!(old.code, 3, "{}", old.stderr);
        assert!(old.events[0]["error"].as_str().unwrap().contains("CASE_REOPENED"), "{:?}", old.events);
    }
    let shown = Uploader::ask(&stack, "demo", &["case", "show", "2026-2"]);
    assert_eq!((&shown.answer()["status"], &shown.answer()["party"]), (&"open".into(), &Value::Null));
}

/// Sets it when it is dropped.
struct Set<'a>(&'a AtomicBool);

impl Drop for Set<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// kill -9 at any moment, while a case is opened, bound, amended, closed and reopened: every command takes effect once, is told
/// once, and in the end every lock is as the rule says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whenever_the_registry_is_killed_every_command_takes_effect_once() {
    let stack = Stack::start(Kind::Distributed, &[]).await;
    let database = postgres_database().await;
    let spawn = || stack.spawn("registry", free_port(), &[("registry.database", database.clone())]);
    let mut footage = Footage::new();
    for number in 0..20 {
        footage = footage.random(&format!("IMG_{number:04}.jpg"), 500 + number);
    }
    let run = Uploader::new(&stack).upload(footage.path(), &["--set", "case_number=2026-1"]);
    run.expect_stored(20);
    let bound = ids(&run).remove(0);
    let mut random = seeded();
    let (done, kills) = (AtomicBool::new(false), AtomicU32::new(0));
    // A command that was carried out and whose answer was lost is answered as one that is not needed any more.
    let until_done = |arguments: &[&str], or: &str| {
        wait_until(&format!("{arguments:?}"), || {
            let run = Uploader::ask(&stack, OPERATOR, &[&["case"], arguments, &["--bureau", "demo"]].concat());
            assert!(run.code != 3 || run.stderr.contains(or), "{arguments:?}: {}", run.stderr);
            // Carried out, too, but nobody may rely on it yet: an order of the one that was killed may still be on its way.
            run.code == 0 || run.code == 3 || run.stderr.contains("LOCK_UNSETTLED")
        });
    };
    let mut expected = vec!["opened", "bound", "amended"];
    std::thread::scope(|scope| {
        // Whatever happens, the killing ends.
        let _end = Set(&done);
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                let registry = spawn();
                std::thread::sleep(Duration::from_millis(random.random_range(100..3000)));
                registry.kill();
                kills.fetch_add(1, Ordering::SeqCst);
            }
        });
        until_done(&["open", "2026-2", "--cause", "无证行医"], "none");
        until_done(&["bind", "2026-2", &bound], "none");
        until_done(&["amend", "2026-2", "--party", "某诊所"], "none");
        until_done(&["open", "2026-1"], "none");
        while kills.load(Ordering::SeqCst) < 12 {
            until_done(&["close", "2026-1", "--class", "10y", "--on", "2026-03-31"], "none");
            until_done(&["close", "2026-2", "--class", "30y", "--on", "2026-03-31"], "none");
            until_done(&["reopen", "2026-2", "--reason", "申诉"], "CASE_NOT_CLOSED");
            until_done(&["reopen", "2026-1", "--reason", "申诉"], "CASE_NOT_CLOSED");
            expected.extend(["closed", "reopened"]);
        }
        until_done(&["close", "2026-2", "--class", "30y", "--on", "2026-03-31"], "none");
        until_done(&["close", "2026-1", "--class", "10y", "--on", "2026-03-31"], "none");
        expected.push("closed");
    });
    let registry = spawn().ready();
    for one in settled(&stack, &["--case-number", "2026-1"], 20) {
        let until = if one["recording_id"] == bound { "2056-03-31T16:00:00Z" } else { "2036-03-31T16:00:00Z" };
        assert_eq!((&one["locked_until"], &one["legal_hold"]), (&until.into(), &false.into()), "{one}");
    }
    let shown = Uploader::ask(&stack, "demo", &["case", "show", "2026-2"]);
    let record = shown.answer()["record"].as_array().unwrap();
    assert_eq!(record.iter().map(|entry| &entry["change"]["kind"]).collect::<Vec<_>>(), expected);
    assert_eq!(registry.stop(), Some(0));
    let audit = Command::new(binary("caselock-registry"))
        .args(stack.flags(&["s3", "registry"]))
        .args(["--set", &format!("registry.database={database}"), "audit"])
        .output()
        .unwrap();
    assert_eq!(audit.status.code(), Some(0), "{}", String::from_utf8_lossy(&audit.stdout));
    // Of the registry's events every id has one content, every place in the order one id, and every entry one event.
    let (mut contents, mut places) = (BTreeMap::new(), BTreeMap::new());
    for entry in stack.records(Topic::Events).await {
        let [id, kind, subject, sequence] =
            ["ce_id", "ce_type", "ce_subject", "ce_sequence"].map(|name| header(&entry.record, name));
        if kind.starts_with("io.caselock.recording.") {
            continue;
        }
        assert_eq!(places.entry((subject, sequence)).or_insert(id.clone()), &id, "{kind}");
        let content = (kind.clone(), entry.record.payload.clone());
        assert_eq!(contents.entry(id).or_insert(content.clone()), &content, "{kind}");
    }
    let of_cases = contents.values().filter(|(kind, _)| kind.starts_with("io.caselock.case."));
    // The other case has as many entries, but nothing was bound to it, and nothing amended.
    assert_eq!(of_cases.count(), 2 * expected.len() - 2, "{expected:?}");
}

/// On the real S3 server, with periods short enough to be seen running out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_life_until_the_lock_runs_out() {
    let short = [
        ("archiver.retention.unlawful_period_for_tests", "PT10S"),
        ("registry.unlawful_periods_for_tests", "true"),
        ("registry.roll_when_under", "PT8S"),
        ("registry.roll_to", "PT16S"),
        ("registry.classes.10y", "PT20S"),
        ("registry.classes.30y", "PT30S"),
        ("registry.bureaus_close_cases", "true"),
    ];
    let (stack, _registry) = start(Kind::Distributed, &short).await;
    let picture = ["-f", "lavfi", "-i", "testsrc2=size=640x480:duration=1", "-frames:v", "1"];
    let footage = Footage::new().ffmpeg("a.jpg", &picture);
    let run = Uploader::new(&stack).upload(footage.path(), &["--set", "case_number=1"]);
    run.expect_stored(1);
    stack.wait_derived(&run).await;
    let (store, raw) = (stack.store().await, connect(&stack.s3).await);
    let prefix = format!("v1/demo/recordings/{}/0/", ids(&run)[0]);
    let mut objects = Vec::new();
    for key in store.keys(&prefix, None).await.unwrap().keys {
        let version = oldest_version(&*store, &key).await.unwrap().unwrap().id;
        objects.push((key, version));
    }
    // The original, the manifest, what media said of it, and its preview.
    assert_eq!(objects.len(), 5, "{objects:?}");
    let case = |arguments: &[&str]| Uploader::ask(&stack, "demo", &[&["case"], arguments, &["1"]].concat());
    let locks = async || {
        let mut locks = Vec::new();
        for (key, version) in &objects {
            locks.push(store.lock(key, version).await.unwrap());
        }
        locks
    };
    let are_held = |locks: &[Lock]| locks.iter().all(|lock| lock.hold);
    let are_free = |locks: &[Lock]| locks.iter().all(|lock| !lock.hold);
    let least = |locks: &[Lock]| locks.iter().map(|lock| lock.until).min().flatten().unwrap();
    // A plain delete puts a marker before the object, the others are refused; the keeper takes the marker away again.
    let resists = async |what: &str| {
        for (key, version) in &objects {
            raw.delete_object().bucket(&stack.s3.bucket).key(stack.in_bucket(key)).send().await.unwrap();
            for bypass in [false, true] {
                let refused = store.delete_version(key, version, bypass).await.unwrap_err();
                assert_eq!(refused.kind, ErrorKind::Locked, "{what}: {key}");
            }
            assert_eq!(oldest_version(&*store, key).await.unwrap().unwrap().id, *version, "{what}: {key}");
        }
        locks().await
    };
    let until = async |what: &str, holds: &dyn Fn(&[Lock]) -> bool| {
        let give_up = Instant::now() + PATIENCE;
        while Instant::now() < give_up {
            let locks = locks().await;
            if holds(&locks) {
                return least(&locks);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("waited for: {what}");
    };

    let floor = resists("stored").await;
    assert!(are_held(&floor));
    case(&["open"]).answer();
    // Long open: rolled forward again and again, so that the floor has passed and the lock has not.
    until("rolled forward", &|_| Timestamp::now() > least(&floor)).await;
    let rolled = resists("open").await;
    assert!(are_held(&rolled) && least(&rolled) > least(&floor), "{rolled:?}");

    // Somebody lifts holds behind its back, of the original and of the case's record: they are set again.
    let demo: BureauId = "demo".parse().unwrap();
    let record = object_key::case(&demo, CaseId::derive(&demo, &"1".to_owned().try_into().unwrap()));
    let lifted = [format!("{prefix}original"), store.keys(&record, None).await.unwrap().keys.remove(0)];
    for key in &lifted {
        let version = oldest_version(&*store, key).await.unwrap().unwrap().id;
        store.set_hold(key, &version, false).await.unwrap();
        let held = async {
            while !store.lock(key, &version).await.unwrap().hold {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, held).await.expect(key);
    }

    let closing = Timestamp::now();
    case(&["close", "--class", "10y"]).answer();
    let end = until("the holds off", &are_free).await;
    assert!(end.duration_since(closing).as_secs() >= 19, "{end}");
    resists("closed").await;
    case(&["reopen", "--reason", "申诉"]).answer();
    assert!(are_held(&resists("reopened").await));
    until("the first date has passed", &|_| Timestamp::now() > end).await;
    assert!(are_held(&resists("reopened for long").await));

    let closing = Timestamp::now();
    case(&["close", "--class", "30y"]).answer();
    let end = until("the holds off again", &are_free).await;
    assert!(end.duration_since(closing).as_secs() >= 29, "{end}");
    resists("closed again").await;
    // Nothing is deleted by itself: it is listed, with why, and an operator hands the list back.
    until("it has run out", &|locks| locks.iter().all(|lock| lock.until < Some(Timestamp::now()))).await;
    let list = || Uploader::asking(&stack, OPERATOR, &["dispose", "list", "--bureau", "demo"]).output().unwrap().stdout;
    wait_until("the list", || String::from_utf8(list()).unwrap().lines().count() == 2);
    let csv = stack.dir.path().join("list.csv").display().to_string();
    fs::write(&csv, list()).unwrap();
    let listed = fs::read_to_string(&csv).unwrap();
    assert!(listed.contains(&ids(&run)[0]) && listed.trim_end().ends_with(",closed_case,1"), "{listed}");
    let dispose = || {
        let arguments = ["dispose", "run", "--from", &csv, "--bureau", "demo", "--reason", "期满"];
        let done = Uploader::ask(&stack, OPERATOR, &arguments);
        assert_eq!((done.code, &done.events[0]["refused"]), (0, &Value::Null), "{:?} {}", done.events, done.stderr);
        done.events[0]["record_key"].as_str().unwrap().to_owned()
    };
    let record = dispose();
    for (key, _) in &objects {
        assert_eq!(store.versions(key).await.unwrap(), [], "{key}");
    }
    // What is left is the record, held; a second order finds it, and removes nothing more.
    assert_eq!(dispose(), record);
    let version = oldest_version(&*store, &record).await.unwrap().unwrap().id;
    assert!(store.lock(&record, &version).await.unwrap().hold);
    assert!(Uploader::ask(&stack, "demo", &["find"]).events.is_empty());
    let kept = kept_contract(&*stack.log().await, &[]).await;
    assert_eq!(kept.told("recording.disposed"), 1, "{kept:?}");
    let told = stack.records(Topic::Events).await.into_iter().map(|entry| entry.record);
    let drifts = told.filter(|record| header(record, "ce_type") == "io.caselock.retention.drifted.v1");
    let drifts: Vec<_> = drifts.map(|record| RetentionDrifted::decode(record.payload.unwrap()).unwrap()).collect();
    for lifted in &lifted {
        let is_told = |drift: &RetentionDrifted| drift.object_key == *lifted && !drift.found_legal_hold;
        assert!(drifts.iter().any(is_told), "{lifted}: {drifts:?}");
    }
    // Who still has the file, and uploads it once more, has it stored anew.
    let again = Uploader::new(&stack).upload(footage.path(), &["--set", "case_number=1"]);
    again.expect_stored(1);
    assert_eq!(ids(&again), ids(&run));
}
