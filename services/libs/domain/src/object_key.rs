//! The names of objects in the store. Fixed for ever: changing one would orphan what is stored. No names of people.

use std::str::FromStr;

use crate::{
    case::CaseId,
    id::{BureauId, RecordingId},
};

/// What everything of one recording begins with, with the slash at the end.
pub fn recording(bureau: &BureauId, recording: RecordingId) -> String {
    format!("v1/{bureau}/recordings/{recording}/")
}

/// The generation whose manifest a key below [`recording`] names, if it names one.
pub fn manifest_generation(key: &str) -> Option<u32> {
    key.strip_suffix("/manifest.json")?.rsplit('/').next()?.parse().ok()
}

/// What everything of one generation of a recording begins with, with the slash at the end.
pub fn prefix(bureau: &BureauId, recording: RecordingId, generation: u32) -> String {
    self::recording(bureau, recording) + &format!("{generation}/")
}

/// The original: the recording's bytes as they came.
pub fn original(bureau: &BureauId, recording: RecordingId, generation: u32) -> String {
    prefix(bureau, recording, generation) + "original"
}

/// The manifest beside the original.
pub fn manifest(bureau: &BureauId, recording: RecordingId, generation: u32) -> String {
    prefix(bureau, recording, generation) + "manifest.json"
}

/// What reading the original back found.
pub fn verification(bureau: &BureauId, recording: RecordingId, generation: u32) -> String {
    prefix(bureau, recording, generation) + "verification.json"
}

/// The list of derivatives.
pub fn derived(bureau: &BureauId, recording: RecordingId, generation: u32) -> String {
    prefix(bureau, recording, generation) + "derived.json"
}

/// One derivative, made by `profile` in its `version`.
pub fn derivative(
    bureau: &BureauId,
    recording: RecordingId,
    generation: u32,
    profile: &str,
    version: u32,
    file: &str,
) -> String {
    prefix(bureau, recording, generation) + &format!("derived/{profile}@{version}/{file}")
}

/// What the extensions of a recording's deadline begin with, with the slash at the end. They belong to all its generations.
pub fn extensions(bureau: &BureauId, recording: RecordingId) -> String {
    self::recording(bureau, recording) + "extensions/"
}

/// An extension of a recording's deadline.
pub fn extension(bureau: &BureauId, recording: RecordingId, seq: u64) -> String {
    entry_below(&extensions(bureau, recording), seq)
}

/// The place of an extension among those of its recording, by its key; `None` where that is of another form.
pub fn extension_seq(key: &str) -> Option<u64> {
    number_in(key, "/extensions")
}

/// The record of the disposal of a generation. It stays, so that no generation is ever used twice.
pub fn disposal(bureau: &BureauId, recording: RecordingId, generation: u32) -> String {
    entry_below(&disposals(bureau, recording), generation.into())
}

/// What the records of a recording's disposals begin with, with the slash at the end.
pub fn disposals(bureau: &BureauId, recording: RecordingId) -> String {
    self::recording(bureau, recording) + "disposals/"
}

/// The generation whose disposal a key below [`recording`] records, if it does.
pub fn disposed_generation(key: &str) -> Option<u32> {
    number_in(key, "/disposals")
}

/// The number a document in a folder goes by.
fn number_in<T: FromStr>(key: &str, folder: &str) -> Option<T> {
    let (path, file) = key.strip_suffix(".json")?.rsplit_once('/')?;
    path.ends_with(folder).then(|| file.parse().ok()).flatten()
}

/// What the record of a case begins with, with the slash at the end.
pub fn case(bureau: &BureauId, case: CaseId) -> String {
    format!("v1/{bureau}/cases/{case}/")
}

/// An entry of a case's record.
pub fn case_entry(bureau: &BureauId, case: CaseId, seq: u64) -> String {
    entry_below(&self::case(bureau, case), seq)
}

/// An entry below what [`case`] says.
pub fn entry_below(case: &str, seq: u64) -> String {
    format!("{case}{seq:020}.json")
}

/// What the keys of whatever a key belongs to begin with, with the slash at the end: a generation of a recording, the
/// extensions of its deadline, the records of its disposals, or a case. `None` where it is of no such form.
pub fn owner(key: &str) -> Option<&str> {
    let parts: Vec<_> = key.split('/').collect();
    let depth = match parts[..] {
        ["v1", _, "recordings", _, _, _, ..] => 5,
        ["v1", _, "cases", _, _, ..] => 4,
        _ => return None,
    };
    let length: usize = parts[..depth].iter().map(|part| part.len() + 1).sum();
    Some(&key[..length])
}

/// Whether a key is that of a case's entry.
pub fn is_case_entry(key: &str) -> bool {
    let parts: Vec<_> = key.split('/').collect();
    matches!(parts[..], ["v1", _, "cases", _, file] if file.ends_with(".json"))
}

/// Whether a key is that of an extension of a deadline.
pub fn is_extension(key: &str) -> bool {
    let parts: Vec<_> = key.split('/').collect();
    matches!(parts[..], ["v1", _, "recordings", _, "extensions", file] if file.ends_with(".json"))
}

/// Where the start-up probe puts its object.
pub fn probe(name: &str) -> String {
    format!("v1/probe/{name}")
}
