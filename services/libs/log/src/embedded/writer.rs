//! One thread writes: what arrives while it syncs shares the next sync.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::file::{Batch, LogFile};
use crate::{LogError, Offset, Record, Topic};

/// Stop adding to a transaction beyond this many bytes.
const BATCH: usize = 64 << 20;
/// How many commands may wait. Their bytes are bounded by those who send them.
const QUEUE: usize = 256;

type Answer<T> = oneshot::Sender<Result<T, LogError>>;

enum Command {
    Append(Topic, u32, Record, Answer<Offset>),
    DeleteBefore(Topic, u32, Offset, Answer<()>),
    Commit(String, Topic, u32, Offset, Answer<()>),
}

impl Command {
    fn fail(self, why: String) {
        let error = LogError::Unavailable(why);
        // Whoever asked may be gone.
        match self {
            Command::Append(.., answer) => drop(answer.send(Err(error))),
            Command::DeleteBefore(.., answer) | Command::Commit(.., answer) => drop(answer.send(Err(error))),
        }
    }
}

#[derive(Clone)]
pub struct Writer(mpsc::Sender<Command>);

impl Writer {
    pub fn start(file: Arc<LogFile>) -> Result<Self, LogError> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        std::thread::Builder::new()
            .name("log-writer".into())
            .spawn(move || run(&file, receiver))
            .map_err(|e| LogError::Unavailable(e.to_string()))?;
        Ok(Self(sender))
    }

    pub async fn append(&self, topic: Topic, partition: u32, record: Record) -> Result<Offset, LogError> {
        self.ask(|answer| Command::Append(topic, partition, record, answer)).await
    }

    pub async fn delete_before(&self, topic: Topic, partition: u32, offset: Offset) -> Result<(), LogError> {
        self.ask(|answer| Command::DeleteBefore(topic, partition, offset, answer)).await
    }

    pub async fn commit(&self, group: &str, topic: Topic, partition: u32, offset: Offset) -> Result<(), LogError> {
        self.ask(|answer| Command::Commit(group.to_owned(), topic, partition, offset, answer)).await
    }

    async fn ask<T>(&self, command: impl FnOnce(Answer<T>) -> Command) -> Result<T, LogError> {
        let stopped = || LogError::Unavailable("the log's writer has stopped".into());
        let (answer, result) = oneshot::channel();
        self.0.send(command(answer)).await.map_err(|_| stopped())?;
        result.await.map_err(|_| stopped())?
    }
}

/// Answers, to be sent once the transaction is durable.
type Done = Box<dyn FnOnce(Result<(), String>) + Send>;

fn run(file: &LogFile, mut commands: mpsc::Receiver<Command>) {
    while let Some(first) = commands.blocking_recv() {
        let mut answers: Vec<Done> = Vec::new();
        let mut next = Some(first);
        let written = file.write(|batch| {
            let mut size = 0;
            while let Some(command) = next.take() {
                size += apply(batch, command, &mut answers)?;
                next = if size < BATCH { commands.try_recv().ok() } else { None };
            }
            Ok(())
        });
        let outcome = written.map_err(|e| e.to_string());
        for answer in answers {
            answer(outcome.clone());
        }
        // The transaction could not even be begun.
        if let (Some(first), Err(why)) = (next, outcome) {
            first.fail(why);
        }
    }
}

fn apply(batch: &mut Batch<'_>, command: Command, answers: &mut Vec<Done>) -> Result<usize, LogError> {
    let mut size = 0;
    match command {
        Command::Append(topic, partition, record, answer) => {
            size = record.payload_len();
            let offset = batch.append(topic, partition, record);
            push(answers, answer, offset)?;
        }
        Command::DeleteBefore(topic, partition, offset, answer) => {
            push(answers, answer, batch.delete_before(topic, partition, offset))?;
        }
        Command::Commit(group, topic, partition, offset, answer) => {
            push(answers, answer, batch.commit(&group, topic, partition, offset))?;
        }
    }
    Ok(size)
}

/// Keeps the answer until the transaction is durable. An error fails the whole transaction: nothing half-done is kept.
fn push<T: Send + 'static>(
    answers: &mut Vec<Done>,
    answer: Answer<T>,
    result: Result<T, LogError>,
) -> Result<(), LogError> {
    let (value, error) = match result {
        Ok(value) => (Some(value), Ok(())),
        Err(error) => (None, Err(error)),
    };
    answers.push(Box::new(move |outcome| {
        let outcome = match (outcome, value) {
            (Ok(()), Some(value)) => Ok(value),
            (Err(why), _) => Err(LogError::Unavailable(why)),
            (Ok(()), None) => Err(LogError::Unavailable("not written".into())),
        };
        // Whoever asked may be gone.
        let _ = answer.send(outcome);
    }));
    error
}
