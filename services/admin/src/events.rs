//! The public events: shown, and told once more.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use caselock_log::{Entry, Log, Topic, read_to_end};
use caselock_log_kafka::{KafkaConfig, KafkaLog};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::{Value, json};

#[derive(Subcommand)]
pub enum Command {
    /// Prints events, one JSON object on a line: where it lies, its headers, and its payload's length.
    Show(Range),
    /// Appends events again, as they are, at the end of their partitions: for those who missed them and can't go back. Whoever has them
    /// knows them by `ce_id`. What is told twice is told so to all consumers.
    Replay(Range),
}

/// Which events. All that is named must hold.
#[derive(Args)]
pub struct Range {
    /// Of this partition.
    #[arg(long)]
    partition: Option<u32>,
    /// From this offset on.
    #[arg(long, requires = "partition")]
    from: Option<u64>,
    /// Before this offset.
    #[arg(long, requires = "partition")]
    before: Option<u64>,
    /// Of what happened at or after this moment (RFC 3339).
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Of what happened before this moment.
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    /// About this recording or case.
    #[arg(long, value_name = "ID")]
    subject: Option<String>,
    /// Of this type, for example io.caselock.recording.stored.v1
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
}

impl Range {
    fn is_bounded(&self) -> bool {
        self.subject.is_some() || self.before.is_some() || self.until.is_some()
    }

    fn has(&self, event: &Entry) -> bool {
        let at = || header(event, "ce_time").and_then(|text| text.parse::<Timestamp>().ok());
        self.partition.is_none_or(|partition| partition == event.partition)
            && self.from.is_none_or(|from| event.offset >= from)
            && self.before.is_none_or(|before| event.offset < before)
            && self.since.is_none_or(|since| at().is_some_and(|at| at >= since))
            && self.until.is_none_or(|until| at().is_some_and(|at| at < until))
            && self.subject.as_deref().is_none_or(|subject| header(event, "ce_subject").as_deref() == Some(subject))
            && self.kind.as_deref().is_none_or(|kind| header(event, "ce_type").as_deref() == Some(kind))
    }
}

pub async fn run(config: &KafkaConfig, command: &Command) -> anyhow::Result<()> {
    let log = KafkaLog::open(config).await?;
    match command {
        Command::Show(range) => {
            read_to_end(&*log, Topic::Events, |event| {
                if range.has(&event) {
                    println!("{}", describe(&event));
                }
            })
            .await?;
        }
        Command::Replay(range) => {
            // Else what is told again would be told again by the next.
            ensure!(range.is_bounded(), "say where it ends: --subject, --before or --until");
            let (mut wanted, mut known) = (Vec::new(), BTreeSet::new());
            read_to_end(&*log, Topic::Events, |event| {
                // Of those that were told twice already, one.
                if range.has(&event) && known.insert((header(&event, "ce_source"), header(&event, "ce_id"))) {
                    wanted.push(event);
                }
            })
            .await?;
            let count = wanted.len();
            ensure!(count > 0, "no event is so: nothing was told again");
            for event in wanted {
                let Entry { partition, offset, record } = event;
                let appended = log.append(Topic::Events, partition, record).await;
                appended.with_context(|| format!("tell {partition}/{offset} again: those before it were"))?;
            }
            println!("{count} events told again");
        }
    }
    Ok(())
}

fn header(event: &Entry, name: &str) -> Option<String> {
    event.record.header_value(name).map(|value| String::from_utf8_lossy(value).into_owned())
}

fn describe(event: &Entry) -> Value {
    let headers =
        event.record.headers.iter().map(|(name, value)| (name.clone(), Value::from(String::from_utf8_lossy(value))));
    json!({
        "partition": event.partition,
        "offset": event.offset,
        "key": String::from_utf8_lossy(&event.record.key),
        "headers": headers.collect::<serde_json::Map<_, _>>(),
        "bytes": event.record.payload_len(),
    })
}
