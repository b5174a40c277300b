//! The database: SQLite in one file, or PostgreSQL. One schema, one set of queries.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use caselock_log::Offset;
use caselock_runtime::{
    secret::Secret,
    watched::{LOOK, Watched},
};
use sqlx::{
    Any, AnyConnection, AnyPool, Connection, Row, Transaction,
    any::{AnyConnectOptions, AnyPoolOptions, install_default_drivers},
    migrate::Migrator,
};

use tokio_util::task::AbortOnDropHandle;

use crate::RegistryError;

/// One schema for both databases.
static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// How long a call waits for a connection.
const PATIENCE: Duration = Duration::from_secs(30);
/// Connections to PostgreSQL.
const CONNECTIONS: u32 = 16;
/// The key of PostgreSQL's advisory lock: "caselock" in ASCII.
const LEAD: i64 = 0x6361_7365_6c6f_636b;
/// How often the lead is asked for, and whether it is still there.
const BEAT: Duration = Duration::from_secs(2);
/// So that PostgreSQL ends the session of a registry whose machine or network is gone, and the lock with it, after a minute; by default it
/// takes hours. Later than that registry itself gives up ([`BEAT`] and [`PATIENCE`]): never do two think that they lead.
const KEEPALIVE: &str = "SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3; \
     SET tcp_user_timeout = 60000";

/// An open database, its schema up to date.
#[derive(Clone)]
pub struct Db {
    pool: AnyPool,
    url: Secret,
    is_sqlite: bool,
    _following: Option<Arc<AbortOnDropHandle<()>>>,
}

/// The right to be the one registry that works on a database: there is one writer of locks.
pub struct Lead(Option<AnyConnection>);

impl Lead {
    /// Resolves when the right is lost: whoever works must stop at once.
    pub async fn lost(self) -> RegistryError {
        let Some(mut connection) = self.0 else { return std::future::pending().await };
        loop {
            tokio::time::sleep(BEAT).await;
            let beat = tokio::time::timeout(PATIENCE, connection.ping()).await;
            if !matches!(beat, Ok(Ok(()))) {
                return RegistryError::LeadLost;
            }
        }
    }
}

/// New connections are made with the name and password that the file has then. With another database it is another registry: that one must be
/// started anew.
async fn follow(pool: AnyPool, url: Secret, first: AnyConnectOptions) {
    let mut file = Watched::new(url.file().map(Into::into));
    loop {
        tokio::time::sleep(LOOK).await;
        if !file.have_changed() {
            continue;
        }
        file.use_now();
        let read = url.read().map_err(|error| error.to_string());
        match read.and_then(|now| now.parse::<AnyConnectOptions>().map_err(|error| error.to_string())) {
            Ok(now) if is_same(&first, &now) => {
                pool.set_connect_options(now);
                tracing::info!("registry.database has changed: new connections use it");
            }
            Ok(_) => tracing::error!("registry.database names another database: start the registry anew for that one"),
            Err(error) => tracing::error!(error, "registry.database can't be used; going on with the one before"),
        }
    }
}

/// The same database, whoever asks.
fn is_same(one: &AnyConnectOptions, other: &AnyConnectOptions) -> bool {
    let of = |options: &AnyConnectOptions| {
        let url = &options.database_url;
        (url.scheme().to_owned(), url.host_str().map(ToOwned::to_owned), url.port(), url.path().to_owned())
    };
    of(one) == of(other)
}

impl Db {
    /// Opens `sqlite:PATH` or `postgres://…`, and brings its schema up to date.
    pub async fn open(url: impl Into<Secret>) -> Result<Self, RegistryError> {
        install_default_drivers();
        let url = url.into();
        let read = url.read()?;
        let is_sqlite = read.starts_with("sqlite:");
        // SQLite has one writer: with one connection, transactions wait for each other and never fail for it.
        let options = AnyPoolOptions::new().acquire_timeout(PATIENCE);
        let options = options.max_connections(if is_sqlite { 1 } else { CONNECTIONS });
        let pool = options.connect(&read).await?;
        if is_sqlite {
            sqlx::raw_sql("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")
                .execute(&pool)
                .await?;
        }
        MIGRATIONS.run(&pool).await?;
        let following = match url.file() {
            Some(_) => {
                let follow = tokio::spawn(follow(pool.clone(), url.clone(), read.parse()?));
                Some(Arc::new(AbortOnDropHandle::new(follow)))
            }
            None => None,
        };
        Ok(Self { pool, url, is_sqlite, _following: following })
    }

    /// Waits until no other registry works on this database. PostgreSQL knows, and ends the right with the connection; a file of
    /// SQLite belongs to one process by what is agreed (`services/docs/ops.md`).
    pub async fn lead(&self) -> Result<Lead, RegistryError> {
        if self.is_sqlite {
            return Ok(Lead(None));
        }
        let mut connection = AnyConnection::connect(&self.url.read()?).await?;
        sqlx::raw_sql(KEEPALIVE).execute(&mut connection).await?;
        loop {
            let row = sqlx::query("SELECT pg_try_advisory_lock($1)").bind(LEAD).fetch_one(&mut connection).await?;
            if row.try_get(0)? {
                return Ok(Lead(Some(connection)));
            }
            tokio::time::sleep(BEAT).await;
        }
    }

    /// The connections, for queries outside a transaction.
    pub fn pool(&self) -> &AnyPool {
        &self.pool
    }

    /// Begins a transaction that may change several rows, or tell of something. They come one after the other, whoever begins
    /// them: none waits for what another holds that waits for it, and events are numbered in the order of commits.
    pub async fn begin(&self) -> Result<Transaction<'static, Any>, RegistryError> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query("UPDATE event_clock SET seq = seq").execute(&mut *transaction).await?;
        Ok(transaction)
    }

    /// Up to where each partition of a topic was read, by its name in its log. Of topics that were made under new names
    /// nothing was.
    pub async fn positions(&self, topic: &str) -> Result<BTreeMap<u32, Offset>, RegistryError> {
        let rows = sqlx::query("SELECT partition_number, next_offset FROM reads WHERE topic = $1");
        let rows = rows.bind(topic).fetch_all(&self.pool).await?;
        let position = |row: &sqlx::any::AnyRow| {
            let (partition, offset): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
            Ok((partition as u32, offset as Offset))
        };
        rows.iter().map(position).collect()
    }

    /// Whether nothing was ever read into it.
    pub async fn is_new(&self) -> Result<bool, RegistryError> {
        for statement in
            ["SELECT 1 FROM reads LIMIT 1", "SELECT 1 FROM recordings LIMIT 1", "SELECT 1 FROM cases LIMIT 1"]
        {
            if sqlx::query(statement).fetch_optional(&self.pool).await?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a rebuild from the store has begun and not ended.
    pub async fn is_rebuilding(&self) -> Result<bool, RegistryError> {
        Ok(sqlx::query("SELECT 1 FROM rebuild").fetch_optional(&self.pool).await?.is_some())
    }
}

/// Notes, with what was read, how far.
pub async fn advance(
    transaction: &mut Transaction<'static, Any>,
    topic: &str,
    partition: u32,
    next: Offset,
) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO reads (topic, partition_number, next_offset) VALUES ($1, $2, $3)
         ON CONFLICT (topic, partition_number) DO UPDATE SET next_offset = excluded.next_offset
         WHERE excluded.next_offset > reads.next_offset",
    )
    .bind(topic)
    .bind(i64::from(partition))
    .bind(next as i64)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}
