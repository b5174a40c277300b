//! How the registry does with many recordings: searches in a database of a million, audit and rebuild of a store.
//!
//! Figures and commands stand in `services/docs/performance.md`.

mod search;
mod store;

use clap::{Parser, Subcommand};

/// Measures the registry.
#[derive(Parser)]
#[command(name = "caselock-registry-load", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Fills an empty database with recordings, and measures pages of searches by each field.
    Find(search::Find),
    /// Fills a store with recordings, and measures rebuild and audit: in a directory of its own, or, where CASELOCK_TEST_S3_…
    /// name a server, in a bucket of its own there.
    Store(store::OfStore),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Find(find) => search::run(&find).await,
        Command::Store(of) => store::run(&of).await,
    }
}

/// The most memory this process has had, in MiB.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).unwrap_or_default() / 1024
}
