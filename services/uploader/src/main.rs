//! `caselock`: the bureaus' command. Brings footage to its keeper and says when a device may be wiped.

mod args;
mod bwlimit;
mod case;
mod deadlines;
mod delete;
mod device;
mod dispose;
mod fields;
mod find;
mod import;
mod journal;
mod kind;
mod manifest;
mod misuse;
mod names;
mod phrases;
mod receipts;
mod registry;
mod session;
mod show;
mod table;
mod template;
mod text;
mod upload;
mod walk;
mod watch;

use std::{ffi::OsString, process::ExitCode};

use caselock_client::UploadError;
use clap::{CommandFactory, FromArgMatches};

use args::{Arguments, Command};

/// Everything is stored, and its receipt verified.
const STORED: u8 = 0;
/// A fault of this program or machine.
const INTERNAL: u8 = 1;
/// The command was given what it can't use.
const USAGE: u8 = 2;
/// Something was held back or refused: it needs a person.
const HELD: u8 = 3;
/// Something failed for a reason that passes: run the same command again.
const RETRY: u8 = 5;

#[tokio::main]
async fn main() -> ExitCode {
    // The language must be known before the help can be shown in it.
    text::choose(wanted_language().as_deref());
    let command = text::localise(Arguments::command());
    let matches = command.try_get_matches_from(arguments()).unwrap_or_else(|error| misused(&error));
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(arguments.log_level()).init();
    let done = match arguments.command {
        Command::Upload(upload) => upload::run(*upload).await,
        Command::Watch(watch) => watch::run(*watch).await,
        Command::Status(status) => receipts::status(&status),
        Command::Receipt(receipt) => receipts::verify(&receipt).await,
        Command::Case(case) => case::run(case).await,
        Command::Find(find) => find::run(*find).await,
        Command::Deadlines(deadlines) => deadlines::run(deadlines).await,
        Command::Dispose(dispose) => dispose::run(dispose).await,
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("caselock: {}", phrases::shown(&error));
            let refused = error.downcast_ref::<UploadError>();
            ExitCode::from(match refused {
                Some(error) if error.is_retryable() => RETRY,
                Some(_) => HELD,
                None if error.is::<Usage>() => USAGE,
                None => INTERNAL,
            })
        }
    }
}

/// The command line. `caselock help …` is clap's own, in English alone: in Chinese it stands for `caselock … --help`.
fn arguments() -> Vec<OsString> {
    let mut arguments: Vec<_> = std::env::args_os().collect();
    if !text::is_chinese() {
        return arguments;
    }
    let mut names = Arguments::command().get_subcommands().map(|below| below.get_name().to_owned()).collect::<Vec<_>>();
    names.extend(["-v", "--verbose", "--lang", "--lang=en", "--lang=zh", "en", "zh"].map(str::to_owned));
    let before =
        arguments.iter().skip(1).take_while(|argument| names.iter().any(|name| *argument == name.as_str())).count();
    if arguments.get(1 + before).is_some_and(|argument| argument == "help") {
        arguments.remove(1 + before);
        arguments.push("--help".into());
    }
    arguments
}

/// Ends the process: with the help that was asked for, or with 2 where the usage is wrong.
fn misused(error: &clap::Error) -> ! {
    if let Some(shown) = text::is_chinese().then(|| misuse::shown(error)).flatten() {
        eprintln!("caselock: {shown}");
        std::process::exit(i32::from(USAGE));
    }
    error.exit()
}

/// What the person who called the command can mend.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
struct Usage(anyhow::Error);

fn usage(error: impl Into<anyhow::Error>) -> anyhow::Error {
    Usage(error.into()).into()
}

/// `--lang` of the command line, read before everything else.
fn wanted_language() -> Option<String> {
    let mut arguments = std::env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        // A file's name may be in any encoding.
        match argument.to_str() {
            Some("--lang") => return arguments.next()?.into_string().ok(),
            Some(text) if text.starts_with("--lang=") => return Some(text["--lang=".len()..].to_owned()),
            _ => {}
        }
    }
    None
}
