//! A run: devices are docked when they are due, and each of their files is brought to its receipt.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use caselock_client::{Client, Footage, Progress, Throttle, Upload};
use caselock_domain::{receipt::Envelope, time::to_proto};
use caselock_proto::v1 as proto;
use clap::Args;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use jiff::Timestamp;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    arrivals::Arrivals,
    check,
    connection::{Gateways, Receipts, Servers},
    footage::{self, Source},
    record::{Line, Record},
    report,
    sample::{Counts, Process, Sampling},
};

/// How often it is asked whether everything is acknowledged.
const LOOK: Duration = Duration::from_millis(20);

/// A run.
#[derive(Debug, Args)]
pub struct Run {
    /// The folder of the files; see the command footage.
    footage: PathBuf,
    /// What the run is called.
    #[arg(long, default_value = "run")]
    name: String,
    /// The folder for its record (record.jsonl) and its report (report.json, report.html).
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    gateways: Gateways,
    #[command(flatten)]
    receipts: Receipts,
    #[command(flatten)]
    servers: Servers,
    #[command(flatten)]
    arrivals: Arrivals,
    /// Files of each session, drawn from the folder; by default every file once.
    #[arg(long)]
    files: Option<usize>,
    /// Files of a session that are uploaded at once.
    #[arg(long, default_value_t = 4)]
    parallel: usize,
    /// Names a case for each session, so that its recordings are held.
    #[arg(long)]
    cases: bool,
    /// Bytes a second, of all clients together.
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    throttle: u64,
    /// Seconds to go on without any success before a file is given up.
    #[arg(long, default_value_t = 600)]
    patience: u64,
    /// A process to be looked at, besides this one. May be given several times.
    #[arg(long, value_name = "NAME=PID")]
    process: Vec<Process>,
    /// Stops a process of these (SIGSTOP) until everything is acknowledged: what the log alone takes shows. Every file must be on its
    /// way at once, since none gets a receipt before.
    #[arg(long, value_name = "NAME")]
    hold: Option<String>,
}

/// What the files of a run have in common.
struct Load {
    id: u64,
    from: Instant,
    counts: Arc<Counts>,
    throttle: Arc<Throttle>,
    patience: Duration,
    record: Mutex<Record>,
    lines: Mutex<Vec<Line>>,
    bar: ProgressBar,
}

/// A file that is to be uploaded.
struct Job {
    source: Arc<Source>,
    client: Arc<Client>,
    bureau: String,
    key: String,
    case_number: String,
    due: Duration,
}

/// Uploads, measures, checks, and writes the report; whether everything is there.
pub async fn run(run: &Run) -> anyhow::Result<bool> {
    let sources = footage::sources(&run.footage)?;
    let keys = run.receipts.keys()?;
    let clients = run.gateways.clients(&keys)?;
    let due = run.arrivals.due()?;
    let sessions = sessions(run, &sources, due);
    if sessions.is_empty() {
        bail!("no session arrives in that time: raise the rate, or the time");
    }
    std::fs::create_dir_all(&run.out).with_context(|| format!("make {}", run.out.display()))?;
    let total = sessions.iter().flat_map(|(_, files)| files).map(|file| file.size).sum();
    let files = sessions.iter().map(|(_, files)| files.len()).sum::<usize>();
    let record = Record::create(&run.out.join("record.jsonl"), files)?;
    let throttle = Arc::<Throttle>::default();
    throttle.set(run.throttle);
    let load = Arc::new(Load {
        id: rand::random(),
        from: Instant::now(),
        counts: Arc::default(),
        throttle,
        patience: Duration::from_secs(run.patience),
        record: Mutex::new(record),
        lines: Mutex::default(),
        bar: bar(total),
    });
    let processes = std::iter::once(Process::own("client")).chain(run.process.iter().cloned()).collect();
    let held = run.hold.as_ref().map(|name| hold(name, &run.process)).transpose()?;
    let sampling = Sampling::start(processes, load.counts.clone(), load.from);
    let began_at = Timestamp::now();

    let mut docked = JoinSet::new();
    for (number, (due, files)) in sessions.into_iter().enumerate() {
        tokio::time::sleep_until((load.from + due).into()).await;
        let (bureau, own) = &clients[number % clients.len()];
        let client = own[number / clients.len() % own.len()].clone();
        let case_number = if run.cases { format!("load-{}-{number}", load.id) } else { String::new() };
        let jobs = files.into_iter().enumerate().map(|(place, source)| Job {
            source,
            client: client.clone(),
            bureau: bureau.clone(),
            key: format!("load:{:x}:{number}:{place}", load.id),
            case_number: case_number.clone(),
            due,
        });
        docked.spawn(session(load.clone(), jobs.collect(), run.parallel));
    }
    if let Some(held) = held {
        let are_over = || load.lines.lock().unwrap_or_else(PoisonError::into_inner).len() == files;
        while load.counts.accepted.load(Ordering::Relaxed) < total && !are_over() {
            tokio::time::sleep(LOOK).await;
        }
        drop(held);
    }
    while let Some(session) = docked.join_next().await {
        session.context("a session ended unexpectedly")??;
    }
    let usage = sampling.end().await?;
    load.bar.finish_and_clear();
    let lines = std::mem::take(&mut *load.lines.lock().unwrap_or_else(PoisonError::into_inner));
    let problems = check::check(&run.servers, &keys, &lines).await;
    let problems = problems.unwrap_or_else(|error| vec![format!("the check could not be made: {error:#}")]);
    let report = report::Report::new(&run.name, began_at, &lines, &usage, problems)?;
    report::write(&run.out, &report, &lines, &usage)?;
    Ok(report.is_good())
}

