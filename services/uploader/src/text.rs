//! What people read, in their language. Machine output (`--json`, CSV) is never localised.

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt::Display,
    io::{self, Write},
    sync::OnceLock,
};

use caselock_domain::time::local;
use clap::{Arg, ArgAction, Command};
use fluent_templates::{LanguageIdentifier, Loader, fluent_bundle::FluentValue, langid, static_loader};

static_loader! {
    static LOCALES = {
        locales: "./locales",
        fallback_language: "en",
        // Marks that keep text directions apart show as boxes on many terminals.
        customise: |bundle| bundle.set_use_isolating(false),
    };
}

static LANGUAGE: OnceLock<LanguageIdentifier> = OnceLock::new();

/// Chooses the language: `wanted` (`en` or `zh`), else what LC_ALL, LC_MESSAGES or LANG say.
pub fn choose(wanted: Option<&str>) {
    let environment =
        || ["LC_ALL", "LC_MESSAGES", "LANG"].iter().find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()));
    let known = wanted.filter(|name| ["en", "zh"].contains(name));
    let name = known.map(str::to_owned).or_else(environment).unwrap_or_default();
    let language = if name.starts_with("zh") { langid!("zh") } else { langid!("en") };
    // A second choice does not count: the first was made by the command line.
    let _ = LANGUAGE.set(language);
}

fn language() -> &'static LanguageIdentifier {
    LANGUAGE.get_or_init(|| langid!("en"))
}

/// Whether it is Chinese.
pub fn is_chinese() -> bool {
    *language() == langid!("zh")
}

