//! What a person should look at is flagged, told once, and taken back where it is no longer so. Nothing is blocked.
#![allow(clippy::unwrap_used)]

mod common;

use caselock_domain::{
    case::{CaseChange, CaseId},
    flag::Flag,
    manifest::Manifest,
    metadata::{Matter, RecordForm},
};
use caselock_registry::{Wanted, find, rebuild};
use common::{
    Kind,
    world::{BY, World, demo, number, opened},
};
use jiff::{SignedDuration, ToSpan};

on_both_databases!(
    a_recordings_own_metadata_is_looked_at,
    gaps_in_a_devices_numbers_are_seen_and_close_again,
    cases_that_nobody_opens_and_cases_without_footage,
);

/// The ids that a search for a flag finds.
async fn flagged(world: &World, flag: Flag) -> Vec<String> {
    let wanted = Wanted { facets: vec![("flag", flag.as_str().to_owned())], limit: 100, ..Wanted::default() };
    find(&world.fresh.db, &demo(), &wanted).await.unwrap().into_iter().map(|found| found.recording.id).collect()
}

async fn a_recordings_own_metadata_is_looked_at(kind: Kind) {
    let world = World::new(kind).await;
    let id = world
        .stores("wrong", |manifest| {
            let stored_at = manifest.retention.stored_at;
            manifest.metadata.matter = Matter::Penalty;
            manifest.metadata.record_form = RecordForm::Audiovisual;
            manifest.metadata.recorded_started_at = Some(stored_at);
            manifest.metadata.recorded_ended_at = Some(stored_at + SignedDuration::from_hours(9));
            manifest.metadata.document_started_at = Some(stored_at - SignedDuration::from_mins(11));
        })
        .await
        .to_string();
    let all = [Flag::ClockWrong, Flag::DocumentTimes, Flag::NoticeMissing];
    assert_eq!(world.flags(&id).await, all);
    for flag in all {
        assert_eq!(flagged(&world, flag).await, std::slice::from_ref(&id));
    }
    world.publish().await;
    let told = world.told(&id, "flag.raised").await;
    assert_eq!(told.len(), 3);
    // The bucket alone says the same, and tells nothing of the past.
    let anew = World { fresh: kind.fresh().await, ..world };
    rebuild(&anew.cases()).await.unwrap();
    assert_eq!(anew.flags(&id).await, all);
    anew.publish().await;
    assert_eq!(anew.told(&id, "flag.raised").await, told);
}

async fn gaps_in_a_devices_numbers_are_seen_and_close_again(kind: Kind) {
    let world = World::new(kind).await;
    let store = async |name: &'static str, device: &'static str| {
        let key = format!("{device}{name}");
        let change = |manifest: &mut Manifest| {
            manifest.metadata.original_name = name.into();
            manifest.metadata.device_id = Some(device.into());
        };
        world.stores(&key, change).await.to_string()
    };
    let first = store("DSC00007.JPG", "XJ-1").await;
    let sixth = store("DSC00012.JPG", "XJ-1").await;
    let gap = async |id: &str| {
        let wanted = Wanted { id: Some(id.to_owned()), limit: 1, ..Wanted::default() };
        find(&world.fresh.db, &demo(), &wanted).await.unwrap()[0].flags[0].detail.clone()
    };
    assert_eq!(gap(&sixth).await, "DSC8 to DSC11 of the device are not stored");
    let third = store("DSC00009.JPG", "XJ-1").await;
    assert_eq!(gap(&sixth).await, "DSC10 to DSC11 of the device are not stored");
    // Another device, and another series of names, count for themselves; names with dates don't count.
    let others = [
        store("DSC00099.JPG", "XJ-2").await,
        store("IMG_0001.JPG", "XJ-1").await,
        store("20261120_0905.MP4", "XJ-1").await,
        store("20261120_0911.MP4", "XJ-1").await,
    ];
    assert_eq!(world.flags(&first).await, []);
    for id in others {
        assert_eq!(world.flags(&id).await, []);
    }
    assert_eq!(world.flags(&third).await, [Flag::SequenceGap]);
    assert_eq!(world.flags(&sixth).await, [Flag::SequenceGap]);
    // What was missing comes late, the last of it first.
    store("DSC00008.JPG", "XJ-1").await;
    assert_eq!(world.flags(&third).await, []);
    let eleventh = store("DSC00011.JPG", "XJ-1").await;
    assert_eq!((world.flags(&sixth).await, world.flags(&eleventh).await), (vec![], vec![Flag::SequenceGap]));
    store("DSC00010.JPG", "XJ-1").await;
    assert_eq!(flagged(&world, Flag::SequenceGap).await, Vec::<String>::new());
}

async fn cases_that_nobody_opens_and_cases_without_footage(kind: Kind) {
    let world = World::new(kind).await;
    let (keeper, id) = (world.keeper(), world.id.to_string());
    let settle = async || while keeper.round().await.unwrap() > 0 {};
    settle().await;
    world.dial.forward(89.days());
    settle().await;
    assert_eq!(world.flags(&id).await, []);
    world.dial.forward(2.days());
    settle().await;
    assert_eq!(world.flags(&id).await, [Flag::CaseNeverOpened]);
    world.append(opened()).await;
    settle().await;
    assert_eq!(world.flags(&id).await, []);

    // Two working days after a case was opened that had to be recorded as a whole.
    let open = async |name: &str| {
        let change = CaseChange::Opened { party: None, cause: None, full_recording_required: true };
        world.cases().append(&demo(), &number(name), BY, change).await.unwrap();
        CaseId::derive(&demo(), &number(name)).to_string()
    };
    let (bare, noted) = (open("bare").await, open("noted").await);
    let note = CaseChange::Noted { reason: "停电".into(), author: "张三".into(), reviewer: "李四".into() };
    world.cases().append(&demo(), &number("noted"), BY, note).await.unwrap();
    settle().await;
    assert_eq!(world.flags(&bare).await, []);
    world.dial.forward(12.days());
    settle().await;
    assert_eq!((world.flags(&bare).await, world.flags(&noted).await), (vec![Flag::FootageMissing], vec![]));
    // What is written down is no footage; only that is.
    let written = world.stores("written", |manifest| manifest.metadata.record_form = RecordForm::Document).await;
    let footage = world.stores("seen", |manifest| manifest.metadata.record_form = RecordForm::Audiovisual).await;
    for (id, flags) in [(written, vec![Flag::FootageMissing]), (footage, vec![])] {
        let bound = CaseChange::Bound { recordings: vec![id] };
        world.cases().append(&demo(), &number("bare"), BY, bound).await.unwrap();
        settle().await;
        assert_eq!(world.flags(&bare).await, flags);
    }
    // That all had to be recorded is said of the case, or by what was uploaded for it.
    let said = world.stores("said", |manifest| {
        manifest.metadata.record_form = RecordForm::Document;
        manifest.metadata.full_recording_required = true;
        manifest.metadata.case_number = Some("unmarked".into());
    });
    said.await;
    let change = CaseChange::Opened { party: None, cause: None, full_recording_required: false };
    world.cases().append(&demo(), &number("unmarked"), BY, change).await.unwrap();
    world.dial.forward(12.days());
    settle().await;
    let unmarked = CaseId::derive(&demo(), &number("unmarked")).to_string();
    assert_eq!(world.flags(&unmarked).await, [Flag::FootageMissing]);
    world.publish().await;
    assert_eq!(world.told(&bare, "flag.raised").await.len(), 1);
    assert_eq!(world.told(&id, "flag.raised").await.len(), 1);
}
