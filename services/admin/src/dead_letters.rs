//! Dead letters: what could not be used, and what a person decided about it.

use std::{collections::BTreeMap, str::FromStr};

use anyhow::{Context, bail, ensure};
use caselock_domain::{dead_letter::RECORD, id::RecordingId, partition};
use caselock_log::{Entry, Log, OpenLetters, Record, Topic, append_handled, read_to_end};
use caselock_log_kafka::{KafkaConfig, KafkaLog};
use clap::{Args, Subcommand, builder::NonEmptyStringValueParser};
use serde_json::{Value, json};

#[derive(Subcommand)]
pub enum Command {
    /// Lists those that nobody has handled, one on a line, each with the name it goes by: PARTITION/OFFSET.
    List {
        /// As JSON objects, one on a line.
        #[arg(long)]
        json: bool,
    },
    /// Says all of one.
    Show {
        /// Which: PARTITION/OFFSET.
        letter: Place,
    },
    /// Has media do a job again, and notes that. A segment can't be given back, for its bytes are in no dead letter: they were asked for again
    /// from the bureau.
    Retry(Handle),
    /// Notes that nothing is to be done about them, and why.
    Drop(Handle),
}

#[derive(Args)]
pub struct Handle {
    /// Which: PARTITION/OFFSET.
    #[arg(required = true)]
    letters: Vec<Place>,
    /// Why, for those who come later.
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    reason: String,
    /// Who decides it.
    #[arg(long, env = "USER", value_parser = NonEmptyStringValueParser::new())]
    by: String,
}

/// Where a dead letter lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(u32, u64);

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("{text:?}: expected PARTITION/OFFSET, as `dead-letters list` names them");
        let (partition, offset) = text.split_once('/').ok_or_else(expected)?;
        Ok(Self(partition.parse().map_err(|_| expected())?, offset.parse().map_err(|_| expected())?))
    }
}

pub async fn run(config: &KafkaConfig, command: &Command) -> anyhow::Result<()> {
    let log = KafkaLog::open(config).await?;
    let open = open(&*log).await?;
    match command {
        Command::List { json } => {
            for letter in open.values() {
                println!("{}", if *json { describe(letter).to_string() } else { line(letter) });
            }
        }
        Command::Show { letter } => println!("{:#}", describe(find(&open, *letter)?)),
        Command::Retry(handle) => {
            // All of them can be, or nothing is done.
            let letters = found(&open, &handle.letters)?;
            let jobs = letters.iter().map(|letter| job(letter)).collect::<anyhow::Result<Vec<_>>>()?;
            for (letter, (id, record)) in letters.into_iter().zip(jobs) {
                let partition = partition::of(id, log.partitions(Topic::MediaJobs));
                // Twice does nothing more than once: what media has made, it finds.
                log.append(Topic::MediaJobs, partition, record).await.context("give the job back")?;
                append_handled(&*log, letter, "retried", &handle.reason, &handle.by).await?;
                println!("{}: given back to media", name(letter));
            }
        }
        Command::Drop(handle) => {
            for letter in found(&open, &handle.letters)? {
                append_handled(&*log, letter, "dropped", &handle.reason, &handle.by).await?;
                println!("{}: dropped", name(letter));
            }
        }
    }
    Ok(())
}

async fn open(log: &dyn Log) -> anyhow::Result<BTreeMap<Place, Entry>> {
    let mut open = OpenLetters::default();
    read_to_end(log, Topic::DeadLetters, |entry| open.apply(entry, |entry| entry)).await?;
    Ok(open.into_all().into_iter().map(|((partition, offset), entry)| (Place(partition, offset), entry)).collect())
}

fn find(open: &BTreeMap<Place, Entry>, place: Place) -> anyhow::Result<&Entry> {
    let Place(partition, offset) = place;
    open.get(&place)
        .with_context(|| format!("{partition}/{offset} is no dead letter that waits: see `dead-letters list`"))
}

fn found<'a>(open: &'a BTreeMap<Place, Entry>, places: &[Place]) -> anyhow::Result<Vec<&'a Entry>> {
    places.iter().map(|place| find(open, *place)).collect()
}

/// The job that a letter stands for.
fn job(letter: &Entry) -> anyhow::Result<(RecordingId, Record)> {
    let topic = header(letter, "cl-topic");
    if topic != Topic::MediaJobs.name() {
        bail!(
            "{} is of {topic}: its bytes were asked for again from the bureau. `uploads show {}` says how that stands; then drop it",
            name(letter),
            String::from_utf8_lossy(&letter.record.key)
        );
    }
    let payload = letter.record.header_value(RECORD);
    let payload = payload.with_context(|| format!("{} does not have its job with it", name(letter)))?;
    ensure!(!payload.is_empty(), "{}: its job is empty", name(letter));
    let id = String::from_utf8_lossy(&letter.record.key).parse();
    let id = id.map_err(|_| anyhow::anyhow!("{}: its key is no recording's", name(letter)))?;
    Ok((id, Record::new(letter.record.key.clone(), payload.clone()).header("cl-schema", "1")))
}

fn name(letter: &Entry) -> String {
    format!("{}/{}", letter.partition, letter.offset)
}

fn header(letter: &Entry, name: &str) -> String {
    letter.record.header_value(name).map(|value| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
}

fn line(letter: &Entry) -> String {
    let key = String::from_utf8_lossy(&letter.record.key);
    let detail = String::from_utf8_lossy(letter.record.payload.as_deref().unwrap_or_default());
    format!("{} {} of {key} in {}: {detail}", name(letter), header(letter, "cl-reason"), header(letter, "cl-topic"))
}

fn describe(letter: &Entry) -> Value {
    let headers = letter.record.headers.iter().filter(|(name, _)| name != RECORD);
    let headers = headers.map(|(name, value)| (name.clone(), Value::from(String::from_utf8_lossy(value))));
    json!({
        "letter": name(letter),
        "key": String::from_utf8_lossy(&letter.record.key),
        "headers": headers.collect::<serde_json::Map<_, _>>(),
        "detail": String::from_utf8_lossy(letter.record.payload.as_deref().unwrap_or_default()),
    })
}
