//! `caselock case`.

use caselock_proto::v1::{
    AddCaseNoteRequest, AmendCaseRequest, BindRecordingsRequest, Case, CaseEntry, CaseStatus, CloseCaseRequest, Flag,
    ListCasesRequest, OpenCaseRequest, ReopenCaseRequest,
};
use serde_json::Value;

use crate::{
    STORED, args,
    fields::yes_or_no,
    import,
    registry::{answer, case_name, client, flags, named, text, time, whole_case, word},
    table::{Column, brief, full, print, times, words},
    text::put,
    usage,
};

/// Recordings bound in one call.
const BOUND: usize = 200;

const COLUMNS: [Column; 15] = [
    full("bureau"),
    brief("number"),
    words("status"),
    brief("party"),
    brief("cause"),
    full("full_recording_required"),
    full("opened_at"),
    words("class"),
    brief("closed_on"),
    times("kept_until"),
    brief("recordings"),
    brief("unsettled"),
    full("entries"),
    words("flags"),
    full("flag_details"),
];

pub async fn run(command: args::Case) -> anyhow::Result<u8> {
    let (case, json) = match command {
        args::Case::Open(asked) => {
            let request = OpenCaseRequest {
                case: case_name(&asked.registry, &asked.number),
                party: asked.party,
                cause: asked.cause,
                full_recording_required: asked.full_recording_required,
            };
            (answer(client(&asked.registry)?.open_case(request).await)?.case, asked.registry.json)
        }
        args::Case::Amend(asked) => {
            let full = asked.full_recording_required.map(|text| yes_or_no("--full-recording-required", &text));
            let request = AmendCaseRequest {
                case: case_name(&asked.registry, &asked.number),
                party: asked.party,
                cause: asked.cause,
                full_recording_required: full.transpose().map_err(|e| usage(anyhow::Error::msg(e)))?,
            };
            (answer(client(&asked.registry)?.amend_case(request).await)?.case, asked.registry.json)
        }
        args::Case::Bind(asked) => {
            let mut client = client(&asked.registry)?;
            let mut case = None;
            for some in asked.recordings.chunks(BOUND) {
                let request = BindRecordingsRequest {
                    case: case_name(&asked.registry, &asked.number),
                    recording_ids: some.to_vec(),
                };
                case = answer(client.bind_recordings(request).await)?.case;
            }
            (case, asked.registry.json)
        }
        args::Case::Close(asked) => {
            let request = CloseCaseRequest {
                case: case_name(&asked.registry, &asked.number),
                class: asked.class,
                closed_on: asked.on,
            };
            (answer(client(&asked.registry)?.close_case(request).await)?.case, asked.registry.json)
        }
        args::Case::Reopen(asked) => {
            let request = ReopenCaseRequest { case: case_name(&asked.registry, &asked.number), reason: asked.reason };
            (answer(client(&asked.registry)?.reopen_case(request).await)?.case, asked.registry.json)
        }
        args::Case::Note(asked) => {
            let request = AddCaseNoteRequest {
                case: case_name(&asked.registry, &asked.number),
                reason: asked.reason,
                author: asked.author,
                reviewer: asked.reviewer,
            };
            (answer(client(&asked.registry)?.add_case_note(request).await)?.case, asked.registry.json)
        }
        args::Case::Show(asked) => return show(asked).await,
        args::Case::List(asked) => return list(asked).await,
        args::Case::Import(asked) => return import::run(&asked).await,
    };
    print(&COLUMNS, case.into_iter().map(row).collect(), json)?;
    Ok(STORED)
}

/// The case, then every entry of its record.
async fn show(asked: args::ShowCase) -> anyhow::Result<u8> {
    let mut client = client(&asked.registry)?;
    let (case, entries) = whole_case(&mut client, case_name(&asked.registry, &asked.number)).await?;
    if asked.registry.json {
        let mut shown = serde_json::Map::new();
        for (column, value) in COLUMNS.iter().zip(case.map(row).unwrap_or_default()) {
            shown.insert(column.name.to_owned(), value);
        }
        let documents = entries.iter().map(|entry| serde_json::from_str::<Value>(&entry.document));
        shown.insert("record".into(), documents.collect::<Result<_, _>>()?);
        put(Value::Object(shown))?;
        return Ok(STORED);
    }
    print(&COLUMNS, case.into_iter().map(row).collect(), false)?;
    let columns = [brief("seq"), times("at"), brief("by"), words("kind"), brief("says")];
    let says = |document: &str| {
        let mut all: Value = serde_json::from_str(document).unwrap_or_default();
        let mut change = all["change"].take();
        if let Some(change) = change.as_object_mut() {
            change.remove("kind");
        }
        change
    };
    let entry = |entry: CaseEntry| {
        vec![entry.seq.into(), time(entry.at), entry.by.into(), entry.kind.into(), says(&entry.document)]
    };
    print(&columns, entries.into_iter().map(entry).collect(), false)?;
    Ok(STORED)
}

async fn list(asked: args::ListCases) -> anyhow::Result<u8> {
    let mut client = client(&asked.registry)?;
    let status = named(asked.status, "CASE_STATUS_", CaseStatus::from_str_name);
    let flag = named(asked.flag, "FLAG_", Flag::from_str_name);
    let (mut rows, mut page_token) = (Vec::new(), String::new());
    loop {
        let bureau = asked.registry.bureau.clone();
        let page = ListCasesRequest { bureau, status, page_size: 1000, page_token, flag };
        let page = answer(client.list_cases(page).await)?;
        rows.extend(page.cases.into_iter().map(row));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    // A list does not count recordings.
    let kept = |name: &str| !["recordings", "unsettled"].contains(&name);
    let keep: Vec<bool> = COLUMNS.iter().map(|column| kept(column.name)).collect();
    let columns: Vec<Column> = COLUMNS.into_iter().filter(|column| kept(column.name)).collect();
    for row in &mut rows {
        let mut keep = keep.iter();
        row.retain(|_| *keep.next().unwrap_or(&true));
    }
    print(&columns, rows, asked.registry.json)?;
    Ok(STORED)
}

/// A case's values, column by column.
pub fn row(case: Case) -> Vec<Value> {
    let (raised, details) = flags(case.flags.clone());
    vec![
        case.bureau.clone().into(),
        case.number.clone().into(),
        word(case.status().as_str_name(), "CASE_STATUS_"),
        text(case.party),
        text(case.cause),
        case.full_recording_required.into(),
        time(case.opened_at),
        text(case.class),
        text(case.closed_on),
        time(case.kept_until),
        case.recordings.into(),
        case.unsettled.into(),
        case.entries.into(),
        raised,
        details,
    ]
}
