//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

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
    #[arg(long, env = "CASELOCK_SERVER", value_delimiter = ',', required = true)]
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
