//! What processes use, looked at every half second: processor time, memory; and how much is acknowledged and not receipted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde::Serialize;
use tokio::{sync::oneshot, task::JoinHandle};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(500);

/// A process that is looked at.
#[derive(Debug, Clone)]
pub struct Process {
    /// What it is called.
    pub name: String,
    /// Its process id.
    pub id: u32,
}

impl std::str::FromStr for Process {
    type Err = String;

    /// `NAME=PID`.
    fn from_str(text: &str) -> Result<Self, String> {
        let pair = text.split_once('=').and_then(|(name, id)| Some(Self { name: name.into(), id: id.parse().ok()? }));
        pair.ok_or_else(|| "expected NAME=PID".to_owned())
    }
}

impl Process {
    /// This process.
    pub fn own(name: &str) -> Self {
        Self { name: name.to_owned(), id: std::process::id() }
    }

    /// Processor seconds so far, and resident bytes; nothing of one that has ended.
    fn now(&self) -> Option<(f64, u64)> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id)).ok()?;
        // The name in parentheses may hold anything; after it come the state and, as the 14th and 15th field of all, user and
        // system time, in clock ticks; as the 24th, resident pages.
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let number = |place: usize| fields.get(place - 3)?.parse::<u64>().ok();
        let ticks = number(14)? + number(15)?;
        let seconds = ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
        Some((seconds, number(24)? * rustix::param::page_size() as u64))
    }
}

/// Bytes as the clients see them.
#[derive(Debug, Default)]
pub struct Counts {
    /// Acknowledged.
    pub accepted: AtomicU64,
    /// Of recordings with a receipt.
    pub receipted: AtomicU64,
    /// Recordings that have begun and not ended.
    pub under_way: AtomicI64,
}

/// One look.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    /// Seconds from the run's start.
    pub at: f64,
    /// Bytes acknowledged so far.
    pub accepted: u64,
    /// Bytes receipted so far.
    pub receipted: u64,
    /// Recordings under way.
    pub under_way: i64,
    /// Of each process, in the order given: processor seconds since the start, resident bytes.
    pub processes: Vec<(f64, u64)>,
}

/// What a run's processes used.
#[derive(Debug, Serialize)]
pub struct Usage {
    /// Their names.
    pub names: Vec<String>,
    /// The looks, the last one at the end.
    pub samples: Vec<Sample>,
}

/// Looks that go on until they are asked for.
pub struct Sampling {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Usage>,
}

impl Sampling {
    /// Begins.
    pub fn start(processes: Vec<Process>, counts: Arc<Counts>, from: Instant) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let before: Vec<_> = processes.iter().map(|process| process.now().unwrap_or_default().0).collect();
            let mut last = vec![(0.0, 0); processes.len()];
            let (mut samples, mut is_over) = (Vec::new(), false);
            loop {
                for ((process, before), last) in processes.iter().zip(&before).zip(&mut last) {
                    // Of one that was killed, what it had used by the last look counts.
                    if let Some((seconds, bytes)) = process.now() {
                        *last = (seconds - before, bytes);
                    }
                }
                samples.push(Sample {
                    at: from.elapsed().as_secs_f64(),
                    accepted: counts.accepted.load(Ordering::Relaxed),
                    receipted: counts.receipted.load(Ordering::Relaxed),
                    under_way: counts.under_way.load(Ordering::Relaxed),
                    processes: last.clone(),
                });
                if is_over {
                    break;
                }
                tokio::select! {
                    _ = &mut stopped => is_over = true,
                    () = tokio::time::sleep(EVERY) => {}
                }
            }
            Usage { names: processes.into_iter().map(|process| process.name).collect(), samples }
        });
        Self { stop, task }
    }

    /// Looks once more, and ends.
    pub async fn end(self) -> anyhow::Result<Usage> {
        drop(self.stop);
        Ok(self.task.await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_seen_to_work() {
        let own = Process::own("this");
        let (before, memory) = own.now().unwrap();
        let mut hash = blake3::hash(b"");
        while own.now().unwrap().0 < before + 0.05 {
            hash = blake3::hash(hash.as_bytes());
        }
        assert!(memory > 1 << 20, "{memory}");
        assert_eq!("a=b=7".parse::<Process>().map(|process| process.id), Err("expected NAME=PID".into()));
        assert_eq!("kafka=7".parse::<Process>().unwrap().id, 7);
    }
}
