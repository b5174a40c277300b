//! Recordings found page by page.
#![allow(clippy::unwrap_used)]

mod common;

use caselock_e2e::metadata;
use caselock_registry::{Wanted, find};
use common::{
    Kind,
    world::{World, demo},
};
use jiff::SignedDuration;

on_both_databases!(pages_hold_together_while_recordings_arrive);

/// Whoever reads page by page gets everything that was there when they began, and nothing twice, whatever arrives meanwhile.
async fn pages_hold_together_while_recordings_arrive(kind: Kind) {
    let world = World::new(kind).await;
    let began = world.dial.at();
    let store = async |minute: i64, key: String| {
        let at = began - SignedDuration::from_mins(minute);
        world.stores(&key, |manifest| manifest.metadata.recorded_started_at = Some(at)).await.to_string()
    };
    let mut there = Vec::new();
    for number in 0..12 {
        // Two of each time of use.
        there.push(store(number / 2 * 10, format!("there-{number}")).await);
    }
    for facets in [vec![], vec![("unit", metadata().unit)]] {
        let mut wanted = Wanted { facets, limit: 3, ..Wanted::default() };
        let mut read = Vec::new();
        loop {
            let page = find(&world.fresh.db, &demo(), &wanted).await.unwrap();
            let Some(last) = page.last() else { break };
            wanted.after = Some((last.recording.used_at, last.recording.id.clone()));
            read.extend(page.iter().map(|found| found.recording.id.clone()));
            // One before where the reader is, one behind.
            let turn = format!("{}-{}", wanted.facets.len(), read.len());
            if read.len() < 12 {
                store(-5, format!("newer-{turn}")).await;
                store(65, format!("older-{turn}")).await;
            }
        }
        let mut once = read.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), read.len(), "one came twice: {read:?}");
        assert!(there.iter().all(|id| read.contains(id)), "{there:?} in {read:?}");
    }
}
