//! Databases of a test's own.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)]

pub mod telling;
pub mod world;

use caselock_e2e::{postgres_database, sqlite_database};
use caselock_registry::Db;
use sqlx::{AssertSqlSafe, Row};
use tempfile::TempDir;

/// Which database.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Sqlite,
    Postgres,
}

/// An empty database, that goes with the folder.
pub struct Fresh {
    pub db: Db,
    pub url: String,
    _dir: TempDir,
}

impl Kind {
    /// Opens a database of its own.
    pub async fn fresh(self) -> Fresh {
        let dir = TempDir::new().unwrap();
        let url = match self {
            Kind::Sqlite => sqlite_database(&dir),
            Kind::Postgres => postgres_database().await,
        };
        Fresh { db: Db::open(&*url).await.unwrap(), url, _dir: dir }
    }
}

/// Every row of the tables that say what is known, as text.
pub async fn dump(db: &Db) -> Vec<String> {
    let mut all = Vec::new();
    for table in [
        "(SELECT subject, kind, bureau FROM locks) AS locks",
        "recordings",
        "facets",
        "cases",
        "case_entries",
        "evidence",
        "deadlines",
        "extensions",
        "flags",
        "file_numbers",
        "disposals",
    ] {
        let rows = sqlx::query(AssertSqlSafe(format!("SELECT * FROM {table}"))).fetch_all(db.pool()).await.unwrap();
        for row in rows {
            let mut line = table.to_owned();
            for column in sqlx::Row::columns(&row) {
                let name = sqlx::Column::name(column);
                // How often a row was written differs between two ways to the same state.
                if name == "revision" {
                    continue;
                }
                let number = row.try_get::<Option<i64>, _>(name).map(|value| format!("{value:?}"));
                let value = number.unwrap_or_else(|_| format!("{:?}", row.get::<Option<String>, _>(name)));
                line += &format!(" {name}={value}");
            }
            all.push(line);
        }
    }
    all.sort();
    all
}

/// The same without what was told of deadlines: that is known by the ids of events.
pub fn without_told(lines: Vec<String>) -> Vec<String> {
    let strip = |line: String| line.split(" near_told=").next().unwrap_or_default().to_owned();
    lines.into_iter().map(strip).collect()
}

/// Makes a test of each function for each database.
#[macro_export]
macro_rules! on_both_databases {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name($crate::common::Kind::Sqlite).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name($crate::common::Kind::Postgres).await;
            })+
        }
    };
}
