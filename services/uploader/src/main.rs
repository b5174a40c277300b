//! `caselock`: the bureaus' command. Brings footage to its keeper and says when a device may be wiped.

mod args;
mod fields;
mod journal;
mod kind;
mod manifest;
mod receipts;
mod show;
mod upload;
mod walk;

use std::process::ExitCode;

use clap::Parser;

use args::{Arguments, Command};

/// Everything is stored, and its receipt verified.
const STORED: u8 = 0;
/// A fault of this program or machine.
const INTERNAL: u8 = 1;
/// Something was held back or refused: it needs a person.
const HELD: u8 = 3;
/// Something failed for a reason that passes: run the same command again.
const RETRY: u8 = 5;

#[tokio::main]
async fn main() -> ExitCode {
    // clap ends the process with 2 for wrong usage.
    let arguments = Arguments::parse();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(arguments.log_level()).init();
    let done = match arguments.command {
        Command::Upload(upload) => upload::run(upload).await,
        Command::Status(status) => receipts::status(&status),
        Command::Receipt(receipt) => receipts::verify(&receipt),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("caselock: {error:#}");
            ExitCode::from(INTERNAL)
        }
    }
}
