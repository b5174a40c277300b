//! A recording as the registry has it.

use caselock_domain::{
    case::CaseNumber,
    id::{BureauId, RecordingId},
    time::Timestamp,
};
use sqlx::{Any, Row, Transaction, any::AnyRow};

use crate::{Db, RegistryError, documents::Documents, facets, locks::touch_recording};

/// A stored recording: what its documents say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recording {
    /// The id.
    pub id: String,
    /// The bureau.
    pub bureau: String,
    /// The generation that was stored.
    pub generation: u32,
    /// The original's key.
    pub object_key: String,
    /// The original's version.
    pub version: String,
    /// In bytes.
    pub size: u64,
    /// `blake3:` and hex.
    pub blake3: String,
    /// When it was stored, in seconds since 1970, as all times here.
    pub stored_at: i64,
    /// The end of the least period.
    pub floor_until: i64,
    /// Whether a hold was set when it was stored.
    pub hold_at_storing: bool,
    /// `intact` or `damaged`, once it was read back.
    pub verification: Option<String>,
    /// `made` or `failed`, once that was tried.
    pub derivation: Option<String>,
    /// When the device was used, else when it was stored.
    pub used_at: i64,
    /// When the process on the site ended.
    pub scene_ended_at: Option<i64>,
    /// 科室.
    pub unit: String,
    /// 执法人员.
    pub officers: Vec<String>,
    /// 设备编号.
    pub device_id: Option<String>,
    /// 当事人.
    pub party: Option<String>,
    /// 案由.
    pub cause: Option<String>,
    /// The case it was uploaded for, in NFKC.
    pub case_number: Option<String>,
    /// The name the device gave.
    pub original_name: String,
    /// Where it comes from.
    pub source: String,
    /// The whole metadata, JSON.
    pub metadata: String,
}

impl Recording {
    /// From the documents beside it.
    pub fn of(documents: &Documents) -> Self {
        let Documents { manifest, verification, derived } = documents;
        let metadata = &manifest.metadata;
        let used_at = metadata.recorded_started_at.unwrap_or(manifest.retention.stored_at);
        let json = serde_json::to_value(metadata).unwrap_or_default();
        let number = metadata.case_number.clone().and_then(|number| CaseNumber::try_from(number).ok());
        let word = |yes, word: &str, other: &str| (if yes { word } else { other }).to_owned();
        Self {
            id: manifest.recording_id.to_string(),
            bureau: manifest.bureau.to_string(),
            generation: manifest.generation,
            object_key: manifest.object_key.clone(),
            version: manifest.version.clone(),
            size: manifest.size,
            blake3: String::from(manifest.blake3),
            stored_at: manifest.retention.stored_at.as_second(),
            floor_until: manifest.retention.locked_until.as_second(),
            hold_at_storing: manifest.retention.legal_hold,
            verification: verification.as_ref().map(|found| word(found.intact, "intact", "damaged")),
            derivation: derived.as_ref().map(|made| word(made.failure.is_none(), "made", "failed")),
            used_at: used_at.as_second(),
            scene_ended_at: metadata.scene_ended_at.map(Timestamp::as_second),
            unit: metadata.unit.clone(),
            officers: metadata.officers.clone(),
            device_id: metadata.device_id.clone(),
            party: metadata.party.clone(),
            cause: metadata.cause.clone(),
            case_number: number.map(String::from),
            original_name: metadata.original_name.clone(),
            source: json["source"].as_str().unwrap_or_default().to_owned(),
            metadata: json.to_string(),
        }
    }

