//! The command line.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand};

use crate::bwlimit::Timetable;

/// Uploads enforcement footage and keeps the custody receipts.
///
/// Exit codes: 0 everything is stored; 1 internal error; 2 wrong usage; 3 something was held back or refused;
/// 5 something failed for a reason that passes, run the same command again.
#[derive(Parser)]
#[command(name = "caselock", version, about, long_about)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
    /// Says more on standard error.
    #[arg(long, short, global = true)]
    verbose: bool,
    /// The language of help and messages: en or zh; by default what LANG says.
    #[arg(long, global = true, value_parser = ["en", "zh"])]
    pub lang: Option<String>,
}

impl Arguments {
    pub fn log_level(&self) -> tracing_subscriber::filter::LevelFilter {
        use tracing_subscriber::filter::LevelFilter;
        if self.verbose { LevelFilter::DEBUG } else { LevelFilter::ERROR }
    }
}

#[derive(Subcommand)]
pub enum Command {
    /// Uploads files and folders, and waits for the receipts.
    Upload(Box<Upload>),
    /// Watches a folder, a docking PC's for example, and uploads each file once it is complete; for good.
    Watch(Box<Watch>),
    /// Lists what the journal knows: files, recordings, receipts.
    Status(Status),
    /// Checks receipts.
    #[command(subcommand)]
    Receipt(Receipt),
    /// Cases: opens, amends, closes and shows them, and says what is evidence in them.
    #[command(subcommand)]
    Case(Case),
    /// Finds stored recordings.
    Find(Box<Find>),
    /// By when recordings must be stored (Article 13): two working days after the process on the site ended.
    #[command(subcommand)]
    Deadlines(Deadlines),
    /// For the archive: what has run out, and its removal.
    #[command(subcommand)]
    Dispose(Dispose),
}

#[derive(Args)]
pub struct Upload {
    /// Files and folders.
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
    #[command(flatten)]
    pub session: Session,
    /// Says what would be uploaded, as what, and sends nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Writes the result of each file to a CSV file.
    #[arg(long, value_name = "FILE")]
    pub result: Option<PathBuf>,
}

#[derive(Args)]
pub struct Watch {
    /// The folder to watch.
    pub folder: PathBuf,
    #[command(flatten)]
    pub session: Session,
    /// Seconds a file's size and time must rest before it is taken.
    #[arg(long, default_value_t = 10)]
    pub settle: u64,
    /// Seconds between two looks into the folder. Network shares tell nothing by themselves.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    pub every: u64,
}

/// What `upload` and `watch` share.
#[derive(Args)]
pub struct Session {
    #[command(flatten)]
    pub connection: Connection,
    /// Sets one field for all files, for example --set unit=综合监督科. Names as in the manifest.
    #[arg(long, value_name = "FIELD=VALUE")]
    pub set: Vec<String>,
    /// A regular expression for a device's file names, its named groups being fields, for example
    /// `(?P<device_id>DSJ\d+)_(?P<recorded_started_at>\d+)`. May be given several times: the first that matches counts.
    #[arg(long, value_name = "REGEX")]
    pub template: Vec<String>,
    /// A CSV (UTF-8, with BOM, or GBK) or JSON file with a row for each file: its name and its metadata.
    #[arg(long, value_name = "FILE")]
    pub manifest: Option<PathBuf>,
    /// Files uploaded at once.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub parallel: u16,
    /// Prints one JSON object per event instead of text.
    #[arg(long)]
    pub json: bool,
    /// Seconds to go on without any success before giving up for now.
    #[arg(long, default_value_t = 600)]
    pub patience: u64,
    /// Limits the bytes a second, in rclone's grammar: 10M, or a timetable such as "08:00,512k 18:00,10M 23:00,off".
    #[arg(long, value_name = "RATE", value_parser = str::parse::<Timetable>)]
    pub bwlimit: Option<Timetable>,
    /// Deletes a file from the device once its receipt was verified, the gateway has said again that it is stored, and the
    /// file was hashed anew.
    #[arg(long)]
    pub delete_source: bool,
}

#[derive(Args)]
pub struct Connection {
    /// The gateway, for example `https://caselock.example:7443`. May be given several times: they are used in turn.
    #[arg(long, env = "CASELOCK_SERVER", value_delimiter = ',', required = true, value_parser = address)]
    pub server: Vec<String>,
    /// The CA of the gateway's certificate (PEM).
    #[arg(long, env = "CASELOCK_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// The bureau's certificate (PEM).
    #[arg(long, env = "CASELOCK_CERT", value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// The bureau's private key (PEM).
    #[arg(long, env = "CASELOCK_KEY", value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// Public keys that receipts are signed with (PEM, several in a file).
    #[arg(long, env = "CASELOCK_RECEIPT_KEYS", value_name = "FILE", required = true)]
    pub receipt_keys: Option<PathBuf>,
    /// The folder of the journal and the receipts. Never on the device itself.
    #[arg(long, env = "CASELOCK_JOURNAL", value_name = "DIR")]
    pub journal: Option<PathBuf>,
}

