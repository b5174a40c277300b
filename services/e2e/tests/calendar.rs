//! The packaged working days against public data that others keep.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use caselock_domain::calendar::Calendar;
use caselock_e2e::root;

#[test]
fn the_packaged_working_days_are_the_published_ones() {
    let python = std::env::var("CASELOCK_TEST_PYTHON").expect("CASELOCK_TEST_PYTHON, as deploy/test.sh sets it");
    let output = Command::new(python).arg(root().join("services/e2e/outside/working_days.py")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let calendar = Calendar::packaged().unwrap();
    let mut compared = 0;
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let (day, published) = line.split_once(' ').unwrap();
        let day = day.parse().unwrap();
        let ours = if calendar.is_working(day) { "worked" } else { "off" };
        assert_eq!(ours, published, "{day}");
        compared += 1;
    }
    // From 2020 to 2026 at least.
    assert!(compared >= 2557, "only {compared} days were compared");
    println!("{compared} days agree");
}
