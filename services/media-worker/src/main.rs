//! `caselock-media-worker`: reads one untrusted recording from fd 0, in a sandbox, and writes
//! derivatives to inherited descriptors and one JSON report to stdout.

mod args;
mod contact_sheet;
mod decode;
mod derive;
mod envelope;
mod failure;
mod ffi;
mod file;
mod filter;
mod geometry;
mod jpeg;
mod keyframes;
mod orientation;
mod poster;
mod preview;
mod probe;
mod proxy;
mod report;
mod sandbox;
mod source;
mod waveform;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::args::Command;
use crate::report::FailureReport;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Err(unsaid) = print(&FailureReport::from(&error)) {
                eprintln!("{error:#}; and the report could not be written: {unsaid:#}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    match args::parse(std::env::args_os().skip(1)).context("read arguments")? {
        Command::CheckSandbox(limits) => print(&sandbox::apply(&limits)),
        Command::Derive(job, limits) => {
            decode::threads();
            let sandbox = sandbox::apply(&limits);
            print(&derive::run(&job, sandbox)?)
        }
    }
}

fn print(document: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(document).context("encode the report")?;
    line.push(b'\n');
    io::stdout().write_all(&line).context("write the report")
}
