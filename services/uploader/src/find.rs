//! `caselock find`.

use caselock_domain::digest::Blake3;
use caselock_proto::v1::{DeadlineStanding, FindRecordingsRequest, Flag, FoundRecording, VerificationState};
use serde_json::Value;

use crate::{
    STORED, args,
    fields::moment,
    registry::{answer, client, flags, named, pages, text, time, word},
    table::{Column, brief, full, print, times, words},
    usage,
};

const COLUMNS: [Column; 24] = [
    full("bureau"),
    brief("recording_id"),
    brief("original_name"),
    times("used_at"),
    brief("unit"),
    brief("officers"),
    brief("device_id"),
    full("party"),
    full("cause"),
    brief("cases"),
    full("size"),
    full("blake3"),
    full("stored_at"),
    times("locked_until"),
    words("legal_hold"),
    words("kept_because"),
    full("kept_for_case"),
    full("settled"),
    full("due"),
    words("standing"),
    full("verification"),
    words("flags"),
    full("flag_details"),
    full("object_key"),
];

pub async fn run(asked: args::Find) -> anyhow::Result<u8> {
    let at = |name: &str, text: Option<String>| {
        let moment = text.map(|text| moment(name, &text)).transpose();
        moment.map_err(|error| usage(anyhow::Error::msg(error)))
    };
    let request = FindRecordingsRequest {
        bureau: asked.registry.bureau.clone(),
        unit: asked.unit,
        device_id: asked.device_id,
        officer: asked.officer,
        used_from: at("--used-from", asked.used_from)?,
        used_before: at("--used-before", asked.used_before)?,
        party: asked.party,
        cause: asked.cause,
        case_number: asked.case_number,
        recording_id: asked.recording,
        flag: named(asked.flag, "FLAG_", Flag::from_str_name),
        deadline: named(asked.deadline, "DEADLINE_STANDING_", DeadlineStanding::from_str_name),
        verification: named(asked.verification, "VERIFICATION_STATE_", VerificationState::from_str_name),
        page_size: 0,
        page_token: String::new(),
    };
    let mut client = client(&asked.registry)?;
    let found = pages(asked.limit, async |page_size, page_token| {
        let asked = FindRecordingsRequest { page_size, page_token, ..request.clone() };
        let page = answer(client.find_recordings(asked).await)?;
        Ok((page.recordings, page.next_page_token))
    });
    print(&COLUMNS, found.await?.into_iter().map(row).collect(), asked.registry.json)?;
    Ok(STORED)
}

fn row(found: FoundRecording) -> Vec<Value> {
    let kept_because = word(found.kept_because().as_str_name(), "KEPT_BECAUSE_");
    let standing = word(found.deadline().as_str_name(), "DEADLINE_STANDING_");
    let verification = word(found.verification().as_str_name(), "VERIFICATION_STATE_");
    let (flags, details) = flags(found.flags);
    let metadata = found.metadata.unwrap_or_default();
    let blake3 = <[u8; 32]>::try_from(&found.blake3[..]).map(|digest| Blake3(digest).to_hex());
    vec![
        found.bureau.into(),
        found.recording_id.into(),
        metadata.original_name.into(),
        time(found.used_at),
        metadata.unit.into(),
        metadata.officers.into(),
        text(metadata.device_id),
        text(metadata.party),
        text(metadata.cause),
        found.cases.into(),
        found.size.into(),
        blake3.map_or(Value::Null, Into::into),
        time(found.stored_at),
        time(found.locked_until),
        found.legal_hold.into(),
        kept_because,
        text(found.kept_for_case),
        found.settled.into(),
        time(found.due),
        standing,
        verification,
        flags,
        details,
        found.object_key.into(),
    ]
}
