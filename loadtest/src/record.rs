//! What a run recorded of each recording: a line of JSON, written as it ends, so that it can be checked again.

use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    path::Path,
};

use anyhow::Context;
use caselock_domain::receipt::Envelope;
use serde::{Deserialize, Serialize};

/// One recording. Times are seconds from the run's start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Line {
    /// The bureau.
    pub bureau: String,
    /// Its idempotency key.
    pub key: String,
    /// Whether its case is named, so that it must be held.
    pub has_case: bool,
    /// In bytes.
    pub size: u64,
    /// Of the file that was uploaded, in hex.
    pub blake3: String,
    /// When it should have begun.
    pub due: f64,
    /// When it did.
    pub began: f64,
    /// When everything was acknowledged.
    pub accepted: Option<f64>,
    /// When its receipt was verified.
    pub receipted: Option<f64>,
    /// The receipt.
    pub receipt: Option<Envelope>,
    /// How often something failed and was tried again, or the gateway asked to wait.
    pub retries: u32,
    /// Why it is not stored.
    pub error: Option<String>,
}

/// The lines of a run, as they come.
pub struct Record(File);

impl Record {
    /// A new file.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        File::create(path).map(Self).with_context(|| format!("make {}", path.display()))
    }

    /// Adds a line.
    pub fn add(&mut self, line: &Line) -> anyhow::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        Ok(self.0.write_all(&text)?)
    }
}

/// Reads a run's lines.
pub fn read(path: &Path) -> anyhow::Result<Vec<Line>> {
    let file = File::open(path).with_context(|| format!("read {}", path.display()))?;
    let lines = BufReader::new(file).lines().enumerate();
    let parse = |(number, line): (usize, std::io::Result<String>)| {
        serde_json::from_str(&line?).with_context(|| format!("{}: line {}", path.display(), number + 1))
    };
    lines.map(parse).collect()
}
