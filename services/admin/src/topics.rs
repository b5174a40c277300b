//! The topics.

use anyhow::{Context, ensure};
use caselock_log::{Log, Topic};
use caselock_log_kafka::{KafkaConfig, KafkaLog, Provision, provision, replicas};
use clap::{Args, Subcommand};

#[derive(Subcommand)]
pub enum Command {
    /// Makes the topics that are missing, then checks all. Those that are there stay as they are.
    Make(Replicas),
    /// Says of each topic whether it is as it must be.
    Check(Replicas),
}

#[derive(Args)]
pub struct Replicas {
    /// Replicas of each partition: so many at least when they are checked.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    replicas: u32,
}

pub async fn run(config: &KafkaConfig, command: &Command) -> anyhow::Result<()> {
    let (Command::Make(Replicas { replicas }) | Command::Check(Replicas { replicas })) = command;
    ensure!(
        (*replicas == 1) == config.single_node,
        "--replicas {replicas} with kafka.single_node={}: one node has one replica, a cluster at least two, since two must be in sync",
        config.single_node
    );
    if let Command::Make(_) = command {
        let how = Provision { replication: *replicas, settings: Vec::new() };
        provision(config, &how).await.context("make the topics")?;
    }
    check(config, *replicas).await
}

async fn check(config: &KafkaConfig, wanted: u32) -> anyhow::Result<()> {
    let log = KafkaLog::open(config).await?;
    let mut wrong = 0;
    for topic in Topic::ALL {
        let problem = match log.check(topic).await {
            Err(error) => Some(error.to_string()),
            Ok(()) => {
                let found = replicas(config, topic).await?;
                (found < wanted).then(|| format!("a partition has {found} replicas, and must have {wanted}"))
            }
        };
        wrong += u32::from(problem.is_some());
        println!("{}: {}", config.topic(topic), problem.as_deref().unwrap_or("as it must be"));
    }
    ensure!(wrong == 0, "{wrong} topics are not as they must be");
    Ok(())
}
