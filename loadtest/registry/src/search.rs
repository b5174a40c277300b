//! Searches in a large database. All recordings are one bureau's: the hardest case, since every index begins with the bureau.

use std::time::{Duration, Instant};

use anyhow::Context;
use caselock_domain::id::BureauId;
use caselock_registry::{Db, Wanted, find};
use clap::Args;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sqlx::{AssertSqlSafe, Row};

use crate::peak_memory;

/// Rows written by one statement, and statements in one transaction.
const ROWS: u64 = 400;
const STATEMENTS: u64 = 50;
/// Searches by each field.
const SEARCHES: usize = 400;
const PAGE: u32 = 100;
/// How many of each there are.
const UNITS: u64 = 40;
const DEVICES: u64 = 2_000;
const OFFICERS: u64 = 600;
const PARTIES: u64 = 150_000;
const CAUSES: u64 = 80;
const CASES: u64 = 100_000;
/// Three years of recordings.
const BEGIN: u64 = 1_700_000_000;
const SPAN: u64 = 3 * 365 * 86_400;

/// What is measured.
#[derive(Args)]
pub struct Find {
    /// How many recordings.
    #[arg(long, default_value_t = 1_000_000)]
    recordings: u64,
    /// The database: `sqlite:PATH?mode=rwc` or `postgres://…`. It must be empty, or one that an earlier run has filled.
    #[arg(long)]
    database: String,
    /// Where chance begins.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Fills and measures.
pub async fn run(asked: &Find) -> anyhow::Result<()> {
    let db = Db::open(&*asked.database).await.context("open the database")?;
    let count = sqlx::query("SELECT COUNT(*) FROM recordings").fetch_one(db.pool()).await?;
    let there = count.try_get::<i64, _>(0)? as u64;
    if there < asked.recordings {
        let began = Instant::now();
        fill(&db, there..asked.recordings, asked.database.starts_with("sqlite:")).await?;
        println!("filled with {} recordings in {:.0} s", asked.recordings - there, began.elapsed().as_secs_f64());
    }
    let bureau: BureauId = "load".parse()?;
    let mut random = StdRng::seed_from_u64(asked.seed);
    println!("pages of {PAGE} among {} recordings, {SEARCHES} searches each; milliseconds", asked.recordings);
    println!("{:<18} {:>8} {:>8} {:>8}", "by", "median", "p99", "max");
    for field in ["unit", "device", "officer", "time", "party", "cause", "case", "unit and cause", "unit and time"] {
        let mut times = Vec::new();
        for _ in 0..SEARCHES {
            let mut wanted = wanted(field, &mut random);
            let began = Instant::now();
            let page = find(&db, &bureau, &wanted).await?;
            times.push(began.elapsed());
            // The page after it is as fast.
            if let Some(last) = page.last().filter(|_| page.len() == PAGE as usize) {
                wanted.after = Some((last.recording.used_at, last.recording.id.clone()));
                let began = Instant::now();
                find(&db, &bureau, &wanted).await?;
                times.push(began.elapsed());
            }
        }
        times.sort();
        let at = |part: f64| milliseconds(times[((times.len() - 1) as f64 * part) as usize]);
        println!("{field:<18} {:>8.1} {:>8.1} {:>8.1}", at(0.5), at(0.99), at(1.0));
    }
    println!("peak memory of this process: {} MiB", peak_memory());
    Ok(())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn wanted(field: &str, random: &mut StdRng) -> Wanted {
    let mut wanted = Wanted { limit: PAGE, ..Wanted::default() };
    let mut one = |facet: &'static str, of: u64| (facet, format!("{facet}-{}", random.random_range(0..of)));
    match field {
        "unit" => wanted.facets = vec![one("unit", UNITS)],
        "device" => wanted.facets = vec![one("device", DEVICES)],
        "officer" => wanted.facets = vec![one("officer", OFFICERS)],
        "party" => wanted.facets = vec![one("party", PARTIES)],
        "cause" => wanted.facets = vec![one("cause", CAUSES)],
        "case" => wanted.facets = vec![one("case", CASES)],
        "unit and cause" => wanted.facets = vec![one("cause", CAUSES), one("unit", UNITS)],
        "unit and time" => wanted.facets = vec![one("unit", UNITS)],
        _ => {}
    }
    if field.contains("time") {
        let from = BEGIN + random.random_range(0..SPAN);
        (wanted.used_from, wanted.used_before) = (Some(from as i64), Some((from + 7 * 86_400) as i64));
    }
    wanted
}

/// Spreads numbers evenly, the same on every run.
fn spread(number: u64, salt: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(salt.wrapping_mul(0xbf58_476d_1ce4_e5b9));
    mixed ^= mixed >> 31;
    mixed = mixed.wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 29)
}

/// Writes rows as the registry would, many at once.
async fn fill(db: &Db, numbers: std::ops::Range<u64>, is_sqlite: bool) -> anyhow::Result<()> {
    if is_sqlite {
        // Only for the filling: what is measured reads.
        sqlx::query("PRAGMA synchronous = OFF").execute(db.pool()).await?;
    }
    let total = numbers.end;
    let mut next = numbers.start;
    while next < total {
        let mut tx = db.begin().await?;
        for _ in 0..STATEMENTS {
            let end = (next + ROWS).min(total);
            for statement in statements(next..end) {
                // Made of numbers.
                sqlx::query(AssertSqlSafe(statement)).execute(&mut *tx).await?;
            }
            next = end;
            if next == total {
                break;
            }
        }
        tx.commit().await?;
        if next.is_multiple_of(ROWS * STATEMENTS * 5) {
            eprintln!("{next} of {total}");
        }
    }
    let analyse = if is_sqlite { "PRAGMA synchronous = FULL; ANALYZE;" } else { "ANALYZE;" };
    sqlx::raw_sql(analyse).execute(db.pool()).await?;
    Ok(())
}

fn statements(numbers: std::ops::Range<u64>) -> Vec<String> {
    let (mut recordings, mut facets, mut locks, mut deadlines) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for number in numbers {
        let id = format!("{:08x}-0000-8000-8000-{number:012x}", spread(number, 0) as u32);
        let used = BEGIN + spread(number, 1) % SPAN;
        let pick = |facet: &str, salt: u64, of: u64| format!("{facet}-{}", spread(number, salt) % of);
        let [unit, device, officer] =
            [pick("unit", 2, UNITS), pick("device", 3, DEVICES), pick("officer", 4, OFFICERS)];
        let second = pick("officer", 5, OFFICERS);
        let [party, cause] = [pick("party", 6, PARTIES), pick("cause", 7, CAUSES)];
        // Every third belongs to a case.
        let case = number.is_multiple_of(3).then(|| pick("case", 8, CASES));
        let metadata = serde_json::json!({
            "source": "body_worn_recorder", "matter": "inspection", "record_form": "audiovisual", "unit": unit,
            "officers": [officer, second], "device_id": device, "party": party, "cause": cause,
            "original_name": format!("DSJ_{number}.MP4"), "content_type": "video/mp4", "full_recording_required": false,
        });
        let named = case.as_ref().map_or("NULL".to_owned(), |case| format!("'{case}'"));
        recordings.push(format!(
            "('{id}','load',0,'v1/load/recordings/{id}/0/original','v',1000,'blake3:{:064x}',{used},{used},0,'intact','made',
             {used},{used},'{unit}','{device}','{party}','{cause}',{named},'DSJ_{number}.MP4','body_worn_recorder','{metadata}')",
            number
        ));
        let mut facet = |name: &str, value: &str| facets.push(format!("('load','{name}','{value}',{used},'{id}')"));
        for (name, value) in
            [("unit", &unit), ("device", &device), ("officer", &officer), ("party", &party), ("cause", &cause)]
        {
            facet(name, value);
        }
        if second != officer {
            facet("officer", &second);
        }
        if let Some(case) = &case {
            facet("case", case);
        }
        locks.push(format!("('{id}','recording','load',1,1,{used},0,'floor',{used})"));
        deadlines.push(format!(
            "('{id}','load',3,'DSJ_{number}.MP4','{unit}','{device}',{used},{used},0,'load',0,{used},{used})"
        ));
    }
    vec![
        format!(
            "INSERT INTO recordings (id, bureau, generation, object_key, version, size, blake3, stored_at, floor_until,
             hold_at_storing, verification, derivation, used_at, scene_ended_at, unit, device_id, party, cause, case_number,
             original_name, source, metadata) VALUES {}",
            recordings.join(",")
        ),
        format!("INSERT INTO facets (bureau, facet, value, used_at, recording_id) VALUES {}", facets.join(",")),
        format!(
            "INSERT INTO locks (subject, kind, bureau, revision, kept_revision, lock_until, hold, follows, look_at) VALUES {}",
            locks.join(",")
        ),
        format!(
            "INSERT INTO deadlines (recording_id, bureau, origin, original_name, unit, device_id, ended_at, due, provisional,
             calendar, extensions, last_moment, stored_at) VALUES {}",
            deadlines.join(",")
        ),
    ]
}
