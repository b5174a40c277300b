use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use anyhow::{Context, bail, ensure};
use caselock_domain::{
    calendar::Calendar,
    case::PeriodStart,
    retention::{check_longest, check_period, end_of, rule::Rolling},
};
use caselock_front::{Door, TlsConfig};
use caselock_runtime::secret::Secret;
use jiff::{SignedDuration, Span, Timestamp};
use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Rules, rules::FILE_NUMBERS};

/// The name, among the periods of [`RegistryConfig::classes`], of no end.
const PERMANENT: &str = "permanent";

/// The registry's settings.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RegistryConfig {
    /// The database: `postgres://USER:PASSWORD@HOST/NAME`, `sqlite:PATH?mode=rwc`, or `file:PATH` of a file that has such an address;
    /// the file is read anew every ten seconds, so that a password can be changed. Needed, but in the standalone process.
    pub database: Secret,
    /// Address and port of the gRPC API.
    pub listen: SocketAddr,
    /// As the gateway's. In the standalone process the gateway's, unless given.
    pub tls: Option<TlsConfig>,
    /// Instead of TLS: every client is this bureau, and an operator. On a loopback address only; for trying things out.
    pub plaintext_bureau: Option<String>,
    /// Connections at once. More wait; one beyond 60 % for one bureau is closed.
    pub connections: u32,
    /// Whether gRPC reflection answers.
    pub reflection: bool,
    /// Whether a bureau may close its cases itself. Closing locks recordings for years, which nobody can take back: otherwise only an
    /// operator may.
    pub bureaus_close_cases: bool,
    /// Whether a bureau may extend its deadlines itself, naming who approved it (Article 13); otherwise only an operator may.
    pub bureaus_extend_deadlines: bool,
    /// A JSON file with working days, instead of the packaged ones (`services/libs/domain/data/calendar.json` shows the form). What
    /// was reckoned by another `version` is reckoned anew at the start, and told of anew where it is moved: give each edition a
    /// version of its own.
    pub calendar: Option<PathBuf>,
    /// How long before a deadline it is told that it is near, ISO 8601 in clock units.
    pub near: String,
    /// How far a recording's times may be from its document's without a flag (Article 10), ISO 8601 in clock units.
    pub document_tolerance: String,
    /// A regular expression for names of files that devices count, with the groups `series` and `number` (Article 21).
    pub file_numbers: String,
    /// Recordings a second, at most, that are compared with the store in the background.
    pub pace: u32,
    /// How long the file of a closed case is kept, by the name of its class: a period as of `archiver.retention.period`, or
    /// `permanent`. What is given in a file replaces all of it.
    pub classes: BTreeMap<String, String>,
    /// From when such a period counts: `closing_day`, or `next_year`, the first of January after it.
    #[schemars(with = "String")]
    pub period_start: PeriodStart,
    /// What is held for a case gets a new date once less than this remains of its lock.
    pub roll_when_under: String,
    /// So long from then that date is.
    pub roll_to: String,
    /// Allows periods that are too short, such as `PT30S`. Only for tests that watch locks run out: such locks are not lawful.
    pub unlawful_periods_for_tests: bool,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        let classes = [("10y", "P10Y"), ("30y", "P30Y"), ("permanent", PERMANENT)];
        Self {
            database: Secret::default(),
            listen: SocketAddr::from(([127, 0, 0, 1], 7444)),
            tls: None,
            plaintext_bureau: None,
            connections: 1_000,
            reflection: false,
            bureaus_close_cases: false,
            bureaus_extend_deadlines: true,
            calendar: None,
            near: "PT12H".into(),
            document_tolerance: "PT10M".into(),
            file_numbers: FILE_NUMBERS.into(),
            pace: 50,
            classes: classes.map(|(name, period)| (name.to_owned(), period.to_owned())).into(),
            period_start: PeriodStart::ClosingDay,
            roll_when_under: "P3M".into(),
            roll_to: "P6M".into(),
            unlawful_periods_for_tests: false,
        }
    }
}

/// The periods, checked.
#[derive(Debug, Clone)]
pub struct Periods {
    /// By class; `None` is for ever.
    pub classes: BTreeMap<String, Option<Span>>,
    /// From when they count.
    pub start: PeriodStart,
    /// How locks of what is held are rolled forward.
    pub rolling: Rolling,
}

