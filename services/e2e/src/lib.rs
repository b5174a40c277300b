//! The end-to-end tests' stacks: the real programs, on the embedded default and on the real Kafka and S3 server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod bench;
pub mod browser;
mod contract;
mod database;
mod faulty;
mod footage;
mod program;
mod promise;
mod server;
mod stack;
mod unfaithful;
mod uploader;

pub use bench::{Bench, Running, metadata};
pub use contract::{Kept, kept_contract};
pub use database::{postgres_database, sqlite_database};
pub use faulty::{Death, Faults};
pub use footage::{Footage, random_file};
pub use program::Program;
pub use promise::{KEY, header, id};
pub use server::Server;
pub use stack::{Kind, Stack, free_port};
pub use unfaithful::{Lie, Unfaithful};
pub use uploader::{Run, Uploader, on_a_terminal};

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use rand::{SeedableRng, rngs::StdRng};

/// Makes a test of each function for each stack.
#[macro_export]
macro_rules! on_both_stacks {
    ($($name:ident),+ $(,)?) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name($crate::Kind::Embedded).await;
            })+
        }
        mod distributed {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name($crate::Kind::Distributed).await;
            })+
        }
    };
}

/// A program of this workspace, built by the test command.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(|deps| deps.parent()).unwrap().join(name);
    assert!(path.exists(), "{} is not built: run cargo build --workspace first", path.display());
    path
}

/// The repository's root.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Randomness whose seed a test prints; `CASELOCK_TEST_SEED` repeats a run.
pub fn seeded() -> StdRng {
    let seed = std::env::var("CASELOCK_TEST_SEED").ok().map_or_else(rand::random, |seed| seed.parse().unwrap());
    println!("CASELOCK_TEST_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// How long is waited for anything before a test fails: far longer than a busy machine takes.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// Waits, boundedly, until a condition holds.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < give_up, "waited {PATIENCE:?} for: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
