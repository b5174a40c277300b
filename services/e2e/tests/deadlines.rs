//! Deadlines from the command line, on both stacks: what is announced, stored, late and never comes.
#![allow(clippy::unwrap_used)]

use std::{collections::HashSet, time::Instant};

use caselock_client::Connect;
use caselock_domain::{calendar::Calendar, time::Timestamp};
use caselock_e2e::{
    Footage, Kind, PATIENCE, Program, Run, Stack, Uploader, free_port, header, kept_contract, on_a_terminal,
    on_both_stacks, postgres_database, root, wait_until,
};
use caselock_log::Topic;
use caselock_proto::v1::{
    DeadlineStanding, FindRecordingsRequest, Flag, ListDeadlinesRequest, registry_service_client::RegistryServiceClient,
};
use serde_json::Value;
use tonic::transport::Channel;
use tonic_types::StatusExt;

on_both_stacks!(the_regulations_vectors_from_the_command_line, what_is_on_a_device_is_known_before_it_comes);

const OPERATOR: &str = "operator-archivist";

async fn start(kind: Kind) -> (Stack, Option<Program>, Option<String>) {
    let stack = Stack::start(kind, &[]).await;
    if kind == Kind::Embedded {
        return (stack, None, None);
    }
    let database = postgres_database().await;
    let registry = stack.spawn("registry", free_port(), &[("registry.database", database.clone())]).ready();
    (stack, Some(registry), Some(database))
}

fn ask(stack: &Stack, who: &str, arguments: &[&str]) -> Run {
    Uploader::ask(stack, who, arguments)
}

/// The deadlines of a list, once there are so many.
fn deadlines(stack: &Stack, more: &[&str], count: usize) -> Vec<Value> {
    let mut found = Vec::new();
    wait_until(&format!("{count} deadlines of {more:?}"), || {
        let run = ask(stack, "demo", &[&["deadlines", "list"], more].concat());
        assert_eq!(run.code, 0, "{}", run.stderr);
        found = run.events;
        found.len() == count
    });
    found
}

/// A client of the API alone.
fn registry_client(stack: &Stack) -> RegistryServiceClient<Channel> {
    let connect = Connect { servers: vec![stack.registry.clone()], tls: Some(stack.tls("demo")) };
    caselock_client::registry(&connect).unwrap().unwrap()
}