    /// Saves it. Saving what is there changes nothing; an older generation changes nothing either. Whether anything changed.
    pub(crate) async fn save(&self, transaction: &mut Transaction<'static, Any>) -> Result<bool, RegistryError> {
        let saved = sqlx::query(
            "INSERT INTO recordings (id, bureau, generation, object_key, version, size, blake3, stored_at, floor_until,
                 hold_at_storing, verification, derivation, used_at, scene_ended_at, unit, device_id, party, cause,
                 case_number, original_name, source, metadata)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)
             ON CONFLICT (id) DO UPDATE SET generation = excluded.generation, object_key = excluded.object_key,
                 version = excluded.version, size = excluded.size, blake3 = excluded.blake3,
                 stored_at = excluded.stored_at, floor_until = excluded.floor_until,
                 hold_at_storing = excluded.hold_at_storing,
                 verification = CASE WHEN excluded.generation > recordings.generation THEN excluded.verification
                     ELSE coalesce(excluded.verification, recordings.verification) END,
                 derivation = CASE WHEN excluded.generation > recordings.generation THEN excluded.derivation
                     ELSE coalesce(excluded.derivation, recordings.derivation) END,
                 used_at = excluded.used_at, scene_ended_at = excluded.scene_ended_at, unit = excluded.unit,
                 device_id = excluded.device_id, party = excluded.party, cause = excluded.cause,
                 case_number = excluded.case_number, original_name = excluded.original_name, source = excluded.source,
                 metadata = excluded.metadata
             WHERE excluded.generation > recordings.generation
                 OR (excluded.generation = recordings.generation AND (
                     (recordings.verification IS NULL AND excluded.verification IS NOT NULL)
                     OR (recordings.derivation IS NULL AND excluded.derivation IS NOT NULL)))",
        )
        .bind(&self.id)
        .bind(&self.bureau)
        .bind(i64::from(self.generation))
        .bind(&self.object_key)
        .bind(&self.version)
        .bind(self.size as i64)
        .bind(&self.blake3)
        .bind(self.stored_at)
        .bind(self.floor_until)
        .bind(i64::from(self.hold_at_storing))
        .bind(&self.verification)
        .bind(&self.derivation)
        .bind(self.used_at)
        .bind(self.scene_ended_at)
        .bind(&self.unit)
        .bind(&self.device_id)
        .bind(&self.party)
        .bind(&self.cause)
        .bind(&self.case_number)
        .bind(&self.original_name)
        .bind(&self.source)
        .bind(&self.metadata)
        .execute(&mut **transaction)
        .await?;
        if saved.rows_affected() == 0 {
            return Ok(false);
        }
        touch_recording(transaction, &self.id, &self.bureau).await?;
        // A case that had no footage may have some now.
        let case = sqlx::query(
            "UPDATE locks SET look_at = 0 WHERE subject IN (SELECT id FROM cases WHERE bureau = $1 AND number = $2)",
        );
        case.bind(&self.bureau).bind(&self.case_number).execute(&mut **transaction).await?;
        facets::of_recording(transaction, self).await?;
        Ok(true)
    }

    /// Whether this generation, or a later one, is known to be stored.
    pub(crate) async fn covers(
        tx: &mut Transaction<'static, Any>,
        id: &str,
        generation: u32,
    ) -> Result<bool, RegistryError> {
        let row = sqlx::query("SELECT 1 FROM recordings WHERE id = $1 AND generation >= $2");
        Ok(row.bind(id).bind(i64::from(generation)).fetch_optional(&mut **tx).await?.is_some())
    }

    /// A bureau's recording; another bureau's is not there.
    pub async fn find(db: &Db, bureau: &BureauId, id: RecordingId) -> Result<Option<Self>, RegistryError> {
        let row = sqlx::query("SELECT * FROM recordings WHERE id = $1 AND bureau = $2")
            .bind(id.to_string())
            .bind(bureau.to_string())
            .fetch_optional(db.pool())
            .await?;
        row.as_ref().map(Self::of_row).transpose()
    }

    pub(crate) fn of_row(row: &AnyRow) -> Result<Self, RegistryError> {
        let metadata: String = row.try_get("metadata")?;
        let json: serde_json::Value = serde_json::from_str(&metadata).unwrap_or_default();
        let officers = json["officers"].as_array().into_iter().flatten();
        Ok(Self {
            id: row.try_get("id")?,
            bureau: row.try_get("bureau")?,
            generation: row.try_get::<i64, _>("generation")? as u32,
            object_key: row.try_get("object_key")?,
            version: row.try_get("version")?,
            size: row.try_get::<i64, _>("size")? as u64,
            blake3: row.try_get("blake3")?,
            stored_at: row.try_get("stored_at")?,
            floor_until: row.try_get("floor_until")?,
            hold_at_storing: row.try_get::<i64, _>("hold_at_storing")? != 0,
            verification: row.try_get("verification")?,
            derivation: row.try_get("derivation")?,
            used_at: row.try_get("used_at")?,
            scene_ended_at: row.try_get("scene_ended_at")?,
            unit: row.try_get("unit")?,
            officers: officers.filter_map(|officer| officer.as_str().map(str::to_owned)).collect(),
            device_id: row.try_get("device_id")?,
            party: row.try_get("party")?,
            cause: row.try_get("cause")?,
            case_number: row.try_get("case_number")?,
            original_name: row.try_get("original_name")?,
            source: row.try_get("source")?,
            metadata,
        })
    }
}