#[derive(Args)]
pub struct Status {
    /// The folder of the journal.
    #[arg(long, env = "CASELOCK_JOURNAL", value_name = "DIR")]
    pub journal: Option<PathBuf>,
    /// Prints one JSON object per file.
    #[arg(long)]
    pub json: bool,
}

#[derive(Subcommand)]
pub enum Receipt {
    /// Checks receipts against the public keys and, where given, against files.
    Verify(Verify),
}

#[derive(Args)]
pub struct Verify {
    /// Receipts (JSON), as kept in the journal's folder.
    #[arg(required = true)]
    pub receipts: Vec<PathBuf>,
    /// Public keys (PEM, several in a file).
    #[arg(long, env = "CASELOCK_RECEIPT_KEYS", value_name = "FILE")]
    pub receipt_keys: PathBuf,
    /// The file the receipt is to vouch for: its size and BLAKE3 are compared.
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// How to reach the registry, and how its answers are shown.
#[derive(Args)]
pub struct Registry {
    /// The registry, for example `https://caselock.example:7444`.
    #[arg(long, env = "CASELOCK_REGISTRY", value_parser = address)]
    pub registry: String,
    /// The CA of the registry's certificate (PEM).
    #[arg(long, env = "CASELOCK_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// The bureau's or the operator's certificate (PEM).
    #[arg(long, env = "CASELOCK_CERT", value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// Its private key (PEM).
    #[arg(long, env = "CASELOCK_KEY", value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// The bureau that is meant: an operator names it.
    #[arg(long, env = "CASELOCK_BUREAU", default_value = "", hide_default_value = true)]
    pub bureau: String,
    /// Prints one JSON object per line. Otherwise a table on a terminal, and CSV elsewhere.
    #[arg(long)]
    pub json: bool,
}

#[derive(Subcommand)]
pub enum Case {
    /// Opens a case. Recordings that were uploaded for its number belong to it from the beginning.
    Open(OpenCase),
    /// Adds what is known better now: party, cause, whether everything had to be recorded.
    Amend(AmendCase),
    /// Makes stored recordings evidence in a case.
    Bind(BindCase),
    /// Closes a case: its recordings are locked until the end of its class's period.
    Close(CloseCase),
    /// Reopens a case: its recordings are held again.
    Reopen(ReopenCase),
    /// Adds a note of what could not be recorded, and why (Article 11).
    Note(NoteCase),
    /// Shows a case and its record.
    Show(ShowCase),
    /// Lists cases.
    List(ListCases),
    /// Opens, amends and closes cases from a CSV file (UTF-8, with BOM, or GBK).
    Import(ImportCases),
}

#[derive(Args)]
pub struct OpenCase {
    /// The case's number.
    pub number: String,
    #[command(flatten)]
    pub registry: Registry,
    /// 当事人.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub party: String,
    /// 案由.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub cause: String,
    /// The whole process has to be recorded (Article 8).
    #[arg(long)]
    pub full_recording_required: bool,
}

#[derive(Args)]
#[command(group(ArgGroup::new("known").args(["party", "cause", "full_recording_required"]).required(true).multiple(true)))]
pub struct AmendCase {
    /// The case's number.
    pub number: String,
    #[command(flatten)]
    pub registry: Registry,
    /// 当事人.
    #[arg(long)]
    pub party: Option<String>,
    /// 案由.
    #[arg(long)]
    pub cause: Option<String>,
    /// Whether the whole process has to be recorded (Article 8): yes or no.
    #[arg(long, value_name = "YES|NO")]
    pub full_recording_required: Option<String>,
}

#[derive(Args)]
pub struct BindCase {
    /// The case's number.
    pub number: String,
    /// Ids of recordings.
    #[arg(required = true)]
    pub recordings: Vec<String>,
    #[command(flatten)]
    pub registry: Registry,
}

#[derive(Args)]
pub struct CloseCase {
    /// The case's number.
    pub number: String,
    #[command(flatten)]
    pub registry: Registry,
    /// The class: 10y, 30y or permanent, unless the registry knows others.
    #[arg(long)]
    pub class: String,
    /// The day it was closed, as 2026-03-31; today if it is not given.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "DAY")]
    pub on: String,
}

#[derive(Args)]
pub struct ReopenCase {
    /// The case's number.
    pub number: String,
    #[command(flatten)]
    pub registry: Registry,
    /// Why.
    #[arg(long)]
    pub reason: String,
}

#[derive(Args)]
pub struct NoteCase {
    /// The case's number.
    pub number: String,
    #[command(flatten)]
    pub registry: Registry,
    /// Why recording was impossible.
    #[arg(long)]
    pub reason: String,
    /// Who says so.
    #[arg(long)]
    pub author: String,
    /// 本机构主要负责人, who reviewed it.
    #[arg(long)]
    pub reviewer: String,
}

#[derive(Args)]
pub struct ShowCase {
    /// The case's number.
    pub number: String,
    #[command(flatten)]
    pub registry: Registry,
}

#[derive(Args)]
pub struct ListCases {
    #[command(flatten)]
    pub registry: Registry,
    /// Only those that stand so.
    #[arg(long, value_parser = ["open", "closed", "permanent"])]
    pub status: Option<String>,
    /// Only those that are flagged so.
    #[arg(long, value_parser = ["footage_missing"])]
    pub flag: Option<String>,
}

#[derive(Args)]
pub struct ImportCases {
    /// The CSV file. Columns: number, party, cause, full_recording_required, class, closed_on; in Chinese 案号, 当事人, 案由,
    /// 全程记录, 结案类别, 结案日期.
    pub file: PathBuf,
    #[command(flatten)]
    pub registry: Registry,
}

/// All that is given must hold; texts must agree whole.
#[derive(Args)]
pub struct Find {
    #[command(flatten)]
    pub registry: Registry,
    /// 科室.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub unit: String,
    /// 设备编号.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub device_id: String,
    /// 执法人员.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub officer: String,
    /// 使用时间: not before, for example 2026-02-13 or 2026-02-13T09:30:00+08:00.
    #[arg(long, value_name = "TIME")]
    pub used_from: Option<String>,
    /// 使用时间: before.
    #[arg(long, value_name = "TIME")]
    pub used_before: Option<String>,
    /// 当事人.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub party: String,
    /// 案由.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub cause: String,
    /// The case's number.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub case_number: String,
    /// This recording alone.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub recording: String,
    /// Only those that are flagged so.
    #[arg(long, value_parser = ["document_times", "notice_missing", "clock_wrong", "late", "sequence_gap", "case_never_opened"])]
    pub flag: Option<String>,
    /// Only those that were stored so: before the deadline, within an extension, or after both.
    #[arg(long, value_parser = ["on_time", "extended", "late"])]
    pub deadline: Option<String>,
    /// Only those that reading back found so; pending is not read back yet.
    #[arg(long, value_parser = ["pending", "intact", "damaged"])]
    pub verification: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 1000, allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
}

#[derive(Subcommand)]
pub enum Deadlines {
    /// Lists them, the earliest first: of what was announced, opened or stored.
    List(ListDeadlines),
    /// Extends them: approved by 机构主管领导, with the reason.
    Extend(ExtendDeadlines),
}

#[derive(Args)]
pub struct ListDeadlines {
    #[command(flatten)]
    pub registry: Registry,
    /// Only those that stand so.
    #[arg(long, value_parser = ["awaited", "on_time", "extended", "late", "overdue"])]
    pub standing: Option<String>,
    /// This recording alone.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub recording: String,
    /// At most so many.
    #[arg(long, default_value_t = 1000, allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
}

#[derive(Args)]
pub struct ExtendDeadlines {
    /// Ids of recordings.
    #[arg(required = true)]
    pub recordings: Vec<String>,
    #[command(flatten)]
    pub registry: Registry,
    /// To when, for example 2026-03-06 (the end of that day) or 2026-03-06T12:00:00+08:00.
    #[arg(long, value_name = "TIME")]
    pub until: String,
    /// 机构主管领导, who approved it.
    #[arg(long)]
    pub approver: String,
    /// Why.
    #[arg(long)]
    pub reason: String,
}

#[derive(Subcommand)]
pub enum Dispose {
    /// Lists recordings whose retention has run out, and what it followed from. Removes nothing.
    List(ListDisposable),
    /// Removes recordings whose retention has run out, for good. Of each a record stays. Whatever may not go is refused.
    Run(RunDisposal),
}

#[derive(Args)]
pub struct ListDisposable {
    #[command(flatten)]
    pub registry: Registry,
    /// At most so many.
    #[arg(long, default_value_t = 1000, allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
}

#[derive(Args)]
pub struct RunDisposal {
    /// Ids of recordings.
    pub recordings: Vec<String>,
    #[command(flatten)]
    pub registry: Registry,
    /// A file with an id in each line, or the CSV that `dispose list` printed.
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// Why, for the record.
    #[arg(long)]
    pub reason: String,
}

/// An address with its scheme: one that can never be reached is no passing trouble.
fn address(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or_default();
    let rest = rest.trim_end_matches('/');
    let is_host = !rest.is_empty() && !rest.contains(|c: char| c.is_whitespace() || "/?#@".contains(c));
    is_host.then(|| text.to_owned()).ok_or_else(|| "expected https://HOST:PORT".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_scheme_and_a_host() {
        for good in ["https://archive.example:7443", "http://127.0.0.1:1", "https://[::1]:7443", "https://a.example:1/"]
        {
            assert_eq!(address(good).as_deref(), Ok(good));
        }
        for bad in
            ["", "127.0.0.1:1", "ftp://x", "https://", "https:///x", "https://a/b", "https://a b", "archive.example"]
        {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
