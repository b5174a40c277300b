//! `caselock watch`: a docking PC's folder, for good.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use caselock_client::Stamp;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Semaphore,
    task::JoinSet,
    time::sleep,
};

use crate::{
    STORED, args,
    phrases::shown,
    session::{Outcome, Session, Sources, tell},
    show::Show,
    text::say,
    usage, walk,
};

/// How long a file that was refused rests before it is looked at again, its metadata perhaps there by then.
const REST: Duration = Duration::from_secs(60);

/// How often, with a rest in between, it is tried to announce what waits for its turn.
const ANNOUNCED_AGAIN: u32 = 10;

/// What is known of a file in the folder.
struct Seen {
    stamp: Stamp,
    since: Instant,
    turn: Turn,
    /// Counted among the files that are to be uploaded.
    is_counted: bool,
}

/// Whose turn it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// The file's, to settle.
    Settling,
    /// The uploader's.
    Uploading,
    /// Nobody's: stored as it is now.
    Done,
    /// Nobody's before this moment: it could not be stored.
    Resting(Instant),
}

/// Watches until SIGTERM or SIGINT; uploads in hand are left, and resumed at the next start.
pub async fn run(arguments: args::Watch) -> anyhow::Result<u8> {
    let folder = arguments.folder.canonicalize();
    let folder = folder.with_context(|| format!("find {}", arguments.folder.display())).map_err(usage)?;
    if !folder.is_dir() {
        return Err(usage(anyhow!("{} is not a folder", folder.display())));
    }
    let show = Arc::new(Show::new(arguments.session.json));
    let session = Arc::new(Session::new(&arguments.session, std::slice::from_ref(&arguments.folder), show.clone())?);
    show.line(&say("watching", &[("folder", &folder.display().to_string())]));
    let mut watch = Watch {
        room: Arc::new(Semaphore::new(usize::from(arguments.session.parallel))),
        settle: Duration::from_secs(arguments.settle),
        seen: HashMap::new(),
        unread: HashSet::new(),
        tasks: JoinSet::new(),
        arguments: arguments.session,
        folder,
        show,
        session,
    };
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    loop {
        watch.look();
        tokio::select! {
            () = sleep(Duration::from_secs(arguments.every)) => {}
            Some(done) = watch.tasks.join_next() => {
                let (path, stamp, outcome) = done?;
                watch.done(&path, stamp, &outcome);
            }
            _ = term.recv() => return Ok(STORED),
            _ = int.recv() => return Ok(STORED),
        }
    }
}

struct Watch {
    arguments: args::Session,
    folder: PathBuf,
    show: Arc<Show>,
    session: Arc<Session>,
    room: Arc<Semaphore>,
    settle: Duration,
    seen: HashMap<PathBuf, Seen>,
    /// What could not be looked into, and was said.
    unread: HashSet<PathBuf>,
    tasks: JoinSet<(PathBuf, Stamp, Outcome)>,
}

impl Watch {
    /// Looks through the folder and takes the files that have settled.
    fn look(&mut self) {
        let found = walk::files(std::slice::from_ref(&self.folder));
        // The device was pulled out, most likely: it comes again.
        let walk::Found { files, unread } =
            found.unwrap_or_else(|error| walk::Found { files: Vec::new(), unread: vec![(self.folder.clone(), error)] });
        // Each is said once, until it can be looked into again.
        self.unread.retain(|place| unread.iter().any(|(still, _)| still == place));
        for (place, error) in &unread {
            if self.unread.insert(place.clone()) {
                tell(&self.show, &Outcome::failed(place.clone(), error, true), None);
            }
        }
        let own = self.arguments.manifest.as_ref().and_then(|path| path.canonicalize().ok());
        let now = Instant::now();
        let there: HashSet<_> = files.iter().collect();
        let may_be = |path: &Path| self.unread.iter().any(|place| path.starts_with(place));
        self.seen.retain(|path, _| there.contains(path) || may_be(path));
        let mut settled = Vec::new();
        for path in files.into_iter().filter(|path| Some(path) != own.as_ref()) {
            let Ok(stamp) = Stamp::of(&path) else { continue };
            let new = Seen { stamp, since: now, turn: Turn::Settling, is_counted: false };
            let seen = self.seen.entry(path.clone()).or_insert(new);
            if seen.stamp != stamp {
                // One that changes while it is uploaded is looked at again when that has ended.
                let turn = if seen.turn == Turn::Uploading { Turn::Uploading } else { Turn::Settling };
                let is_counted = seen.is_counted && seen.turn != Turn::Done;
                *seen = Seen { stamp, since: now, turn, is_counted };
            }
            let may_go = match seen.turn {
                Turn::Settling => true,
                Turn::Resting(until) => now >= until,
                Turn::Uploading | Turn::Done => false,
            };
            if may_go && now.duration_since(seen.since) >= self.settle {
                seen.turn = Turn::Uploading;
                settled.push((path, stamp));
            }
        }
        if !settled.is_empty() {
            self.take(settled);
        }
    }

    fn take(&mut self, files: Vec<(PathBuf, Stamp)>) {
        // Read each time: the manifest may grow with the folder.
        let sources = match Sources::new(&self.arguments) {
            Ok(sources) => sources,
            Err(error) => {
                self.show.line(&shown(&error));
                files.iter().for_each(|(path, _)| self.put_back(path));
                return;
            }
        };
        let mut to_come = Vec::new();
        for (path, stamp) in files {
            match sources.plan(&path) {
                Ok(file) => {
                    to_come.push(file.clone());
                    if self.seen.get_mut(&path).is_some_and(|seen| !std::mem::replace(&mut seen.is_counted, true)) {
                        self.show.expect(1, stamp.size);
                    }
                    let (session, room) = (self.session.clone(), self.room.clone());
                    self.tasks.spawn(async move {
                        // The semaphore is never closed.
                        let _permit = room.acquire_owned().await;
                        (path, stamp, session.upload(file).await)
                    });
                }
                Err(error) => {
                    tell(&self.show, &Outcome::failed(path.clone(), &error, false), None);
                    self.put_back(&path);
                }
            }
        }
        // Most of them wait for their turn; all are known before. Whose upload fails is taken, and announced, anew by itself.
        let session = self.session.clone();
        tokio::spawn(async move {
            for _ in 0..ANNOUNCED_AGAIN {
                if !session.announce(&to_come).await {
                    return;
                }
                sleep(REST).await;
            }
        });
    }

    fn done(&mut self, path: &Path, uploaded: Stamp, outcome: &Outcome) {
        match outcome {
            Outcome::Failed { kept, .. } => {
                if let Some(size) = kept {
                    // It is looked at anew, and counts then.
                    self.show.not_done(*size);
                }
                self.put_back(path);
            }
            Outcome::Stored { .. } => {
                if let Some(seen) = self.seen.get_mut(path) {
                    seen.turn = if seen.stamp == uploaded { Turn::Done } else { Turn::Settling };
                }
            }
        }
    }

    fn put_back(&mut self, path: &Path) {
        if let Some(seen) = self.seen.get_mut(path) {
            seen.turn = Turn::Resting(Instant::now() + REST);
        }
    }
}
