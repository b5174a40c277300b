//! What a run found: numbers as JSON, and a page that is good to look at.

use std::{fmt::Write, fs, path::Path};

use anyhow::Context;
use hdrhistogram::Histogram;
use jiff::Timestamp;
use serde::Serialize;

use crate::{plots, record::Line, sample::Usage};

/// The numbers of a run. A GB is 10⁹ bytes, a MiB 2²⁰.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What the run is called.
    name: String,
    /// When it began.
    began_at: Timestamp,
    /// Recordings that were to be uploaded.
    recordings: usize,
    /// Of these, stored.
    stored: usize,
    /// Bytes that are stored.
    bytes: u64,
    /// How often something was tried again, or had to wait.
    retries: u64,
    /// Seconds from the first byte until everything was acknowledged.
    accepted_after: f64,
    /// Bytes acknowledged, in MB a second.
    accepted_rate: f64,
    /// Seconds from the first byte to the last receipt.
    receipted_after: f64,
    /// Bytes stored and receipted, in MB a second.
    receipted_rate: f64,
    /// Seconds from when a recording's session was due until the recording was acknowledged.
    until_accepted: Latency,
    /// Seconds from the acknowledgement of a recording's last byte to its receipt.
    until_receipt: Latency,
    /// Seconds from when a recording's session was due to its receipt.
    whole: Latency,
    /// What each process used.
    processes: Vec<Used>,
    /// Why recordings were not stored, and how many for each reason.
    errors: Vec<(String, usize)>,
    /// What the check found.
    problems: Vec<String>,
}

/// Percentiles, in seconds.
#[derive(Debug, Serialize)]
pub struct Latency {
    /// Half were no longer than this.
    pub median: f64,
    p90: f64,
    /// All but one in a hundred were no longer than this.
    pub p99: f64,
    p999: f64,
    /// The longest.
    pub max: f64,
}

/// What a process used.
#[derive(Debug, Serialize)]
struct Used {
    name: String,
    /// Processor seconds.
    processor_seconds: f64,
    /// Processor seconds for each GB stored.
    processor_seconds_per_gb: f64,
    /// The most resident memory seen, in MiB.
    peak_mib: f64,
}

impl Report {
    /// Reckons the numbers.
    pub fn new(
        name: &str,
        began_at: Timestamp,
        lines: &[Line],
        usage: &Usage,
        problems: Vec<String>,
    ) -> anyhow::Result<Self> {
        let stored: Vec<_> = lines.iter().filter(|line| line.receipt.is_some()).collect();
        let bytes: u64 = stored.iter().map(|line| line.size).sum();
        let first = lines.iter().map(|line| line.began).fold(f64::INFINITY, f64::min);
        let after = |at: fn(&Line) -> Option<f64>| lines.iter().filter_map(at).fold(first, f64::max) - first;
        let (accepted_after, receipted_after) = (after(|line| line.accepted), after(|line| line.receipted));
        let accepted: u64 = lines.iter().filter(|line| line.accepted.is_some()).map(|line| line.size).sum();
        let rate = |bytes: u64, seconds: f64| if seconds > 0.0 { bytes as f64 / 1e6 / seconds } else { 0.0 };
        let used = |(place, name): (usize, &String)| {
            let of = usage.samples.iter().map(|sample| sample.processes[place]);
            let processor_seconds = of.clone().next_back().unwrap_or_default().0;
            Used {
                name: name.clone(),
                processor_seconds,
                processor_seconds_per_gb: if bytes > 0 { processor_seconds / (bytes as f64 / 1e9) } else { 0.0 },
                peak_mib: of.map(|(_, bytes)| bytes).max().unwrap_or_default() as f64 / f64::from(1 << 20),
            }
        };
        let mut errors: Vec<(String, usize)> = Vec::new();
        for error in lines.iter().filter_map(|line| line.error.as_ref()) {
            match errors.iter_mut().find(|(known, _)| known == error) {
                Some((_, count)) => *count += 1,
                None => errors.push((error.clone(), 1)),
            }
        }
        Ok(Self {
            name: name.to_owned(),
            began_at,
            recordings: lines.len(),
            stored: stored.len(),
            bytes,
            retries: lines.iter().map(|line| u64::from(line.retries)).sum(),
            accepted_after,
            accepted_rate: rate(accepted, accepted_after),
            receipted_after,
            receipted_rate: rate(bytes, receipted_after),
            until_accepted: latency(&histogram(lines, UNTIL_ACCEPTED)?),
            until_receipt: latency(&histogram(lines, UNTIL_RECEIPT)?),
            whole: latency(&histogram(lines, WHOLE)?),
            processes: usage.names.iter().enumerate().map(used).collect(),
            errors,
            problems,
        })
    }

    /// Whether everything is there.
    pub fn is_good(&self) -> bool {
        self.problems.is_empty()
    }
}

/// A span of a recording's life, in seconds.
type Span = fn(&Line) -> Option<f64>;

const UNTIL_ACCEPTED: Span = |line| Some(line.accepted? - line.due);
const UNTIL_RECEIPT: Span = |line| Some(line.receipted? - line.accepted?);
const WHOLE: Span = |line| Some(line.receipted? - line.due);

/// Without any time in it yet: in microseconds, to three digits, up to a day.
pub fn empty() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 86_400_000_000, 3)?)
}

/// Adds a time.
pub fn add(histogram: &mut Histogram<u64>, seconds: f64) {
    histogram.saturating_record((seconds.max(0.0) * 1e6) as u64);
}

fn histogram(lines: &[Line], span: Span) -> anyhow::Result<Histogram<u64>> {
    let mut histogram = empty()?;
    for seconds in lines.iter().filter_map(span) {
        add(&mut histogram, seconds);
    }
    Ok(histogram)
}