/// A message in the chosen language.
pub fn say(key: &str, arguments: &[(&'static str, &str)]) -> String {
    try_say(key, arguments).unwrap_or_else(|| key.to_owned())
}

/// As [`say`]; `None` where there is no such message.
pub fn try_say(key: &str, arguments: &[(&'static str, &str)]) -> Option<String> {
    let arguments: HashMap<Cow<'static, str>, FluentValue<'_>> =
        arguments.iter().map(|(name, value)| (Cow::from(*name), FluentValue::from(*value))).collect();
    LOCALES.try_lookup_with_args(language(), key, &arguments)
}

/// Writes a line to standard output. Who reads no more, as `head`, stops nothing; what could not be written is an error.
pub fn put(line: impl Display) -> io::Result<()> {
    match writeln!(io::stdout().lock(), "{line}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// A word of the schema in the chosen language; as it is, where it is new to this version.
pub fn word(name: &str) -> String {
    LOCALES.try_lookup(language(), &format!("word-{name}")).unwrap_or_else(|| name.to_owned())
}

/// A stored time as people read it; another text as it is.
pub fn local_time(utc: &str) -> String {
    utc.parse().map_or_else(|_| utc.to_owned(), local)
}

/// The command line with its help in the chosen language. English help stands in the code.
pub fn localise(command: Command) -> Command {
    if *language() == langid!("en") { command } else { localise_below(command, "help") }
}

fn localise_below(command: Command, path: &str) -> Command {
    let about = lookup(path);
    let command = match about {
        Some(about) => command.about(about.clone()).long_about(about),
        None => command,
    };
    // What clap says by itself.
    let flag = |name: &'static str, short, action| Arg::new(name).long(name).short(short).action(action);
    let command = command
        .help_template("{about}\n\n用法：{usage}\n\n{all-args}")
        .subcommand_help_heading("命令")
        .disable_help_subcommand(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .arg(flag("help", 'h', ArgAction::Help).help("显示帮助"));
    let command = match path {
        "help" => command.arg(flag("version", 'V', ArgAction::Version).help("显示版本")),
        _ => command,
    };
    let own = path.to_owned();
    let command = command.mut_args(|argument: Arg| {
        let heading = if argument.is_positional() { "参数" } else { "选项" };
        let argument = argument.help_heading(heading);
        let Some(help) = lookup(&format!("{own}-{}", key_of(&argument))) else { return argument };
        if !argument.get_action().takes_values() {
            return argument.help(help.clone()).long_help(help);
        }
        let help = help + &noted(&argument);
        let argument = argument.hide_default_value(true).hide_possible_values(true).hide_env(true);
        argument.help(help.clone()).long_help(help)
    });
    command.mut_subcommands(|below| {
        let path = format!("{path}-{}", below.get_name());
        localise_below(below, &path)
    })
}

/// What clap adds to an argument's help: its default, what it may be, and the variable it is taken from.
fn noted(argument: &Arg) -> String {
    let possible: Vec<_> = argument.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    let given = argument.get_default_values().iter().map(|value| value.to_string_lossy());
    let default: Vec<_> = given.filter(|value| !value.is_empty()).collect();
    let variable = argument.get_env().map(|name| name.to_string_lossy().into_owned());
    let notes =
        [("默认", default.join(", ")), ("可选值", possible.join(", ")), ("环境变量", variable.unwrap_or_default())];
    let notes = notes.into_iter().filter(|(_, text)| !text.is_empty());
    notes.map(|(name, text)| format!("［{name}：{text}］")).collect()
}

fn key_of(argument: &Arg) -> String {
    argument.get_id().as_str().replace('_', "-")
}

fn lookup(key: &str) -> Option<String> {
    LOCALES.try_lookup(&langid!("zh"), key)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::args::Arguments;

    fn missing(command: &Command, path: &str, into: &mut Vec<String>) {
        let arguments = command.get_arguments().filter(|a| !matches!(a.get_id().as_str(), "help" | "version"));
        let keys = arguments.map(|argument| format!("{path}-{}", key_of(argument))).chain([path.to_owned()]);
        into.extend(keys.filter(|key| lookup(key).is_none()));
        for below in command.get_subcommands() {
            missing(below, &format!("{path}-{}", below.get_name()), into);
        }
    }

    #[test]
    fn every_help_text_has_its_chinese() {
        let mut untranslated = Vec::new();
        missing(&Arguments::command(), "help", &mut untranslated);
        assert_eq!(untranslated, Vec::<String>::new());
        localise_below(Arguments::command(), "help").debug_assert();
    }

    #[test]
    fn every_word_of_the_schema_has_its_message() {
        use caselock_proto::v1::{CaseStatus, DeadlineStanding, Flag, KeptBecause, VerificationState};
        let names = |name: fn(i32) -> Option<&'static str>| (1..).map_while(name).map(str::to_lowercase);
        let words = names(|n| Some(CaseStatus::try_from(n).ok()?.as_str_name().trim_start_matches("CASE_STATUS_")))
            .chain(names(|n| Some(KeptBecause::try_from(n).ok()?.as_str_name().trim_start_matches("KEPT_BECAUSE_"))))
            .chain(names(|n| {
                Some(DeadlineStanding::try_from(n).ok()?.as_str_name().trim_start_matches("DEADLINE_STANDING_"))
            }))
            .chain(names(|n| {
                Some(VerificationState::try_from(n).ok()?.as_str_name().trim_start_matches("VERIFICATION_STATE_"))
            }))
            .chain(names(|n| Some(Flag::try_from(n).ok()?.as_str_name().trim_start_matches("FLAG_"))));
        let unsaid: Vec<String> = words.filter(|word| lookup(&format!("word-{word}")).is_none()).collect();
        assert_eq!(unsaid, Vec::<String>::new());
    }

    #[test]
    fn times_are_shown_by_the_clocks_of_shanghai() {
        assert_eq!(local_time("2026-03-05T15:59:59Z"), "2026-03-05 23:59:59+08:00");
        assert_eq!(local_time("2026-03-05T16:00:00.999Z"), "2026-03-06 00:00:00+08:00");
        assert_eq!(local_time("soon"), "soon");
    }

    #[test]
    fn both_languages_have_the_same_messages() {
        let keys = |text: &str| {
            let lines = text.lines().filter_map(|line| line.split_once(" =").map(|(key, _)| key.to_owned()));
            lines.filter(|key| !key.starts_with("help")).collect::<Vec<_>>()
        };
        let (en, zh) = (include_str!("../locales/en/main.ftl"), include_str!("../locales/zh/main.ftl"));
        assert_eq!(keys(en), keys(zh));
    }
}
