//! `caselock dispose`.

use anyhow::{Context, anyhow};
use caselock_domain::id::RecordingId;
use caselock_proto::v1::{Disposable, DisposalOutcome, DisposeRecordingsRequest, ListDisposableRequest};
use serde_json::Value;

use crate::{
    HELD, STORED, args,
    phrases::say_phrase,
    registry::{answer, client, pages, text, time, word},
    table::{Column, brief, full, is_for_people, print, times, words},
    usage,
};

/// Removed at once.
const REMOVED: usize = 50;

const LISTED: [Column; 8] = [
    full("bureau"),
    brief("recording_id"),
    brief("original_name"),
    brief("size"),
    times("stored_at"),
    times("locked_until"),
    words("kept_because"),
    brief("kept_for_case"),
];
const DONE: [Column; 4] = [brief("recording_id"), brief("record_key"), brief("refused"), brief("detail")];

pub async fn run(command: args::Dispose) -> anyhow::Result<u8> {
    match command {
        args::Dispose::List(asked) => list(asked).await,
        args::Dispose::Run(asked) => remove(asked).await,
    }
}

async fn list(asked: args::ListDisposable) -> anyhow::Result<u8> {
    let mut client = client(&asked.registry)?;
    let request = ListDisposableRequest { bureau: asked.registry.bureau.clone(), ..Default::default() };
    let found = pages(asked.limit, async |page_size, page_token| {
        let asked = ListDisposableRequest { page_size, page_token, ..request.clone() };
        let page = answer(client.list_disposable(asked).await)?;
        Ok((page.recordings, page.next_page_token))
    });
    print(&LISTED, found.await?.into_iter().map(listed).collect(), asked.registry.json)?;
    Ok(STORED)
}

async fn remove(asked: args::RunDisposal) -> anyhow::Result<u8> {
    let mut ids = asked.recordings;
    if let Some(path) = &asked.from {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display())).map_err(usage)?;
        ids.extend(listed_ids(&text));
    }
    if ids.is_empty() {
        return Err(usage(anyhow!("name recordings, or a file with --from")));
    }
    let mut client = client(&asked.registry)?;
    let mut rows = Vec::new();
    let mut refused = false;
    for some in ids.chunks(REMOVED) {
        let request = DisposeRecordingsRequest {
            bureau: asked.registry.bureau.clone(),
            recording_ids: some.to_vec(),
            reason: asked.reason.clone(),
        };
        let outcomes = answer(client.dispose_recordings(request).await)?.outcomes;
        refused |= outcomes.iter().any(|outcome| !outcome.refused.is_empty());
        rows.extend(outcomes.into_iter().map(|outcome| done(outcome, is_for_people(asked.registry.json))));
    }
    print(&DONE, rows, asked.registry.json)?;
    Ok(if refused { HELD } else { STORED })
}

/// The ids in a text: the cells, one in each line, that are one. So a list of ids does as well as the CSV of `dispose list`.
fn listed_ids(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter_map(|line| {
        line.split(',').map(str::trim).find(|cell| cell.parse::<RecordingId>().is_ok()).map(str::to_owned)
    })
}

fn listed(found: Disposable) -> Vec<Value> {
    let because = word(found.kept_because().as_str_name(), "KEPT_BECAUSE_");
    vec![
        found.bureau.into(),
        found.recording_id.into(),
        found.original_name.into(),
        found.size.into(),
        time(found.stored_at),
        time(found.locked_until),
        because,
        text(found.kept_for_case),
    ]
}

fn done(outcome: DisposalOutcome, for_people: bool) -> Vec<Value> {
    let DisposalOutcome { recording_id, record_key, refused, detail } = outcome;
    let detail = if for_people { say_phrase(&detail) } else { detail };
    vec![recording_id.into(), text(record_key), text(refused), text(detail)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_in_lists_and_in_csv() {
        let id = "4caabe52-8687-8251-adac-102fa81d262c";
        let text = format!("bureau,recording_id\ndemo,{id},a.mp4\n{id}\n\nnonsense\n");
        assert_eq!(listed_ids(&text).collect::<Vec<_>>(), [id, id]);
    }
}