impl RegistryConfig {
    /// Checks what the types of the values leave open. Without a database is only the standalone process, which has its own.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!((1..=1_000_000).contains(&self.pace), "registry.pace: expected 1 to 1,000,000");
        ensure!(self.connections > 0, "registry.connections: expected at least 1");
        ensure!(
            !self.database.read().context("registry.database")?.is_empty(),
            "registry.database: expected postgres://USER:PASSWORD@HOST/NAME, or file:PATH of a file that has it"
        );
        self.door()?;
        self.check_state()
    }

    /// The same of what state and rules are made from: audit and rebuild serve nobody, and need no more.
    pub fn check_state(&self) -> anyhow::Result<()> {
        let database = self.database.read().context("registry.database")?;
        if !database.is_empty()
            && !["postgres://", "postgresql://", "sqlite:"].iter().any(|scheme| database.starts_with(scheme))
        {
            bail!("registry.database must be postgres://USER:PASSWORD@HOST/NAME or sqlite:PATH?mode=rwc");
        }
        self.rules()?;
        self.periods().map(drop)
    }

    /// What deadlines and flags are judged by.
    pub fn rules(&self) -> anyhow::Result<Rules> {
        let calendar = match &self.calendar {
            Some(path) => {
                let json = std::fs::read_to_string(path)
                    .with_context(|| format!("read registry.calendar {}", path.display()))?;
                Calendar::parse(&json).context("registry.calendar")?
            }
            None => Calendar::packaged()?,
        };
        let duration = |key: &str, text: &str| -> anyhow::Result<SignedDuration> {
            let duration: SignedDuration =
                text.parse().with_context(|| format!("{key}: expected a time such as PT12H"))?;
            ensure!(duration.is_positive(), "{key}: expected more than no time");
            Ok(duration)
        };
        let file_numbers = Regex::new(&self.file_numbers).context("registry.file_numbers")?;
        for group in ["series", "number"] {
            let has = file_numbers.capture_names().flatten().any(|name| name == group);
            ensure!(has, "registry.file_numbers: expected a group named {group}");
        }
        Ok(Rules {
            near: duration("registry.near", &self.near)?,
            tolerance: duration("registry.document_tolerance", &self.document_tolerance)?,
            file_numbers,
            ..Rules::by(calendar)?
        })
    }

    /// How connections come in.
    pub(crate) fn door(&self) -> anyhow::Result<Door> {
        Door::new("registry", self.listen, self.tls.as_ref(), self.plaintext_bureau.as_deref())
    }

    /// The periods.
    pub fn periods(&self) -> anyhow::Result<Periods> {
        let period = |key: &str, text: &str| -> anyhow::Result<Span> {
            let period: Span = text.parse().with_context(|| format!("{key}: expected a period such as P10Y"))?;
            let check = if self.unlawful_periods_for_tests { check_longest } else { check_period };
            check(&period).with_context(|| format!("{key} is {text}"))?;
            Ok(period)
        };
        ensure!(!self.classes.is_empty(), "registry.classes: expected at least one class");
        let class = |(name, text): (&String, &String)| {
            let key = format!("registry.classes.{name}");
            let kept = (text != PERMANENT).then(|| period(&key, text)).transpose()?;
            Ok((name.clone(), kept))
        };
        let classes = self.classes.iter().map(class).collect::<anyhow::Result<_>>()?;
        let when_under = self.roll_when_under.parse().context("registry.roll_when_under")?;
        let rolling = Rolling { when_under, to: period("registry.roll_to", &self.roll_to)? };
        let now = Timestamp::UNIX_EPOCH;
        let least = if self.unlawful_periods_for_tests { Span::new().seconds(1) } else { Span::new().weeks(4) };
        ensure!(
            end_of(now, &rolling.when_under)? >= end_of(now, &least)?,
            "registry.roll_when_under: expected four weeks (P4W) at least, so that a lock never ends before it is rolled"
        );
        ensure!(
            end_of(now, &rolling.when_under)? < end_of(now, &rolling.to)?,
            "registry.roll_when_under: expected less than registry.roll_to"
        );
        Ok(Periods { classes, start: self.period_start, rolling })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn periods(change: impl FnOnce(&mut RegistryConfig)) -> Result<Periods, String> {
        let mut config = RegistryConfig::default();
        change(&mut config);
        config.periods().map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn too_short_periods_are_refused_by_name() {
        let classes = periods(|_| {}).unwrap().classes;
        assert_eq!(classes.keys().collect::<Vec<_>>(), ["10y", "30y", "permanent"]);
        assert!(classes["permanent"].is_none());
        let set = |name: &str, period: &str| {
            periods(|config| drop(config.classes.insert(name.into(), period.into()))).unwrap_err()
        };
        assert!(set("short", "P5M").starts_with("registry.classes.short is P5M: "));
        assert!(set("word", "ten years").starts_with("registry.classes.word: expected a period"));
        assert!(periods(|config| config.roll_to = "P2M".into()).unwrap_err().contains("registry.roll_to"));
        for wrong in ["P7M", "-P3M", "PT0S", "P1D"] {
            assert!(periods(|config| config.roll_when_under = wrong.into()).unwrap_err().contains("roll_when_under"));
        }
        let short = periods(|config| {
            config.unlawful_periods_for_tests = true;
            (config.roll_when_under, config.roll_to) = ("PT2S".into(), "PT5S".into());
        });
        assert!(short.is_ok());
    }
}
