//! What a run recorded: a line of JSON that says how many recordings it is of, then one of each, written as it ends, so that it can be
//! checked again.

use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    path::Path,
};

use anyhow::Context;
use caselock_domain::receipt::Envelope;
use serde::{Deserialize, Serialize};

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    /// Of how many recordings the run is.
    recordings: usize,
}

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
    /// A new file, of a run of so many recordings.
    pub fn create(path: &Path, recordings: usize) -> anyhow::Result<Self> {
        let mut record = File::create(path).map(Self).with_context(|| format!("make {}", path.display()))?;
        record.write(&Head { recordings })?;
        Ok(record)
    }

    /// Adds a line.
    pub fn add(&mut self, line: &Line) -> anyhow::Result<()> {
        self.write(line)
    }

    fn write(&mut self, line: &impl Serialize) -> anyhow::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        Ok(self.0.write_all(&text)?)
    }
}

/// Reads a run's lines, and of how many recordings it is.
pub fn read(path: &Path) -> anyhow::Result<(usize, Vec<Line>)> {
    let file = File::open(path).with_context(|| format!("read {}", path.display()))?;
    let mut lines = BufReader::new(file).lines().enumerate();
    let at = |number: usize| format!("{}: line {}", path.display(), number + 1);
    let head = lines.next().with_context(|| format!("{} is empty", path.display()))?.1?;
    let Head { recordings } = serde_json::from_str(&head).with_context(|| at(0))?;
    let parse =
        |(number, line): (usize, std::io::Result<String>)| serde_json::from_str(&line?).with_context(|| at(number));
    Ok((recordings, lines.map(parse).collect::<anyhow::Result<_>>()?))
}