async fn the_regulations_vectors_from_the_command_line(kind: Kind) {
    let (mut stack, program, database) = start(kind).await;
    let uploader = Uploader::new(&stack);
    let vectors = [
        ("2026-02-13", "2026-02-24"),
        ("2026-02-12", "2026-02-14"),
        ("2026-09-30", "2026-10-09"),
        ("2026-10-09", "2026-10-12"),
        ("2025-12-31", "2026-01-05"),
    ];
    for (ends, _) in vectors {
        let footage = Footage::new().random(ends, 1000);
        let ended = format!("scene_ended_at={ends} 17:00:00");
        uploader.upload(footage.path(), &["--set", &ended]).expect_stored(1);
    }
    // All of them were stored long after: late, and flagged so.
    let late = deadlines(&stack, &["--standing", "late"], 5);
    for (ends, due) in vectors {
        let one = late.iter().find(|one| one["original_name"] == ends).unwrap();
        assert_eq!(one["due"], format!("{due}T16:00:00Z"), "{ends}");
        assert_eq!((&one["provisional"], &one["bureau"]), (&false.into(), &"demo".into()));
    }
    // The earliest first.
    let order: Vec<_> = late.iter().map(|one| one["due"].as_str().unwrap()).collect();
    assert!(order.is_sorted(), "{order:?}");
    wait_until("the flags", || ask(&stack, "demo", &["find", "--flag", "late"]).events.len() == 5);
    // For people it is a table in their language, by their clocks; for machines CSV, whatever the language is.
    let shown = |lang| on_a_terminal(&Uploader::asking(&stack, "demo", &["deadlines", "list", "--lang", lang]), 250);
    let (english, chinese) = (shown("en"), shown("zh"));
    for (table, words) in [(&english, ["deadline", "late", " no "]), (&chinese, ["时限", "逾期入库", " 否 "])] {
        for word in words.into_iter().chain(["2026-02-25 00:00:00+08:00", "2026-10-09"]) {
            assert!(table.contains(word), "{word} in {table}");
        }
    }
    let csv = Uploader::asking(&stack, "demo", &["deadlines", "list", "--lang", "zh"]).output().unwrap().stdout;
    let csv = String::from_utf8(csv).unwrap();
    assert!(csv.starts_with("bureau,recording_id,") && csv.contains(",2026-02-24T16:00:00Z,false,"), "{csv}");
    assert!(csv.lines().skip(1).all(|line| line.ends_with(",late,")) && csv.lines().count() == 6, "{csv}");
    // The same over the API, page by page.
    let (mut paged, mut found) = (Vec::new(), HashSet::new());
    let mut registry = registry_client(&stack);
    let mut asked = ListDeadlinesRequest { page_size: 2, ..Default::default() };
    loop {
        let page = registry.list_deadlines(asked.clone()).await.unwrap().into_inner();
        assert!(page.deadlines.len() <= 2);
        paged.extend(page.deadlines.into_iter().map(|one| (one.original_name, one.due.unwrap().seconds)));
        asked.page_token = page.next_page_token;
        if asked.page_token.is_empty() {
            break;
        }
    }
    let mut expected = vectors
        .map(|(ends, due)| (ends.to_owned(), format!("{due}T16:00:00Z").parse::<Timestamp>().unwrap().as_second()));
    expected.sort_by_key(|(_, due)| *due);
    assert_eq!(paged, expected);
    let mut asked = FindRecordingsRequest { page_size: 2, ..Default::default() };
    for count in [2, 2, 1] {
        let page = registry.find_recordings(asked.clone()).await.unwrap().into_inner();
        assert_eq!(page.recordings.len(), count);
        found.extend(page.recordings.into_iter().map(|one| one.recording_id));
        asked.page_token = page.next_page_token;
    }
    assert!(found.len() == 5 && asked.page_token.is_empty(), "{found:?}");
    // What can't be so is refused by its field.
    let wrong = [
        (FindRecordingsRequest { flag: Flag::FootageMissing as i32, ..Default::default() }, "flag"),
        (FindRecordingsRequest { deadline: DeadlineStanding::Overdue as i32, ..Default::default() }, "deadline"),
        (FindRecordingsRequest { page_size: 1001, ..Default::default() }, "page_size"),
        (FindRecordingsRequest { page_token: "x".into(), ..Default::default() }, "page_token"),
    ];
    for (asked, field) in wrong {
        let details = registry.find_recordings(asked).await.unwrap_err().get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "REQUEST_INVALID");
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, field);
    }
    // Extended after the fact, with who approved it: within the extension it is no longer late.
    let id = late[0]["recording_id"].as_str().unwrap();
    let extend = |who: &str, more: &[&str]| ask(&stack, who, &[&["deadlines", "extend", id], more].concat());
    let by = ["--approver", "王局长", "--reason", "洪水"];
    let tomorrow = Timestamp::now() + std::time::Duration::from_secs(86_400);
    let until = tomorrow.to_string();
    let extended = extend("demo", &[&["--until", &until][..], &by].concat());
    assert_eq!((&extended.answer()["standing"], &extended.answer()["extensions"]), (&"extended".into(), &1.into()));
    assert_eq!(extend("demo", &[&["--until", &until][..], &by].concat()).answer()["extensions"], 1);
    // Who approved it, and why, is there for whoever asks.
    let asked = ask(&stack, "demo", &["deadlines", "list", "--recording", id]);
    let granted = &asked.answer()["granted"][0];
    assert_eq!((&granted["approver"], &granted["reason"]), (&"王局长".into(), &"洪水".into()));
    assert!(granted["by"].as_str().unwrap().ends_with("/bureau/demo") && granted["at"].is_string(), "{granted}");
    assert_eq!(ask(&stack, "demo", &["find", "--flag", "late"]).events.len(), 4);
    assert_eq!(ask(&stack, "demo", &["find", "--deadline", "extended"]).answer()["recording_id"], id);
    // What is wrong is refused by its field, and another bureau's is not there.
    extend("demo", &[&["--until", "2025-01-01"][..], &by].concat()).expect_refused("REQUEST_INVALID");
    extend("demo", &[&["--until", "2099-01-01"][..], &by].concat()).expect_refused("REQUEST_INVALID");
    extend("other", &[&["--until", &until][..], &by].concat()).expect_refused("RECORDING_NOT_FOUND");
    assert!(ask(&stack, "other", &["deadlines", "list"]).events.is_empty());
    assert_eq!(ask(&stack, OPERATOR, &["deadlines", "list", "--bureau", "demo"]).events.len(), 5);
    // What must be kept is not disposed of, by nobody; and a bureau is not asked at all.
    ask(&stack, "demo", &["dispose", "list"]).expect_refused("OPERATOR_NEEDED");
    assert!(ask(&stack, OPERATOR, &["dispose", "list", "--bureau", "demo"]).events.is_empty());
    let refused = ask(&stack, OPERATOR, &["dispose", "run", id, "--bureau", "demo", "--reason", "x"]);
    assert_eq!((refused.code, &refused.events[0]["refused"]), (3, &"RETAINED".into()), "{}", refused.stderr);
    assert!(refused.events[0]["detail"].as_str().unwrap().contains("by floor"), "{:?}", refused.events);
    // A newer calendar, in a file, without a day that had to be made up.
    if let Some((program, database)) = program.zip(database) {
        program.stop();
        let packaged = std::fs::read_to_string(root().join("services/libs/domain/data/calendar.json")).unwrap();
        let mut calendar: Value = serde_json::from_str(&packaged).unwrap();
        calendar["version"] = "newer".into();
        calendar["years"]["2026"]["working"].as_array_mut().unwrap().retain(|day| day != "2026-02-14");
        let file = stack.dir.path().join("calendar.json").display().to_string();
        std::fs::write(&file, calendar.to_string()).unwrap();
        let settings = [("registry.database", database), ("registry.calendar", file)];
        let program = stack.spawn("registry", free_port(), &settings).ready();
        wait_until("the deadline by the newer calendar", || {
            let all = ask(&stack, "demo", &["deadlines", "list"]).events;
            let one = all.iter().find(|one| one["original_name"] == "2026-02-12").unwrap();
            one["due"] == "2026-02-24T16:00:00Z"
        });
        program.stop();
    }
    stack.stop();
}