/// Its percentiles.
pub fn latency(histogram: &Histogram<u64>) -> Latency {
    let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e6;
    Latency { median: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: histogram.max() as f64 / 1e6 }
}

/// Writes `report.json` and `report.html`, and says the most of it.
pub fn write(folder: &Path, report: &Report, lines: &[Line], usage: &Usage) -> anyhow::Result<()> {
    let json = serde_json::to_vec_pretty(&serde_json::json!({ "report": report, "usage": usage }))?;
    fs::write(folder.join("report.json"), json).context("write report.json")?;
    fs::write(folder.join("report.html"), page(report, lines, usage)?).context("write report.html")?;
    println!(
        "{}: {} of {} recordings stored, {:.2} GB; acknowledged at {:.0} MB/s, receipted at {:.0} MB/s; receipt after the last byte: \
         median {:.2} s, p99 {:.2} s",
        report.name,
        report.stored,
        report.recordings,
        report.bytes as f64 / 1e9,
        report.accepted_rate,
        report.receipted_rate,
        report.until_receipt.median,
        report.until_receipt.p99
    );
    for Used { name, processor_seconds_per_gb, peak_mib, .. } in &report.processes {
        println!("  {name}: {processor_seconds_per_gb:.2} core-s/GB, {peak_mib:.0} MiB at most");
    }
    for problem in report.problems.iter().take(20) {
        println!("  PROBLEM {problem}");
    }
    for (error, count) in &report.errors {
        println!("  {count} not stored: {error}");
    }
    println!("  {}", folder.join("report.html").display());
    Ok(())
}

fn page(report: &Report, lines: &[Line], usage: &Usage) -> anyhow::Result<String> {
    let mut rows = String::new();
    let mut row = |name: &str, value: String| write!(rows, "<tr><th>{name}</th><td>{value}</td></tr>");
    row("recordings stored", format!("{} of {}", report.stored, report.recordings))?;
    row("bytes stored", format!("{:.3} GB", report.bytes as f64 / 1e9))?;
    row("acknowledged", format!("{:.0} MB/s ({:.1} s)", report.accepted_rate, report.accepted_after))?;
    row("receipted", format!("{:.0} MB/s ({:.1} s)", report.receipted_rate, report.receipted_after))?;
    row("tried again, or waited", report.retries.to_string())?;
    let mut latencies = String::new();
    for (name, of) in [
        ("due → acknowledged", &report.until_accepted),
        ("last byte → receipt", &report.until_receipt),
        ("due → receipt", &report.whole),
    ] {
        let Latency { median, p90, p99, p999, max } = of;
        write!(
            latencies,
            "<tr><th>{name}</th><td>{median:.3}</td><td>{p90:.3}</td><td>{p99:.3}</td><td>{p999:.3}</td><td>{max:.3}</td></tr>"
        )?;
    }
    let mut processes = String::new();
    for Used { name, processor_seconds, processor_seconds_per_gb, peak_mib } in &report.processes {
        write!(
            processes,
            "<tr><th>{}</th><td>{processor_seconds:.1}</td><td>{processor_seconds_per_gb:.2}</td><td>{peak_mib:.0}</td></tr>",
            escaped(name)
        )?;
    }
    let problems: String = report.problems.iter().map(|text| format!("<li class=bad>{}</li>", escaped(text))).collect();
    let errors: String =
        report.errors.iter().map(|(text, count)| format!("<li>{count} × {}</li>", escaped(text))).collect();
    let verdict = match report.problems.len() {
        0 => "<p class=good>Everything is there.</p>".to_owned(),
        count => format!("<p class=bad>{count} problems</p>"),
    };
    let spans =
        [("due to acknowledged", UNTIL_ACCEPTED), ("last byte to receipt", UNTIL_RECEIPT), ("due to receipt", WHOLE)];
    let mut histograms = Vec::new();
    for (name, span) in spans {
        histograms.push((name, histogram(lines, span)?));
    }
    let plots: String = [
        plots::rates(usage)?,
        plots::backlog(usage)?,
        plots::latencies(&histograms)?,
        plots::processors(usage)?,
        plots::memory(usage)?,
    ]
    .concat();
    Ok(format!(
        r#"<!doctype html><html lang="en"><meta charset="utf-8"><title>{name} – caselock-loadtest</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 66rem; padding: 0 1rem; color: #1d2733; }}
h1 {{ font-size: 1.5rem; margin-bottom: 0; }} h2 {{ font-size: 1.1rem; margin-top: 2rem; }}
table {{ border-collapse: collapse; margin: .5rem 0; }} th, td {{ padding: .25rem .9rem .25rem 0; text-align: right; border-bottom: 1px solid #e3e8ee; }}
th:first-child {{ text-align: left; font-weight: 500; }} .good {{ color: #13795b; }} .bad {{ color: #b3261e; }}
.plots {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(30rem, 1fr)); gap: 1rem; }} svg {{ width: 100%; height: auto; }}
</style><h1>{name}</h1><p>{began}</p>{verdict}<ul>{problems}{errors}</ul><table>{rows}</table>
<h2>Seconds</h2><table><tr><th></th><th>median</th><th>90 %</th><th>99 %</th><th>99.9 %</th><th>most</th></tr>{latencies}</table>
<h2>Processes</h2><table><tr><th></th><th>processor seconds</th><th>for each GB</th><th>memory at most, MiB</th></tr>{processes}</table>
<div class="plots">{plots}</div></html>"#,
        name = escaped(&report.name),
        began = report.began_at,
    ))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
