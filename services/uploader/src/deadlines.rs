//! `caselock deadlines`.

use caselock_domain::time::{ProtoTimestamp, to_proto};
use caselock_proto::v1::{Deadline, DeadlineExtension, DeadlineStanding, ExtendDeadlinesRequest, ListDeadlinesRequest};
use serde_json::{Value, json};

use crate::{
    STORED, args,
    fields::moment,
    registry::{answer, client, named, pages, text, time, word},
    table::{Column, brief, full, print, times, words},
    usage,
};

/// Extended at once.
const EXTENDED: usize = 200;

const COLUMNS: [Column; 13] = [
    full("bureau"),
    brief("recording_id"),
    brief("original_name"),
    brief("unit"),
    brief("device_id"),
    full("ended_at"),
    times("due"),
    words("provisional"),
    times("extended_to"),
    full("extensions"),
    times("stored_at"),
    words("standing"),
    full("granted"),
];

pub async fn run(command: args::Deadlines) -> anyhow::Result<u8> {
    match command {
        args::Deadlines::List(asked) => list(asked).await,
        args::Deadlines::Extend(asked) => extend(asked).await,
    }
}

async fn list(asked: args::ListDeadlines) -> anyhow::Result<u8> {
    let mut client = client(&asked.registry)?;
    let standing = named(asked.standing, "DEADLINE_STANDING_", DeadlineStanding::from_str_name);
    let request = ListDeadlinesRequest {
        bureau: asked.registry.bureau.clone(),
        standing,
        recording_id: asked.recording,
        ..Default::default()
    };
    let found = pages(asked.limit, async |page_size, page_token| {
        let asked = ListDeadlinesRequest { page_size, page_token, ..request.clone() };
        let page = answer(client.list_deadlines(asked).await)?;
        Ok((page.deadlines, page.next_page_token))
    });
    print(&COLUMNS, found.await?.into_iter().map(row).collect(), asked.registry.json)?;
    Ok(STORED)
}

async fn extend(asked: args::ExtendDeadlines) -> anyhow::Result<u8> {
    let until = until(&asked.until).map_err(|error| usage(anyhow::Error::msg(error)))?;
    let mut client = client(&asked.registry)?;
    let mut rows = Vec::new();
    for some in asked.recordings.chunks(EXTENDED) {
        let request = ExtendDeadlinesRequest {
            bureau: asked.registry.bureau.clone(),
            recording_ids: some.to_vec(),
            until: Some(until),
            approver: asked.approver.clone(),
            reason: asked.reason.clone(),
        };
        rows.extend(answer(client.extend_deadlines(request).await)?.deadlines.into_iter().map(row));
    }
    print(&COLUMNS, rows, asked.registry.json)?;
    Ok(STORED)
}

/// A day means its end, as deadlines do.
fn until(text: &str) -> Result<ProtoTimestamp, String> {
    // A day's text would be found at the beginning of a time as well.
    let day = (text.len() == "2026-03-06".len()).then(|| text.parse().ok()).flatten();
    match day {
        Some(day) => Ok(to_proto(caselock_domain::retention::end_of_day(day).map_err(|error| error.to_string())?)),
        None => moment("--until", text),
    }
}

fn row(deadline: Deadline) -> Vec<Value> {
    let standing = word(deadline.standing().as_str_name(), "DEADLINE_STANDING_");
    vec![
        deadline.bureau.into(),
        deadline.recording_id.into(),
        deadline.original_name.into(),
        deadline.unit.into(),
        text(deadline.device_id),
        time(deadline.ended_at),
        time(deadline.due),
        deadline.provisional.into(),
        time(deadline.extended_to),
        deadline.extensions.into(),
        time(deadline.stored_at),
        standing,
        deadline.granted.into_iter().map(granted).collect(),
    ]
}

fn granted(extension: DeadlineExtension) -> Value {
    let DeadlineExtension { until, approver, reason, by, at } = extension;
    json!({ "until": time(until), "approver": approver, "reason": reason, "by": by, "at": time(at) })
}
