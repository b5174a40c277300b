//! A week of a device: thousands of small files, with steady memory and a progress that tells the truth.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};

use caselock_e2e::{Footage, Kind, Stack, Uploader, on_both_stacks};
use serde_json::Value;

on_both_stacks!(thousands_of_small_files_take_steady_memory_and_true_progress);

/// What a process may grow by from the middle to the end: less than the files' own bytes. (The embedded log's page cache
/// fills in the first half.)
const GROWTH: u64 = 48 << 20;

fn resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).unwrap_or_default() * 1024
}

async fn thousands_of_small_files_take_steady_memory_and_true_progress(kind: Kind) {
    let files: usize = 5000;
    let mut footage = Footage::new();
    for number in 0..files {
        footage = footage.random(&format!("IMG_{number:05}.jpg"), 20_000 + number as u64);
    }
    let bytes: u64 = footage.files().iter().map(|path| path.metadata().unwrap().len()).sum();
    let mut stack = Stack::start(kind, &[]).await;
    let uploader = Uploader::new(&stack);
    let mut child = uploader.start(footage.path(), &["--parallel", "16"]);
    let process = child.id();
    let (mut stored, mut told, mut memory) = (0, Vec::<Value>::new(), Vec::new());
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
        match event["event"].as_str().unwrap() {
            "stored" => {
                stored += 1;
                if stored == files / 2 || stored == files * 49 / 50 {
                    let services = stack.programs.values().map(|program| program.memory());
                    memory.push((services.sum::<u64>(), resident(process)));
                }
            }
            "progress" => {
                // What is said is what was seen: neither more files than were told to be stored, nor far fewer.
                let said = event["stored"].as_u64().unwrap() as usize;
                assert!(said <= stored + 16 && said + 16 >= stored, "{said} of {stored}");
                told.push(event);
            }
            _ => {}
        }
    }
    println!("services and command, early and late: {memory:?}");
    assert!(memory[1].0 < memory[0].0 + GROWTH, "the services grew: {memory:?}");
    assert!(memory[1].1 < memory[0].1 + GROWTH, "the command grew: {memory:?}");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(told.len() > 3, "progress was told {} times", told.len());
    for pair in told.windows(2) {
        for key in ["stored", "held"] {
            assert!(pair[0][key].as_u64() <= pair[1][key].as_u64(), "{pair:?}");
        }
    }
    let last = told.last().unwrap();
    let numbers = ["stored", "files", "held", "bytes"].map(|key| last[key].as_u64().unwrap());
    assert_eq!(numbers, [files as u64, files as u64, bytes, bytes]);
    stack.stop();
}
