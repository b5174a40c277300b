//! What of the registry's state is told as numbers: read anew now and then, however often metrics are asked for.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use caselock_domain::time::{Clock, Timestamp};
use caselock_log::{Followed, Log, LogError, Offset, OpenLetters, Topic};
use jiff::SignedDuration;
use opentelemetry::{KeyValue, global};
use sqlx::Row;
use tokio_util::sync::CancellationToken;

use crate::{Db, RegistryError, Rules};

/// How often the database is asked.
const LOOK: Duration = Duration::from_secs(15);
/// How long a subject that is due may wait for its turn before it counts as overdue.
const TURN: SignedDuration = SignedDuration::from_mins(10);
/// Beyond so many overdue subjects they are not counted further.
const ENOUGH: i64 = 100_000;
/// How long to wait before following again after an error.
const PAUSE: Duration = Duration::from_secs(5);

/// A number, by how its deadline stands where it has one.
type Numbers = BTreeMap<(&'static str, Option<&'static str>), u64>;

/// What is told.
pub struct Gauges {
    pub db: Db,
    pub log: Arc<dyn Log>,
    pub clock: Clock,
    pub rules: Arc<Rules>,
}

/// Recordings that are announced or opened and not stored: their deadline is far, near, or was missed.
const AWAITED: &str = "caselock_registry_recordings_awaited";
/// Recordings and records of cases that could not be brought to what the rule says, or not compared with it, when they were looked at last.
const UNDER_RETAINED: &str = "caselock_registry_under_retained";
/// Those that should have been looked at ten minutes ago.
const OVERDUE: &str = "caselock_registry_looks_overdue";
/// Events that are to be published.
const OUTBOX: &str = "caselock_registry_outbox_events";
/// Dead letters that nobody has handled.
const LETTERS: &str = "caselock_dead_letters_open";

impl Gauges {
    /// Tells of them until `stop`. What can't be read has no number.
    pub async fn run(self, stop: CancellationToken) {
        let numbers = Arc::new(Mutex::new(Numbers::new()));
        for name in [AWAITED, UNDER_RETAINED, OVERDUE, OUTBOX, LETTERS] {
            let numbers = Arc::downgrade(&numbers);
            let meter = global::meter("caselock-registry");
            let observed = meter.u64_observable_gauge(name).with_callback(move |observer| {
                let Some(numbers) = numbers.upgrade() else { return };
                let numbers = numbers.lock().unwrap_or_else(PoisonError::into_inner);
                for ((_, deadline), number) in numbers.iter().filter(|((of, _), _)| *of == name) {
                    let label = deadline.map(|deadline| KeyValue::new("deadline", deadline));
                    observer.observe(*number, label.as_slice());
                }
            });
            // The meter keeps it.
            let _gauge = observed.build();
        }
        let work = async { tokio::join!(self.look(&numbers), self.follow_letters(&numbers)) };
        stop.run_until_cancelled(work).await;
    }

    async fn look(&self, numbers: &Mutex<Numbers>) {
        loop {
            let read = self.read((self.clock)()).await;
            {
                let mut numbers = numbers.lock().unwrap_or_else(PoisonError::into_inner);
                numbers.retain(|(name, _), _| *name == LETTERS);
                match read {
                    Ok(read) => numbers.extend(read),
                    Err(error) => tracing::warn!(%error, "the registry's numbers can't be read; trying again"),
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn read(&self, now: Timestamp) -> Result<Numbers, RegistryError> {
        let near = now.checked_add(self.rules.near)?.as_second();
        let (since, now) = (now.checked_sub(TURN)?.as_second(), now.as_second());
        let not_stored = "SELECT COUNT(*) FROM deadlines WHERE stored_at IS NULL AND last_moment";
        let missed = self.count(&format!("{not_stored} < $1"), now).await?;
        let failing = "SELECT COUNT(*) FROM locks WHERE failing_since IS NOT NULL AND failing_since <= $1";
        let overdue = format!("SELECT COUNT(*) FROM (SELECT 1 FROM locks WHERE look_at <= $1 LIMIT {ENOUGH}) AS due");
        Ok(Numbers::from([
            ((AWAITED, Some("missed")), missed),
            ((AWAITED, Some("near")), self.count(&format!("{not_stored} <= $1"), near).await?.saturating_sub(missed)),
            ((AWAITED, Some("far")), self.count(&format!("{not_stored} > $1"), near).await?),
            ((UNDER_RETAINED, None), self.count(failing, now).await?),
            ((OVERDUE, None), self.count(&overdue, since).await?),
            ((OUTBOX, None), self.count("SELECT COUNT(*) FROM outbox WHERE seq <= $1", i64::MAX).await?),
        ]))
    }

    async fn count(&self, statement: &str, bound: i64) -> Result<u64, RegistryError> {
        // Made of nothing but the words above.
        let row = sqlx::query(sqlx::AssertSqlSafe(statement.to_owned())).bind(bound).fetch_one(self.db.pool()).await?;
        Ok(row.try_get::<i64, _>(0)? as u64)
    }

    async fn follow_letters(&self, numbers: &Mutex<Numbers>) {
        let mut open = OpenLetters::<()>::default();
        let mut positions: BTreeMap<u32, Offset> =
            (0..self.log.partitions(Topic::DeadLetters)).map(|partition| (partition, 0)).collect();
        loop {
            let failed = self.follow(&mut open, &mut positions, numbers).await;
            tracing::warn!(error = %failed, "following dead letters failed; trying again");
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn follow(
        &self,
        open: &mut OpenLetters<()>,
        positions: &mut BTreeMap<u32, Offset>,
        numbers: &Mutex<Numbers>,
    ) -> LogError {
        let from = positions.iter().map(|(partition, position)| (*partition, *position)).collect();
        let mut follower = match self.log.follow(Topic::DeadLetters, from).await {
            Ok(follower) => follower,
            Err(error) => return error,
        };
        loop {
            match follower.recv().await {
                Some(Ok(Followed::Entry(entry))) => {
                    positions.insert(entry.partition, entry.offset + 1);
                    open.apply(entry, drop);
                }
                Some(Ok(Followed::End { .. })) => {
                    let count = open.iter().count() as u64;
                    numbers.lock().unwrap_or_else(PoisonError::into_inner).insert((LETTERS, None), count);
                }
                Some(Err(error)) => return error,
                None => return LogError::Unavailable("the follower ended".into()),
            }
        }
    }
}
