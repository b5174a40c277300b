//! Wrong usage, in Chinese: clap says it in English only.

use std::error::Error as _;

use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

use crate::{phrases::say_phrase, text::say};

/// What is wrong with the command line; `None` where clap's own words must do.
pub fn shown(error: &Error) -> Option<String> {
    let at = |kind| error.get(kind).map(text).unwrap_or_default();
    let (argument, value) = (at(ContextKind::InvalidArg), at(ContextKind::InvalidValue));
    let what = match error.kind() {
        ErrorKind::UnknownArgument => say("misuse-unknown", &[("argument", &argument)]),
        ErrorKind::InvalidSubcommand => say("misuse-command", &[("command", &at(ContextKind::InvalidSubcommand))]),
        ErrorKind::MissingSubcommand => say("misuse-no-command", &[("known", &at(ContextKind::ValidSubcommand))]),
        ErrorKind::MissingRequiredArgument => say("misuse-missing", &[("argument", &argument)]),
        ErrorKind::ArgumentConflict if at(ContextKind::PriorArg) == argument => {
            say("misuse-twice", &[("argument", &argument)])
        }
        ErrorKind::ArgumentConflict => {
            say("misuse-conflict", &[("argument", &argument), ("other", &at(ContextKind::PriorArg))])
        }
        ErrorKind::InvalidValue if value.is_empty() => say("misuse-no-value", &[("argument", &argument)]),
        ErrorKind::InvalidValue => {
            let known = at(ContextKind::ValidValue);
            say("misuse-value", &[("argument", &argument), ("value", &value), ("known", &known)])
        }
        ErrorKind::ValueValidation => {
            let cause = error.source().map(|cause| say_phrase(&cause.to_string())).unwrap_or_default();
            say("misuse-unreadable", &[("argument", &argument), ("value", &value), ("cause", &cause)])
        }
        ErrorKind::TooManyValues => say("misuse-unwanted", &[("argument", &argument), ("value", &value)]),
        _ => return None,
    };
    let suggested = [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand, ContextKind::SuggestedValue];
    let meant = suggested.map(at).into_iter().find(|text| !text.is_empty());
    let meant = meant.map(|meant| say("misuse-meant", &[("meant", &meant)])).unwrap_or_default();
    Some(format!("{}{meant}\n{}", what, say("misuse-help", &[])))
}

fn text(value: &ContextValue) -> String {
    match value {
        ContextValue::String(text) => text.clone(),
        ContextValue::Strings(all) => all.join(", "),
        other => other.to_string(),
    }
}
