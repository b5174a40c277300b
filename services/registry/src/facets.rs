//! What recordings are found by (Article 19), kept beside them: the recording's own, and what its cases say.

use sqlx::{Any, Transaction};

use crate::{Recording, RegistryError};

/// What only the recording itself says.
const OWN: [&str; 3] = ["unit", "device", "officer"];

/// Writes anew what a recording is found by.
pub async fn of_recording(tx: &mut Transaction<'static, Any>, recording: &Recording) -> Result<(), RegistryError> {
    let gone = sqlx::query("DELETE FROM facets WHERE recording_id = $1 AND facet IN ('unit', 'device', 'officer')");
    gone.bind(&recording.id).execute(&mut **tx).await?;
    let [unit, device, officer] = OWN;
    let device = recording.device_id.iter().map(|id| (device, id));
    let officers = recording.officers.iter().map(|name| (officer, name));
    for (facet, value) in [(unit, &recording.unit)].into_iter().chain(device).chain(officers) {
        let put = sqlx::query(
            "INSERT INTO facets (bureau, facet, value, used_at, recording_id) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT DO NOTHING",
        );
        let put = put.bind(&recording.bureau).bind(facet).bind(value).bind(recording.used_at).bind(&recording.id);
        put.execute(&mut **tx).await?;
    }
    shared(tx, "SELECT id FROM recordings WHERE id = $1", &recording.id).await
}

/// Writes anew what the recordings of a case are found by because of their cases.
pub async fn of_case(tx: &mut Transaction<'static, Any>, case_id: &str) -> Result<(), RegistryError> {
    shared(tx, "SELECT recording_id FROM bonds WHERE case_id = $1", case_id).await
}

/// What recordings and their cases say: of the recordings that `which` selects, with one parameter.
async fn shared(tx: &mut Transaction<'static, Any>, which: &'static str, id: &str) -> Result<(), RegistryError> {
    let into = "INSERT INTO facets (bureau, facet, value, used_at, recording_id)";
    let joined = "FROM bonds b JOIN cases c ON c.id = b.case_id JOIN recordings r ON r.id = b.recording_id";
    let mut statements =
        vec![format!("DELETE FROM facets WHERE facet IN ('party', 'cause', 'case') AND recording_id IN ({which})")];
    for (facet, own, of_case) in
        [("party", "party", "party"), ("cause", "cause", "cause"), ("case", "case_number", "number")]
    {
        statements.push(format!(
            "{into} SELECT bureau, '{facet}', {own}, used_at, id FROM recordings
             WHERE id IN ({which}) AND {own} IS NOT NULL ON CONFLICT DO NOTHING"
        ));
        statements.push(format!(
            "{into} SELECT r.bureau, '{facet}', c.{of_case}, r.used_at, r.id {joined}
             WHERE b.recording_id IN ({which}) AND c.{of_case} IS NOT NULL ON CONFLICT DO NOTHING"
        ));
    }
    for statement in statements {
        // Made of nothing but the words above.
        sqlx::query(sqlx::AssertSqlSafe(statement)).bind(id).execute(&mut **tx).await?;
    }
    Ok(())
}
