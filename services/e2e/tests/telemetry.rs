//! What dashboards and alerts ask for is what the running services tell, and every alert has its page.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

use caselock_e2e::{Footage, Kind, Program, Stack, Uploader, root};
use regex::Regex;

/// The names of metrics in a text: those of the services' own pages, and what Prometheus makes of a histogram.
fn metrics(text: &str) -> BTreeSet<String> {
    let name = Regex::new(r"\bcaselock_[a-z0-9_]+").unwrap();
    name.find_iter(text).map(|found| found.as_str().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_for_is_told() {
    let mut stack = Stack::start(Kind::Distributed, &[]).await;
    let registry = stack.start_registry().await.unwrap();
    let footage = Footage::new().random("a.mp4", 1000).random("b", (8 << 20) + 1);
    let run = Uploader::new(&stack).upload(footage.path(), &[]);
    run.expect_stored(2);
    stack.wait_derived(&run).await;

    let mut asked = BTreeSet::new();
    for entry in fs::read_dir(root().join("deploy/grafana")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            asked.extend(metrics(&fs::read_to_string(path).unwrap()));
        }
    }
    let rules = fs::read_to_string(root().join("deploy/prometheus/caselock.rules.yaml")).unwrap();
    asked.extend(metrics(&rules));
    assert!(asked.len() > 30, "{asked:?}");
    // What is counted last may come a moment later.
    let told = || -> BTreeSet<String> {
        let programs: Vec<&Program> = stack.programs.values().chain([&registry]).collect();
        metrics(&programs.iter().map(|program| program.admin("/metrics")).collect::<String>())
    };
    // The registry reads its numbers every fifteen seconds.
    let give_up = Instant::now() + Duration::from_secs(90);
    while !asked.is_subset(&told()) {
        assert!(Instant::now() < give_up, "asked for, and not told: {:?}", asked.difference(&told()));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // And all that is told is explained, without the endings of histograms.
    let explained = fs::read_to_string(root().join("services/docs/ops.md")).unwrap();
    let base =
        |name: &String| ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).map(str::to_owned);
    for name in told() {
        let name = base(&name).filter(|base| base.ends_with("_seconds")).unwrap_or(name);
        assert!(explained.contains(&format!("`{name}")), "{name} is not in ops.md");
    }
    drop(registry);
    stack.stop();

    let page = Regex::new(r"runbook_url: (\S+)").unwrap();
    let mut pages = 0;
    for found in page.captures_iter(&rules) {
        assert!(root().join(&found[1]).is_file(), "{} is not there", &found[1]);
        pages += 1;
    }
    assert_eq!(pages, rules.matches("- alert: ").count(), "an alert has no page");
}
