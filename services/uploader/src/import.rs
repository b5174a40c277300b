//! `caselock case import`: cases as another system has them.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use caselock_client::UploadError;
use caselock_domain::{
    reason::Reason,
    time::{day_of, from_proto},
};
use caselock_proto::v1::{
    AmendCaseRequest, CaseName, CaseStatus, CloseCaseRequest, OpenCaseRequest,
    registry_service_client::RegistryServiceClient,
};
use jiff::civil::Date;
use serde_json::Value;
use tonic::transport::Channel;

use crate::{
    HELD, RETRY, STORED, args,
    fields::yes_or_no,
    manifest::decode,
    phrases::shown,
    registry::{answer, case_name, client, whole_case},
    table::{brief, is_for_people, print, words},
    usage,
};

/// Columns, and what they may be called.
const NAMES: [(&str, &str); 6] = [
    ("number", "案号"),
    ("party", "当事人"),
    ("cause", "案由"),
    ("full_recording_required", "全程记录"),
    ("class", "结案类别"),
    ("closed_on", "结案日期"),
];

type Row = BTreeMap<&'static str, String>;

/// Brings every row to the registry. A row that is refused stops no other. Running it again changes nothing more.
pub async fn run(asked: &args::ImportCases) -> anyhow::Result<u8> {
    let bytes = std::fs::read(&asked.file).with_context(|| format!("read {}", asked.file.display())).map_err(usage)?;
    let rows = decode(&bytes).and_then(|text| read(&text));
    let rows = rows.with_context(|| format!("read {}", asked.file.display())).map_err(usage)?;
    let mut client = client(&asked.registry)?;
    let (mut told, mut code) = (Vec::new(), STORED);
    for (line, row) in rows {
        let brought = bring(&mut client, asked, &row).await;
        let (result, error) = match brought {
            Ok(()) => ("done", Value::Null),
            Err(error) => {
                // What needs a person goes before what passes.
                code = if error.is_retryable() && code != HELD { RETRY } else { HELD };
                let text = if is_for_people(asked.registry.json) { shown(&error.into()) } else { error.to_string() };
                ("refused", text.into())
            }
        };
        told.push(vec![line.into(), row.get("number").cloned().unwrap_or_default().into(), result.into(), error]);
    }
    print(&[brief("line"), brief("number"), words("result"), brief("error")], told, asked.registry.json)?;
    Ok(code)
}

async fn bring(
    client: &mut RegistryServiceClient<Channel>,
    asked: &args::ImportCases,
    row: &Row,
) -> Result<(), UploadError> {
    let text = |name: &str| row.get(name).cloned().unwrap_or_default();
    let case = case_name(&asked.registry, &text("number"));
    let full_recording_required = row.get("full_recording_required").map(|text| text == "yes");
    let closed_on = text("closed_on");
    if row.contains_key("closed_on") && !row.contains_key("class") {
        return Err(UploadError::Refused {
            reason: Reason::RequestInvalid.as_str().into(),
            message: "a day of closing needs a class".into(),
            fields: vec!["class".into()],
        });
    }
    if row.contains_key("class")
        && let Some(day) = reopened_on(client, case.clone()).await?
        && !closed_on.parse::<Date>().is_ok_and(|closed_on| closed_on > day)
    {
        return Err(UploadError::Refused {
            reason: "CASE_REOPENED".into(),
            message: format!("it was reopened on {day}: give a later day, or close it by caselock case close"),
            fields: vec!["closed_on".into()],
        });
    }
    let open = OpenCaseRequest {
        case: case.clone(),
        party: text("party"),
        cause: text("cause"),
        full_recording_required: full_recording_required.unwrap_or_default(),
    };
    match answer(client.open_case(open).await) {
        Err(error) if error.is(Reason::CaseConflict) => {
            let (party, cause) = (row.get("party").cloned(), row.get("cause").cloned());
            let amend = AmendCaseRequest { case: case.clone(), party, cause, full_recording_required };
            answer(client.amend_case(amend).await)?;
        }
        opened => drop(opened?),
    }
    if row.contains_key("class") {
        let close = CloseCaseRequest { case, class: text("class"), closed_on };
        answer(client.close_case(close).await)?;
    }
    Ok(())
}

/// The day, in Shanghai, when a case that is open was last reopened. A table from before knows nothing of it, and must change
/// nothing.
async fn reopened_on(
    client: &mut RegistryServiceClient<Channel>,
    case: Option<CaseName>,
) -> Result<Option<Date>, UploadError> {
    let (case, entries) = match whole_case(client, case).await {
        Err(error) if error.is(Reason::CaseNotFound) => return Ok(None),
        whole => whole?,
    };
    if case.is_none_or(|case| case.status() != CaseStatus::Open) {
        return Ok(None);
    }
    let last = entries.iter().rev().find(|entry| entry.kind == "reopened");
    Ok(last.and_then(|entry| from_proto(entry.at.as_ref()?)).map(day_of))
}

/// Lines with what their cells say; an empty cell says nothing.
fn read(text: &str) -> anyhow::Result<Vec<(u64, Row)>> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let known = |header: &str| NAMES.iter().find(|(name, chinese)| [*name, *chinese].contains(&header)).map(|n| n.0);
    let mut columns = Vec::new();
    for header in reader.headers()? {
        columns.push(known(header).with_context(|| format!("unknown column {header:?}"))?);
    }
    if !columns.contains(&"number") {
        bail!("there is no column number (案号)");
    }
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record?;
        let line = record.position().map_or(0, csv::Position::line);
        let cells = columns.iter().zip(&record).filter(|(_, cell)| !cell.is_empty());
        let mut row: Row = cells.map(|(name, cell)| (*name, cell.to_owned())).collect();
        if let Some(full) = row.get_mut("full_recording_required") {
            let is_yes = yes_or_no("full_recording_required", full).map_err(|e| anyhow::anyhow!("line {line}: {e}"))?;
            *full = if is_yes { "yes" } else { "no" }.to_owned();
        }
        if let Some(day) = row.get_mut("closed_on") {
            *day = day.replace('/', "-");
        }
        rows.push((line, row));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_as_bureaus_have_them() {
        let rows = read("案号,案由,全程记录,结案日期\n（2026）1,无证行医,是,2026/03/31\n2, ,否,\n").unwrap();
        let (line, first) = &rows[0];
        assert_eq!((*line, first["number"].as_str(), first["cause"].as_str()), (2, "（2026）1", "无证行医"));
        assert_eq!((first["full_recording_required"].as_str(), first["closed_on"].as_str()), ("yes", "2026-03-31"));
        assert!(!rows[1].1.contains_key("cause") && rows[1].1["full_recording_required"] == "no");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let error = |text: &str| format!("{:#}", read(text).unwrap_err());
        assert!(error("number,colour\n1,red\n").contains("colour"));
        assert!(error("party\nx\n").contains("number (案号)"));
        assert!(error("number,全程记录\n1,maybe\n").contains("line 2"));
    }
}