/// A process that does not run while this lives.
struct Held(Pid);

fn hold(name: &str, processes: &[Process]) -> anyhow::Result<Held> {
    let process = processes.iter().find(|process| process.name == name);
    let process = process.with_context(|| format!("--hold {name}: expected the name of a --process"))?;
    let id = i32::try_from(process.id).ok().and_then(Pid::from_raw).context("a process id")?;
    kill_process(id, Signal::STOP).with_context(|| format!("stop {name}"))?;
    Ok(Held(id))
}

impl Drop for Held {
    fn drop(&mut self) {
        // One that has ended meanwhile is missed by the check.
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// When each session begins, and its files.
fn sessions(run: &Run, sources: &[Arc<Source>], due: Vec<Duration>) -> Vec<(Duration, Vec<Arc<Source>>)> {
    let mut random = StdRng::seed_from_u64(due.len() as u64);
    let files = |random: &mut StdRng| match run.files {
        None => sources.to_vec(),
        Some(count) => (0..count).map(|_| sources[random.random_range(0..sources.len())].clone()).collect(),
    };
    due.into_iter().map(|due| (due, files(&mut random))).collect()
}

/// The files of a device, so many at once.
async fn session(load: Arc<Load>, jobs: Vec<Job>, parallel: usize) -> anyhow::Result<()> {
    let room = Arc::new(Semaphore::new(parallel.max(1)));
    let mut uploads = JoinSet::new();
    for job in jobs {
        let (permit, load) = (room.clone().acquire_owned().await?, load.clone());
        uploads.spawn(async move {
            let line = upload(&load, job).await;
            drop(permit);
            load.record.lock().unwrap_or_else(PoisonError::into_inner).add(&line)?;
            load.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            anyhow::Ok(())
        });
    }
    while let Some(upload) = uploads.join_next().await {
        upload.context("an upload ended unexpectedly")??;
    }
    Ok(())
}

async fn upload(load: &Load, job: Job) -> Line {
    let Job { source, client, bureau, key, case_number, due } = job;
    let now = || load.from.elapsed().as_secs_f64();
    let began = now();
    load.counts.under_way.fetch_add(1, Ordering::Relaxed);
    let (held, retries, accepted) = (AtomicU64::new(0), AtomicU32::new(0), Mutex::new(None));
    let report = |progress: Progress| match progress {
        Progress::Held(bytes) => {
            load.counts.accepted.fetch_add(bytes, Ordering::Relaxed);
            load.bar.inc(bytes);
            if held.fetch_add(bytes, Ordering::Relaxed) + bytes >= source.size {
                *accepted.lock().unwrap_or_else(PoisonError::into_inner) = Some(now());
            }
        }
        Progress::Waiting { .. } | Progress::Retrying { .. } | Progress::SendAgain(_) => {
            retries.fetch_add(1, Ordering::Relaxed);
        }
        Progress::Opened { .. } | Progress::Sealed => {}
    };
    let has_case = !case_number.is_empty();
    let upload = Upload {
        metadata: metadata(&source.path, case_number),
        key: key.clone(),
        throttle: load.throttle.clone(),
        patience: load.patience,
        report: &report,
    };
    let uploaded = match Footage::open(&source.path) {
        Ok(footage) => client.upload(&footage, &upload).await,
        Err(error) => Err(error.into()),
    };
    let (receipt, error) = match uploaded {
        Ok(uploaded) => (Some(Envelope::from(&uploaded.receipt)), None),
        Err(error) => (None, Some(error.to_string())),
    };
    let receipted = receipt.is_some().then(now);
    if receipt.is_some() {
        load.counts.receipted.fetch_add(source.size, Ordering::Relaxed);
    }
    load.counts.under_way.fetch_sub(1, Ordering::Relaxed);
    let accepted = accepted.into_inner().unwrap_or_else(PoisonError::into_inner);
    let receipted_bytes = HumanBytes(load.counts.receipted.load(Ordering::Relaxed));
    load.bar.set_message(format!(
        "{receipted_bytes} receipted, {} under way",
        load.counts.under_way.load(Ordering::Relaxed)
    ));
    Line {
        bureau,
        key,
        has_case,
        size: source.size,
        blake3: source.blake3.clone(),
        due: due.as_secs_f64(),
        began,
        accepted,
        receipted,
        receipt,
        retries: retries.into_inner(),
        error,
    }
}

/// What a device's file has beside its bytes.
pub fn metadata(path: &Path, case_number: String) -> proto::RecordingMetadata {
    let at = Some(to_proto(Timestamp::now()));
    proto::RecordingMetadata {
        source: proto::Source::BodyWornRecorder as i32,
        matter: proto::Matter::Inspection as i32,
        record_form: proto::RecordForm::Audiovisual as i32,
        unit: "load".into(),
        officers: vec!["load".into()],
        device_id: "load".into(),
        recorded_started_at: at,
        recorded_ended_at: at,
        notice_given: Some(true),
        case_number,
        original_name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        // Media looks at what it is itself; a clip's proxy is part of a run only where its name says so.
        content_type: if path.extension().is_some_and(|e| e == "mp4") {
            "video/mp4"
        } else {
            "application/octet-stream"
        }
        .into(),
        ..Default::default()
    }
}

fn bar(total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    if let Ok(style) = ProgressStyle::with_template("{elapsed} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}  {msg}")
    {
        bar.set_style(style);
    }
    bar
}
