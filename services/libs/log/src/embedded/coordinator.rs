//! Groups within one process: partitions shared out among the members, revoked and assigned anew when one comes or goes.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{PARTITIONS, QUEUE, Read, file::LogFile, read, writer::Writer};
use crate::{Assignment, Commits, Control, Delivered, LogError, Member, Offset, Topic};

/// How long a member may take to give up its partitions.
const SESSION: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub struct Coordinator(mpsc::Sender<Event>);

enum Event {
    Join(oneshot::Sender<Member>),
    Leave(u64),
}

/// What a member owns now: the fence its commits are checked against.
#[derive(Default)]
struct Fence {
    epoch: u64,
    partitions: HashSet<u32>,
}

struct Seat {
    id: u64,
    control: mpsc::Sender<Control>,
    entries: mpsc::Sender<Delivered>,
    fence: Arc<Mutex<Fence>>,
    /// Stops the delivery of the present assignment.
    delivery: Option<DropGuard>,
}

impl Coordinator {
    pub fn start(group: &str, topic: Topic, file: Arc<LogFile>, writer: Writer) -> Self {
        let (sender, events) = mpsc::channel(QUEUE);
        let group = Group { name: group.to_owned(), topic, file, writer, seats: Vec::new(), next_id: 0, epoch: 0 };
        tokio::spawn(group.run(events, sender.downgrade()));
        Self(sender)
    }

    pub async fn join(&self) -> Result<Member, LogError> {
        let stopped = || LogError::Unavailable("the log is closed".into());
        let (sender, member) = oneshot::channel();
        self.0.send(Event::Join(sender)).await.map_err(|_| stopped())?;
        member.await.map_err(|_| stopped())
    }
}

struct Group {
    name: String,
    topic: Topic,
    file: Arc<LogFile>,
    writer: Writer,
    seats: Vec<Seat>,
    next_id: u64,
    epoch: u64,
}

impl Group {
    async fn run(mut self, mut events: mpsc::Receiver<Event>, own: mpsc::WeakSender<Event>) {
        while let Some(event) = events.recv().await {
            match event {
                Event::Join(answer) => {
                    self.revoke().await;
                    let member = self.seat(&own);
                    // One that asked and went is taken out by its `Leave`.
                    let _ = answer.send(member);
                }
                Event::Leave(id) => {
                    self.seats.retain(|seat| seat.id != id);
                    self.revoke().await;
                }
            }
            self.assign().await;
        }
    }

    fn seat(&mut self, own: &mpsc::WeakSender<Event>) -> Member {
        let (control_sender, control) = mpsc::channel(QUEUE);
        let (entry_sender, entries) = mpsc::channel(QUEUE);
        let fence = Arc::new(Mutex::new(Fence::default()));
        let id = self.next_id;
        self.next_id += 1;
        let commits = Arc::new(EmbeddedCommits {
            group: self.name.clone(),
            topic: self.topic,
            writer: self.writer.clone(),
            fence: fence.clone(),
        });
        let (gone, leaving) = (control_sender.clone(), own.clone());
        tokio::spawn(async move {
            gone.closed().await;
            if let Some(events) = leaving.upgrade() {
                // The group ends with the log; then nobody needs to know.
                let _ = events.send(Event::Leave(id)).await;
            }
        });
        self.seats.push(Seat { id, control: control_sender, entries: entry_sender, fence, delivery: None });
        Member { control, entries, commits }
    }

    async fn revoke(&mut self) {
        let mut waiting = Vec::new();
        for seat in &mut self.seats {
            if seat.delivery.take().is_none() {
                continue;
            }
            let (done, answer) = oneshot::channel();
            if seat.control.send(Control::Revoked { lost: false, done }).await.is_ok() {
                waiting.push(answer);
            }
        }
        let all = async {
            for answer in waiting {
                let _ = answer.await;
            }
        };
        // Whoever does not answer in time is fenced all the same.
        let _ = tokio::time::timeout(SESSION, all).await;
        for seat in &self.seats {
            *seat.fence.lock().unwrap_or_else(PoisonError::into_inner) = Fence::default();
        }
    }

    async fn assign(&mut self) {
        self.epoch += 1;
        let count = self.seats.len() as u32;
        for (index, seat) in (0..).zip(&mut self.seats) {
            let (file, name, topic) = (self.file.clone(), self.name.clone(), self.topic);
            let positions = tokio::task::spawn_blocking(move || {
                let own = (0..PARTITIONS).filter(|p| p % count == index);
                let positions = own.map(|p| {
                    let start = file.bounds(topic, p).start;
                    Ok((p, file.committed(&name, topic, p)?.unwrap_or(start).max(start)))
                });
                positions.collect::<Result<Vec<_>, LogError>>()
            });
            let partitions = positions.await.unwrap_or_else(|e| Err(LogError::Unavailable(e.to_string())));
            let control = match partitions {
                Ok(partitions) => {
                    let mut fence = seat.fence.lock().unwrap_or_else(PoisonError::into_inner);
                    *fence = Fence { epoch: self.epoch, partitions: partitions.iter().map(|(p, _)| *p).collect() };
                    Control::Assigned(Assignment { epoch: self.epoch, partitions })
                }
                Err(error) => Control::Failed(error),
            };
            let assignment = match &control {
                Control::Assigned(assignment) => Some(assignment.clone()),
                _ => None,
            };
            if seat.control.send(control).await.is_ok()
                && let Some(assignment) = assignment
            {
                let stop = CancellationToken::new();
                seat.delivery = Some(stop.clone().drop_guard());
                let deliver = deliver(self.file.clone(), self.topic, assignment, seat.entries.clone());
                let control = seat.control.clone();
                tokio::spawn(async move {
                    if let Some(Err(error)) = stop.run_until_cancelled(deliver).await {
                        // A damaged record is not skipped: the member is told, loudly, and joins again.
                        let _ = control.send(Control::Failed(error)).await;
                    }
                });
            }
        }
    }
}

/// Delivers until the assignment is over; an error where the log can't be read.
async fn deliver(
    file: Arc<LogFile>,
    topic: Topic,
    assignment: Assignment,
    entries: mpsc::Sender<Delivered>,
) -> Result<(), LogError> {
    let Assignment { epoch, mut partitions } = assignment;
    let mut changes = file.changes();
    loop {
        changes.mark_unchanged();
        let mut idle = true;
        for (partition, position) in &mut partitions {
            let Read::Entries(batch) = read(&file, topic, *partition, *position).await? else { continue };
            idle = false;
            for entry in batch {
                *position = entry.offset + 1;
                if entries.send(Delivered { epoch, entry }).await.is_err() {
                    return Ok(());
                }
            }
        }
        if idle && changes.changed().await.is_err() {
            return Ok(());
        }
    }
}

struct EmbeddedCommits {
    group: String,
    topic: Topic,
    writer: Writer,
    fence: Arc<Mutex<Fence>>,
}

#[async_trait]
impl Commits for EmbeddedCommits {
    async fn commit(&self, epoch: u64, partition: u32, offset: Offset) -> Result<(), LogError> {
        let owned = {
            let fence = self.fence.lock().unwrap_or_else(PoisonError::into_inner);
            fence.epoch == epoch && fence.partitions.contains(&partition)
        };
        if !owned {
            return Err(LogError::Fenced { topic: self.topic, partition });
        }
        self.writer.commit(&self.group, self.topic, partition, offset).await
    }
}
