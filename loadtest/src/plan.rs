//! How much of everything is needed, from what one GB costs; and a day of it, minute by minute.

use std::{fmt, path::PathBuf};

use anyhow::{Context, ensure};
use clap::Args;
use serde::Deserialize;

use crate::arrivals::hours;

/// Minutes of a day.
const MINUTES: usize = 24 * 60;

/// Your own numbers. A GB is 10⁹ bytes; defaults of costs are those of services/docs/capacity.md.
#[derive(Debug, Args)]
pub struct Plan {
    /// Bureaus, one for each county: the country has about 2,800.
    #[arg(long, default_value_t = 1.0)]
    bureaus: f64,
    /// GB that each uploads on a working day.
    #[arg(long, default_value_t = 60.0)]
    gb_a_day: f64,
    /// Working days a month.
    #[arg(long, default_value_t = 22.0)]
    days_a_month: f64,
    /// Months that everything is kept.
    #[arg(long, default_value_t = 6.0)]
    months: f64,
    /// The share of it that belongs to cases, of 1, and is kept for years.
    #[arg(long, default_value_t = 0.1)]
    in_cases: f64,
    /// For how many.
    #[arg(long, default_value_t = 10.0)]
    case_years: f64,
    /// What derivatives add, of 1.
    #[arg(long, default_value_t = 0.3)]
    derivatives: f64,
    /// A day: a CSV file with the columns hour and sessions; only how they compare counts. Without it, a day at a bureau.
    #[arg(long, value_name = "FILE")]
    day: Option<PathBuf>,
    /// The report.json of a run on your own machines: what gateway, archiver, Kafka and store cost comes from there.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    #[command(flatten)]
    costs: Costs,
    /// How busy processors, disks and networks may be in the busiest hour, of 1.
    #[arg(long, default_value_t = 0.6)]
    busy: f64,
    /// Replicas of each record in Kafka.
    #[arg(long, default_value_t = 3.0)]
    replicas: f64,
    /// MB a second that one partition takes, and that its archiver stores.
    #[arg(long, default_value_t = 20.0)]
    partition_rate: f64,
    /// MB a second that one broker writes, over all replicas.
    #[arg(long, default_value_t = 200.0)]
    broker_rate: f64,
    /// From which hour on the store is away, for an hour.
    #[arg(long, default_value_t = 18)]
    store_away_at: usize,
    /// From which hour on one broker is lost, for an hour.
    #[arg(long, default_value_t = 18)]
    broker_lost_at: usize,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Costs, in core-seconds for each GB (10⁹ bytes)")]
struct Costs {
    /// Of the gateway, in core-seconds for each GB. Without it: the report's process gateway, or 1.25 (with mTLS).
    #[arg(long)]
    gateway: Option<f64>,
    /// Of the archiver. Without it: the report's archiver, or 1.55.
    #[arg(long)]
    archiver: Option<f64>,
    /// Of Kafka, for each replica. Without it: the report's kafka, or 3.7.
    #[arg(long)]
    kafka: Option<f64>,
    /// Of the store's servers. Without it: the report's s3, or 4.3.
    #[arg(long)]
    store: Option<f64>,
    /// Of media: digests, proxies, pictures. Assumed, not measured: it depends on codecs and bit rates more than on anything else.
    #[arg(long, default_value_t = 400.0)]
    media: f64,
}

/// What a GB costs, in core-seconds.
struct Cost {
    gateway: f64,
    archiver: f64,
    kafka: f64,
    store: f64,
    media: f64,
}

/// What a report has that is used here.
#[derive(Deserialize)]
struct Measured {
    report: Report,
}

#[derive(Deserialize)]
struct Report {
    processes: Vec<Used>,
}

#[derive(Deserialize)]
struct Used {
    name: String,
    processor_seconds_per_gb: f64,
}

/// A day, as it was simulated.
struct Day {
    /// The most that was in the log, in GB, and at which minute.
    backlog: (f64, usize),
    /// The longest that a byte waited for its receipt, in minutes.
    longest: usize,
    /// The most that clients were not rid of, in GB.
    unsent: f64,
}

/// Prints the plan.
pub fn run(plan: &Plan) -> anyhow::Result<()> {
    ensure!((0.01..=1.0).contains(&plan.busy), "--busy: expected 0.01 to 1");
    ensure!((0.0..=1.0).contains(&plan.in_cases), "--in-cases: expected 0 to 1");
    for (flag, value) in [
        ("bureaus", plan.bureaus),
        ("gb-a-day", plan.gb_a_day),
        ("replicas", plan.replicas),
        ("partition-rate", plan.partition_rate),
        ("broker-rate", plan.broker_rate),
    ] {
        ensure!(value > 0.0 && value.is_finite(), "--{flag}: expected more than 0");
    }
    ensure!(plan.store_away_at < 24 && plan.broker_lost_at < 24, "expected an hour from 0 to 23");
    let text = match &plan.day {
        Some(path) => std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?,
        None => include_str!("../day.csv").to_owned(),
    };
    let hours = hours(&text)?;
    let costs = plan.costs()?;
    let daily = plan.bureaus * plan.gb_a_day;
    let busiest = hours.iter().copied().fold(0.0, f64::max) / hours.iter().sum::<f64>();
    let peak = daily * busiest / 3600.0;
    line("a day", format_args!("{daily:.0} GB"), format_args!("{} bureaus × {} GB", plan.bureaus, plan.gb_a_day));
    line(
        "busiest hour",
        format_args!("{peak:.3} GB/s"),
        format_args!("{daily:.0} GB × {busiest:.3} of the day / 3,600 s"),
    );
    let provided = peak / plan.busy;
    for (name, cost) in [("gateways", costs.gateway), ("archivers", costs.archiver), ("store", costs.store)] {
        let why = format_args!("{peak:.3} GB/s × {cost:.2} core-s/GB / {} busy", plan.busy);
        line(name, format_args!("{:.1} cores", provided * cost), why);
    }
    let brokers_by_rate = (provided * 1e3 * plan.replicas / plan.broker_rate).ceil();
    let brokers = brokers_by_rate.max(plan.replicas);
    let why = format_args!(
        "{:.0} MB/s × {} replicas / {} MB/s, at least the replicas",
        provided * 1e3,
        plan.replicas,
        plan.broker_rate
    );
    line("brokers", format_args!("{brokers:.0}"), why);
    let kafka = provided * costs.kafka * plan.replicas;
    line(
        "brokers' cores",
        format_args!("{kafka:.1} cores"),
        format_args!("{provided:.3} GB/s × {:.2} × {} replicas", costs.kafka, plan.replicas),
    );
    let partitions = ((provided * 1e3 / plan.partition_rate).ceil().max(12.0) / 12.0).ceil() * 12.0;
    line(
        "partitions",
        format_args!("{partitions:.0}"),
        format_args!("{:.0} MB/s / {} MB/s each, in twelves", provided * 1e3, plan.partition_rate),
    );
    // Media may take until the next morning.
    let media = daily * costs.media / (24.0 * 3600.0) / plan.busy;
    line(
        "media",
        format_args!("{media:.1} cores"),
        format_args!("{daily:.0} GB × {:.0} core-s/GB / 86,400 s / {} busy", costs.media, plan.busy),
    );
    let month = daily * plan.days_a_month * (1.0 + plan.derivatives) / 1e3;
    let kept = month * plan.months + month * plan.in_cases * (plan.case_years * 12.0 - plan.months).max(0.0);
    let why = format_args!(
        "{month:.1} TB a month × ({} months + {} of it × {:.0} more)",
        plan.months,
        plan.in_cases,
        (plan.case_years * 12.0 - plan.months).max(0.0)
    );
    line("kept in store", format_args!("{kept:.0} TB"), why);
    let network = provided * 8.0;
    line(
        "network, in",
        format_args!("{network:.2} Gb/s"),
        format_args!("{provided:.3} GB/s × 8; between the parts {} times that", 2.0 + plan.replicas),
    );

    let usual = simulate(&hours, daily, provided, None, None);
    let away = simulate(&hours, daily, provided, Some(plan.store_away_at), None);
    let lost = simulate(&hours, daily, provided, None, Some((plan.broker_lost_at, (brokers - 1.0) / brokers)));
    println!("\na day, minute by minute, with what the busiest hour needs at {} busy", plan.busy);
    for (name, day) in [
        ("as usual".to_owned(), usual),
        (format!("store away from {} to {}", plan.store_away_at, plan.store_away_at + 1), away),
        (format!("a broker lost from {} to {}", plan.broker_lost_at, plan.broker_lost_at + 1), lost),
    ] {
        let (most, at) = day.backlog;
        println!(
            "  {name}: at most {most:.1} GB in the log ({:02}:{:02}), {:.1} GB on disks with {} replicas; a receipt at most {} minutes \
             after its bytes; {:.1} GB waiting at the bureaus",
            at / 60,
            at % 60,
            most * plan.replicas,
            plan.replicas,
            day.longest,
            day.unsent
        );
    }
    Ok(())
}

fn line(name: &str, value: fmt::Arguments<'_>, why: fmt::Arguments<'_>) {
    println!("{name:16} {value:>14}   {why}", value = value.to_string());
}

impl Plan {
    /// What was given, or else measured, or else what was measured here.
    fn costs(&self) -> anyhow::Result<Cost> {
        let measured: Option<Measured> = match &self.report {
            Some(path) => {
                let text = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
                Some(serde_json::from_slice(&text).context("this is not a run's report.json")?)
            }
            None => None,
        };
        let cost = |given: Option<f64>, name: &str, usual: f64| -> anyhow::Result<f64> {
            let (Some(measured), None) = (&measured, given) else { return Ok(given.unwrap_or(usual)) };
            let own = measured.report.processes.iter().filter(|used| used.name.starts_with(name));
            let sum: f64 = own.map(|used| used.processor_seconds_per_gb).sum();
            ensure!(sum > 0.0, "the report has no process {name}: give its cost as a flag");
            Ok(sum)
        };
        let Costs { gateway, archiver, kafka, store, media } = self.costs;
        Ok(Cost {
            gateway: cost(gateway, "gateway", 1.25)?,
            archiver: cost(archiver, "archiver", 1.55)?,
            kafka: cost(kafka, "kafka", 3.7)?,
            store: cost(store, "s3", 4.3)?,
            media,
        })
    }
}

/// A day: bytes come as the hours have them, go into the log as fast as brokers take them, and out as fast as archivers and store
/// do, the oldest first. What the log does not take waits at the bureaus.
fn simulate(
    hours: &[f64],
    daily: f64,
    capacity: f64,
    store_away_at: Option<usize>,
    broker_lost_at: Option<(usize, f64)>,
) -> Day {
    let total: f64 = hours.iter().sum();
    let mut day = Day { backlog: (0.0, 0), longest: 0, unsent: 0.0 };
    let (mut unsent, mut backlog) = (0.0, 0.0_f64);
    // Bytes in the log by the minute they came; the day after, what is left goes out.
    let mut waiting = std::collections::VecDeque::new();
    for minute in 0..2 * MINUTES {
        let hour = minute / 60;
        let arrives = hours.get(hour).map_or(0.0, |sessions| daily * sessions / total / 60.0);
        let taken_share = broker_lost_at.filter(|(lost, _)| *lost == hour).map_or(1.0, |(_, share)| share);
        unsent += arrives;
        let taken = (capacity * 60.0 * taken_share).min(unsent);
        unsent -= taken;
        backlog += taken;
        waiting.push_back((minute, taken));
        let mut stored = if store_away_at == Some(hour) { 0.0 } else { capacity * 60.0 };
        while let Some((since, bytes)) = waiting.front_mut()
            && stored > 0.0
        {
            let out = bytes.min(stored);
            (*bytes, stored, backlog) = (*bytes - out, stored - out, backlog - out);
            if *bytes <= 0.0 {
                day.longest = day.longest.max(minute - *since);
                waiting.pop_front();
            }
        }
        if backlog > day.backlog.0 {
            day.backlog = (backlog, minute % MINUTES);
        }
        day.unsent = day.unsent.max(unsent);
    }
    day
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat() -> Vec<f64> {
        vec![1.0; 24]
    }

    #[test]
    fn what_is_fast_enough_keeps_nothing_waiting() {
        let day = simulate(&flat(), 86_400.0, 2.0, None, None);
        assert_eq!((day.longest, day.backlog.0 < 1e-6, day.unsent < 1e-6), (0, true, true));
    }

    #[test]
    fn an_hour_without_a_store_is_an_hour_in_the_log() {
        // One GB a second comes, two may be stored.
        let day = simulate(&flat(), 86_400.0, 2.0, Some(10), None);
        assert!((day.backlog.0 - 3600.0).abs() < 1.0, "{}", day.backlog.0);
        assert_eq!((day.backlog.1, day.longest), (10 * 60 + 59, 60));
    }

    #[test]
    fn what_the_brokers_do_not_take_waits_at_the_bureaus() {
        let day = simulate(&flat(), 86_400.0, 1.2, None, Some((10, 0.5)));
        assert!((day.unsent - 0.4 * 3600.0).abs() < 1.0 && day.backlog.0 < 1e-6, "{}", day.unsent);
    }
}
