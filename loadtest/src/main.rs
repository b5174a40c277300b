//! `caselock-loadtest`: loads a running Caselock as bureaus would, measures it, and checks that nothing was lost.
//!
//! `loadtest/run.sh` brings up the servers and calls it; what it found stands in `loadtest/README.md`.

mod arrivals;
mod check;
mod connection;
mod drive;
mod footage;
mod held;
mod plan;
mod plots;
mod record;
mod report;
mod sample;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Loads a running Caselock, measures it, and checks that nothing was lost.
///
/// Exit codes: 0 everything that was to be uploaded is there; 1 something is not, or the load could not be made.
#[derive(Parser)]
#[command(name = "caselock-loadtest", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes the topics and the bucket that the services of a run need.
    Prepare(connection::Servers),
    /// Makes files of the sizes of a mix, for runs and for peers.
    Footage(footage::Make),
    /// Uploads, measures, checks, and writes a report.
    Run(Box<drive::Run>),
    /// Checks once more what a past run recorded.
    Check(check::Again),
    /// Times what a gateway says of a recording with very many segments.
    Held(held::Held),
    /// Reckons how much of everything is needed for so many bureaus, and simulates a day of it.
    Plan(plan::Plan),
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let is_good = match Arguments::parse().command {
        Command::Prepare(servers) => connection::prepare(&servers).await.map(|()| true),
        Command::Footage(make) => footage::run(&make).map(|()| true),
        Command::Run(run) => drive::run(&run).await,
        Command::Check(again) => check::run(&again).await,
        Command::Held(held) => held::run(&held).await.map(|()| true),
        Command::Plan(plan) => plan::run(&plan).map(|()| true),
    }?;
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
