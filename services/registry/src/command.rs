//! What is done once, by a command: the audit, and the rebuild from the store.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use caselock_domain::time::Clock;
use caselock_store::Store;

use crate::{Cases, Db, Finding, Kind, Line, RegistryConfig, Summary, audit, rebuild};

/// How long what was stored just now may take until the registry knows it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads every manifest, entry, extension and disposal into the database; prints how many recordings that were.
pub async fn run_rebuild(config: &RegistryConfig, store: Arc<dyn Store>, clock: Clock) -> anyhow::Result<()> {
    let cases = open(config, store, clock).await?;
    let _lead = cases.db.lead().await.context("wait until no other registry works on the database")?;
    let count = rebuild(&cases).await?;
    println!("{count} recordings were read from the store");
    Ok(())
}

/// Compares everything with the store, and prints what is found: to people only what is wrong, as JSON everything. Whether
/// nothing is wrong.
pub async fn run_audit(
    config: &RegistryConfig,
    store: Arc<dyn Store>,
    clock: Clock,
    json: bool,
) -> anyhow::Result<bool> {
    let cases = open(config, store, clock).await?;
    let summary = audit(&cases, &config.periods()?.rolling, PATIENCE, |line| show(line, json)).await?;
    if json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        let Summary { subjects, with_findings, under_retained, unsettled } = summary;
        println!(
            "{subjects} compared, {with_findings} with something wrong, {under_retained} under-retained, {unsettled} still to \
             be brought to what the rule says now by a running registry"
        );
    }
    Ok(summary.with_findings == 0)
}

async fn open(config: &RegistryConfig, store: Arc<dyn Store>, clock: Clock) -> anyhow::Result<Cases> {
    config.check_state()?;
    let db = Db::open(config.database.clone()).await.context("open the registry's database")?;
    Ok(Cases::new(db, store, clock, Arc::new(config.rules()?), config.periods()?.rolling.to))
}

fn show(line: &Line, json: bool) {
    if json {
        // All its fields are plain: it can't fail.
        println!("{}", serde_json::to_string(line).unwrap_or_default());
        return;
    }
    for Finding { finding, key } in &line.findings {
        // Of what is not there, and of what nobody knows, dates say nothing.
        let rule = line.rule.as_ref().filter(|_| !matches!(finding, Kind::MissingObject | Kind::UnknownObject));
        let wanted = rule.map(|rule| format!(": the rule says {}, since {}", rule.until, rule.derivation));
        let found = rule.and(line.locked_until).map(|until| format!(", the store {until}"));
        // By the name that the documentation has.
        let name = serde_json::to_value(finding).unwrap_or_default();
        let name = name.as_str().unwrap_or_default();
        println!("{name}  {key}{}{}", wanted.unwrap_or_default(), found.unwrap_or_default());
    }
}
