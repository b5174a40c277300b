//! Databases of a test's own.

use sqlx::{AnyPool, AssertSqlSafe};
use tempfile::TempDir;

/// The URL of an empty database on the PostgreSQL that the tests are given.
pub async fn postgres_database() -> String {
    let server = std::env::var("CASELOCK_TEST_POSTGRES").expect("CASELOCK_TEST_POSTGRES names a PostgreSQL");
    sqlx::any::install_default_drivers();
    let pool = AnyPool::connect(&server).await.unwrap();
    let name = format!("test_{}", uuid::Uuid::new_v4().simple());
    sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&pool).await.unwrap();
    let (before, _) = server.rsplit_once('/').unwrap();
    format!("{before}/{name}")
}

/// The URL of a database that goes with the folder.
pub fn sqlite_database(dir: &TempDir) -> String {
    format!("sqlite:{}?mode=rwc", dir.path().join("registry.sqlite").display())
}
