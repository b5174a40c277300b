//! The journal: which file is which recording, and its receipt. Kept on the docking PC, never on the device.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use anyhow::Context;
use caselock_client::{Stamp, Uploaded};
use caselock_domain::receipt::Envelope;
use serde::{Deserialize, Serialize};

/// One stored file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    /// Where it lay.
    #[serde(with = "crate::names")]
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// Its modification time, nanoseconds since 1970.
    pub modified: i128,
    /// What its size, beginning and end say of its content: a recorder with a dead clock repeats names, sizes and times.
    #[serde(default)]
    pub content: String,
    /// The bureau's recording.
    pub recording_id: String,
    /// The BLAKE3, in hex.
    pub blake3: String,
    /// Until when the original is locked.
    pub locked_until: String,
    /// The receipt's file in the journal's folder.
    pub receipt: String,
}

/// The journal's folder.
pub struct Journal {
    dir: PathBuf,
    lines: Mutex<File>,
    known: Mutex<HashMap<PathBuf, Entry>>,
}

impl Journal {
    /// Where the journal lies unless told otherwise.
    pub fn default_dir() -> anyhow::Result<PathBuf> {
        let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
        let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
        Ok(state.or(home).context("name a folder with --journal: there is no HOME")?.join("caselock"))
    }

    /// Opens the journal, or begins one.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        let open = || -> io::Result<(File, HashMap<PathBuf, Entry>)> {
            fs::create_dir_all(dir.join("receipts"))?;
            let path = dir.join("journal.jsonl");
            let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            // A line that was cut off by a crash must not swallow the next.
            if !text.is_empty() && !text.ends_with('\n') {
                file.write_all(b"\n")?;
            }
            Ok((file, entries(&text)))
        };
        let (file, known) = open().with_context(|| format!("open the journal in {}", dir.display()))?;
        Ok(Self { dir: dir.to_owned(), lines: Mutex::new(file), known: Mutex::new(known) })
    }

    /// The entry of a file that is still as it was when it was stored.
    pub fn find(&self, path: &Path, stamp: &Stamp, content: &str) -> Option<Entry> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = known.get(path).filter(|entry| entry.content == content)?;
        if (entry.size, entry.modified) != (stamp.size, stamp.modified) {
            return None;
        }
        self.dir.join(&entry.receipt).is_file().then(|| entry.clone())
    }

    /// Every entry, by path.
    pub fn entries(&self) -> Vec<Entry> {
        let mut all: Vec<_> = self.known.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        all.sort_by(|a, b| a.path.cmp(&b.path));
        all
    }

    /// Keeps the receipt of a stored file; durable when it returns.
    pub fn keep(&self, path: &Path, stamp: &Stamp, content: String, uploaded: &Uploaded) -> anyhow::Result<Entry> {
        let payload = &uploaded.payload;
        let name = format!("receipts/{}.{}.json", payload.recording_id, payload.generation);
        let envelope = serde_json::to_vec_pretty(&Envelope::from(&uploaded.receipt))?;
        let entry = Entry {
            path: path.to_owned(),
            size: stamp.size,
            modified: stamp.modified,
            content,
            recording_id: payload.recording_id.to_string(),
            blake3: payload.blake3.to_hex(),
            locked_until: payload.locked_until.to_string(),
            receipt: name.clone(),
        };
        let mut line = serde_json::to_vec(&entry)?;
        line.push(b'\n');
        let write = || -> io::Result<()> {
            let target = self.dir.join(&name);
            let partial = target.with_extension("new");
            let mut file = File::create(&partial)?;
            file.write_all(&envelope)?;
            file.sync_all()?;
            fs::rename(partial, &target)?;
            File::open(self.dir.join("receipts"))?.sync_all()?;
            let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            lines.write_all(&line)?;
            lines.sync_all()
        };
        write().with_context(|| format!("write the journal in {}", self.dir.display()))?;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(entry.path.clone(), entry.clone());
        Ok(entry)
    }

    /// The receipt's file.
    pub fn receipt_path(&self, entry: &Entry) -> PathBuf {
        self.dir.join(&entry.receipt)
    }
}

/// Lines that were cut off are passed over: their files are asked of the gateway again.
fn entries(text: &str) -> HashMap<PathBuf, Entry> {
    let entries = text.lines().filter_map(|line| serde_json::from_str::<Entry>(line).ok());
    entries.map(|entry| (entry.path.clone(), entry)).collect()
}
