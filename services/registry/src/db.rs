//! The database: SQLite in one file, or PostgreSQL. One schema, one set of queries.

use std::{collections::BTreeMap, time::Duration};

use caselock_log::Offset;
use sqlx::{
    Any, AnyPool, Row, Transaction,
    any::{AnyPoolOptions, install_default_drivers},
    migrate::Migrator,
};

use crate::RegistryError;

static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");

/// How long a call waits for a connection.
const PATIENCE: Duration = Duration::from_secs(30);
/// Connections to PostgreSQL.
const CONNECTIONS: u32 = 16;

/// An open database, its schema up to date.
#[derive(Clone)]
pub struct Db {
    pool: AnyPool,
}

impl Db {
    /// Opens `sqlite:PATH` or `postgres://…`, and brings its schema up to date.
    pub async fn open(url: &str) -> Result<Self, RegistryError> {
        install_default_drivers();
        let is_sqlite = url.starts_with("sqlite:");
        // SQLite has one writer: with one connection, transactions wait for each other and never fail for it.
        let options = AnyPoolOptions::new().acquire_timeout(PATIENCE);
        let options = options.max_connections(if is_sqlite { 1 } else { CONNECTIONS });
        let pool = options.connect(url).await?;
        if is_sqlite {
            sqlx::raw_sql("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")
                .execute(&pool)
                .await?;
            SQLITE.run(&pool).await?;
        } else {
            POSTGRES.run(&pool).await?;
        }
        Ok(Self { pool })
    }

    /// The connections, for queries outside a transaction.
    pub fn pool(&self) -> &AnyPool {
        &self.pool
    }

    /// Begins a transaction.
    pub async fn begin(&self) -> Result<Transaction<'static, Any>, RegistryError> {
        Ok(self.pool.begin().await?)
    }

    /// Up to where each partition of the events was read.
    pub async fn positions(&self) -> Result<BTreeMap<u32, Offset>, RegistryError> {
        let rows = sqlx::query("SELECT partition_number, next_offset FROM positions").fetch_all(&self.pool).await?;
        let position = |row: &sqlx::any::AnyRow| {
            let (partition, offset): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
            Ok((partition as u32, offset as Offset))
        };
        rows.iter().map(position).collect()
    }

    /// Whether a rebuild from the store has begun and not ended.
    pub async fn is_rebuilding(&self) -> Result<bool, RegistryError> {
        Ok(sqlx::query("SELECT 1 FROM rebuild").fetch_optional(&self.pool).await?.is_some())
    }
}

/// Notes, with what was read, how far.
pub async fn advance(
    transaction: &mut Transaction<'static, Any>,
    partition: u32,
    next: Offset,
) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO positions (partition_number, next_offset) VALUES ($1, $2)
         ON CONFLICT (partition_number) DO UPDATE SET next_offset = excluded.next_offset
         WHERE excluded.next_offset > positions.next_offset",
    )
    .bind(i64::from(partition))
    .bind(next as i64)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}