/// By the real program, restarted: what is announced is near, or missed, and each is told once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_never_comes_is_told_once_however_often_the_registry_begins_anew() {
    let mut stack = Stack::start(Kind::Distributed, &[]).await;
    let settings = [("registry.database", postgres_database().await), ("registry.near", "PT480H".to_owned())];
    let start = |stack: &Stack| stack.spawn("registry", free_port(), &settings).ready();
    let registry = start(&stack);
    let uploader = Uploader::new(&stack);
    // One whose deadline passed long ago, and one whose deadline is to come; neither is there in time.
    let ended = Timestamp::now().to_string();
    for (name, ended) in [("long ago", "2026-02-13 17:00:00"), ("just now", ended.as_str())] {
        let footage = Footage::new().random(name, 3 << 20);
        let ended = format!("scene_ended_at={ended}");
        let known = ask(&stack, "demo", &["deadlines", "list"]).events.len();
        let mut child = uploader.start(footage.path(), &["--set", &ended, "--bwlimit", "20k"]);
        wait_until("the announcement", || ask(&stack, "demo", &["deadlines", "list"]).events.len() > known);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let told = async |stack: &Stack, what: &str| {
        let kind = format!("io.caselock.deadline.{what}.v1");
        let events = stack.records(Topic::Events).await.into_iter().map(|entry| entry.record);
        events.filter(|record| header(record, "ce_type") == kind).collect::<Vec<_>>()
    };
    let both_told = async |stack: &Stack| {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let all = (told(stack, "near").await, told(stack, "missed").await);
            if !all.0.is_empty() && !all.1.is_empty() {
                return all;
            }
            assert!(Instant::now() < give_up, "{all:?}");
        }
    };
    let first = both_told(&stack).await;
    assert_eq!((first.0.len(), first.1.len()), (1, 1), "{first:?}");
    assert_ne!(header(&first.0[0], "ce_subject"), header(&first.1[0], "ce_subject"));
    registry.kill();
    for _ in 0..3 {
        start(&stack).kill();
    }
    let registry = start(&stack);
    // What is done after the restarts is told after what they might have told again.
    ask(&stack, "demo", &["case", "open", "after"]).answer();
    wait_until("the event of a case", || registry.metric("caselock_registry_events_published") > 0);
    let again = both_told(&stack).await;
    assert_eq!(again, first);
    let kept = kept_contract(&*stack.log().await, &[]).await;
    assert_eq!((kept.told("deadline.near"), kept.told("deadline.missed")), (1, 1), "{kept:?}");
    drop(registry);
    stack.stop();
}

async fn what_is_on_a_device_is_known_before_it_comes(kind: Kind) {
    let (mut stack, registry, _) = start(kind).await;
    let uploader = Uploader::new(&stack);
    let footage = Footage::new().random("first", 3 << 20).random("second", 2 << 20);
    let ended = "scene_ended_at=2031-03-03 10:00:00";
    // So slow that nothing is there in time; then the device is pulled out.
    let mut child = uploader.start(footage.path(), &["--set", ended, "--bwlimit", "20k"]);
    let awaited = deadlines(&stack, &["--standing", "awaited"], 2);
    child.kill().unwrap();
    child.wait().unwrap();
    let due = Calendar::packaged().unwrap().due("2031-03-03T10:00:00+08:00".parse().unwrap(), 2).unwrap();
    for one in &awaited {
        assert_eq!((&one["due"], &one["provisional"]), (&due.at.to_string().into(), &true.into()));
        assert_eq!(one["stored_at"], Value::Null);
    }
    // It comes after all.
    uploader.upload(footage.path(), &["--set", ended]).expect_stored(2);
    let stored = deadlines(&stack, &["--standing", "on_time"], 2);
    assert_eq!(stored[0]["recording_id"], awaited[0]["recording_id"]);
    assert!(ask(&stack, "demo", &["deadlines", "list", "--standing", "awaited"]).events.is_empty());
    // On a docking PC likewise: one file is under way, the others wait for their turn.
    let docked = Footage::new().random("third", 3 << 20).random("fourth", 3 << 20).random("fifth", 3 << 20);
    let slow = ["--set", ended, "--bwlimit", "20k", "--parallel", "1", "--settle", "1", "--every", "1"];
    let mut watch = uploader.watch(docked.path(), &stack.dir.path().join("watch.log"), &slow);
    deadlines(&stack, &["--standing", "awaited"], 3);
    watch.kill().unwrap();
    watch.wait().unwrap();
    drop(registry);
    stack.stop();
}
