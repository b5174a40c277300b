//! What of the registry's state is told as numbers: read anew now and then, however often metrics are asked for.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use caselock_domain::time::{Clock, Timestamp};
use caselock_log::{Followed, Log, LogError, Offset, OpenLetters, Topic};
use caselock_runtime::count::gauge;
use jiff::SignedDuration;
use opentelemetry::KeyValue;
use sqlx::{AssertSqlSafe, Row};
use tokio_util::sync::CancellationToken;

use crate::{Db, RegistryError, Rules};

/// How often the database is asked.
const LOOK: Duration = Duration::from_secs(15);
/// How long a subject that is due may wait for its turn before it counts as overdue.
const TURN: SignedDuration = SignedDuration::from_mins(10);
/// Beyond so many they are not counted further.
const ENOUGH: i64 = 100_000;
/// How long to wait before following again after an error.
const PAUSE: Duration = Duration::from_secs(5);

/// A number: its name, its labels, and how large it is.
type Number = (&'static str, Vec<KeyValue>, u64);

/// What is told now. What can't be read has no number.
#[derive(Default)]
struct Numbers {
    read: Vec<Number>,
    letters: Option<Number>,
}

/// What is told.
pub struct Gauges {
    pub db: Db,
    pub log: Arc<dyn Log>,
    pub clock: Clock,
    pub rules: Arc<Rules>,
}

/// Recordings that are announced or opened and not stored: their deadline is far, near, or was missed.
const AWAITED: &str = "caselock_registry_recordings_awaited";
/// How deadlines stand.
const DEADLINES: [&str; 3] = ["far", "near", "missed"];
/// Those, by bureau.
const BY_BUREAU: &str = "caselock_registry_bureau_recordings_awaited";
/// Recordings and records of cases that could not be brought to what the rule says, or not compared with it, when they were looked at last.
const UNDER_RETAINED: &str = "caselock_registry_under_retained";
/// Those that should have been looked at ten minutes ago.
const OVERDUE: &str = "caselock_registry_looks_overdue";
/// Events that are to be published.
const OUTBOX: &str = "caselock_registry_outbox_events";
/// Dead letters that nobody has handled.
const LETTERS: &str = "caselock_dead_letters_open";

impl Gauges {
    /// Tells of them until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let numbers = Arc::new(Mutex::new(Numbers::default()));
        for name in [AWAITED, BY_BUREAU, UNDER_RETAINED, OVERDUE, OUTBOX, LETTERS] {
            let numbers = Arc::downgrade(&numbers);
            gauge("caselock-registry", name, move |observer| {
                let Some(numbers) = numbers.upgrade() else { return };
                let numbers = numbers.lock().unwrap_or_else(PoisonError::into_inner);
                for (_, labels, number) in numbers.read.iter().chain(&numbers.letters).filter(|(of, ..)| *of == name) {
                    observer.observe(*number, labels);
                }
            });
        }
        let work = async { tokio::join!(self.look(&numbers), self.follow_letters(&numbers)) };
        stop.run_until_cancelled(work).await;
    }

    async fn look(&self, numbers: &Mutex<Numbers>) {
        loop {
            let read = self.read((self.clock)()).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "the registry's numbers can't be read; trying again");
                Vec::new()
            });
            numbers.lock().unwrap_or_else(PoisonError::into_inner).read = read;
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn read(&self, now: Timestamp) -> Result<Vec<Number>, RegistryError> {
        let mut numbers = self.awaited(now).await?;
        let since = now.checked_sub(TURN)?.as_second();
        for (name, rows, bound) in [
            (UNDER_RETAINED, "locks WHERE failing_since IS NOT NULL".to_owned(), None),
            (OVERDUE, format!("(SELECT 1 FROM locks WHERE look_at <= $1 LIMIT {ENOUGH}) AS due"), Some(since)),
            (OUTBOX, format!("(SELECT 1 FROM outbox LIMIT {ENOUGH}) AS waiting"), None),
        ] {
            numbers.push((name, Vec::new(), self.count(&rows, bound).await?));
        }
        Ok(numbers)
    }

    /// What is awaited, by bureau and of all.
    async fn awaited(&self, now: Timestamp) -> Result<Vec<Number>, RegistryError> {
        let near = now.checked_add(self.rules.near)?;
        let rows = sqlx::query(
            // Each bureau by one look into the index, not by all that was ever stored: one for which nothing is awaited has its 0.
            "WITH RECURSIVE known (bureau) AS (
                 SELECT MIN(bureau) FROM deadlines
                 UNION ALL
                 SELECT (SELECT MIN(bureau) FROM deadlines d WHERE d.bureau > known.bureau) FROM known
                 WHERE known.bureau IS NOT NULL
             )
             SELECT known.bureau, COUNT(CASE WHEN last_moment > $2 THEN 1 END),
                 COUNT(CASE WHEN last_moment >= $1 AND last_moment <= $2 THEN 1 END),
                 COUNT(CASE WHEN last_moment < $1 THEN 1 END)
             FROM known LEFT JOIN deadlines ON deadlines.bureau = known.bureau AND stored_at IS NULL
             WHERE known.bureau IS NOT NULL GROUP BY known.bureau",
        );
        let rows = rows.bind(now.as_second()).bind(near.as_second()).fetch_all(self.db.pool()).await?;
        let (mut numbers, mut all) = (Vec::new(), [0; 3]);
        for row in rows {
            let bureau: String = row.try_get(0)?;
            for (place, deadline) in DEADLINES.into_iter().enumerate() {
                let number = row.try_get::<i64, _>(place + 1)? as u64;
                let labels = vec![KeyValue::new("bureau", bureau.clone()), KeyValue::new("deadline", deadline)];
                numbers.push((BY_BUREAU, labels, number));
                all[place] += number;
            }
        }
        let all = DEADLINES.into_iter().zip(all);
        numbers.extend(all.map(|(deadline, number)| (AWAITED, vec![KeyValue::new("deadline", deadline)], number)));
        Ok(numbers)
    }

    async fn count(&self, rows: &str, bound: Option<i64>) -> Result<u64, RegistryError> {
        // Made of nothing but the words above.
        let statement = sqlx::query(AssertSqlSafe(format!("SELECT COUNT(*) FROM {rows}")));
        let statement = bound.into_iter().fold(statement, |statement, bound| statement.bind(bound));
        let row = statement.fetch_one(self.db.pool()).await?;
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
                    let count = open.all().len() as u64;
                    let letters = Some((LETTERS, Vec::new(), count));
                    numbers.lock().unwrap_or_else(PoisonError::into_inner).letters = letters;
                }
                Some(Err(error)) => return error,
                None => return LogError::Unavailable("the follower ended".into()),
            }
        }
    }
}
