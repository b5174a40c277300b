//! A real server of the test's own, that it may kill.

use std::{collections::HashMap, path::Path, process::Command};

use tempfile::TempDir;

use crate::root;

/// A server that one of the scripts under `deploy/` runs; stopped when dropped.
pub struct Server {
    script: &'static str,
    dir: TempDir,
}

impl Server {
    /// Installs (where it is not there yet) and starts a server of its own: `kafka.sh` or `s3.sh`.
    pub fn start(script: &'static str) -> Self {
        // Where the test command looks for what a killed test left running.
        let servers = std::env::var_os("CASELOCK_TEST_SERVERS").map_or_else(std::env::temp_dir, Into::into);
        let name = format!("{}.", script.trim_end_matches(".sh"));
        let server = Self { script, dir: TempDir::with_prefix_in(name, servers).unwrap() };
        assert!(Command::new(root().join("deploy").join(script)).arg("install").status().unwrap().success());
        server.run("start");
        server
    }

    /// kill -9.
    pub fn kill(&self) {
        self.run("kill");
    }

    /// Starts it again, on the same data and address.
    pub fn start_again(&self) {
        self.run("start");
    }

    /// The variables that name it.
    pub fn variables(&self) -> HashMap<String, String> {
        let output = self.run("env");
        let pairs = output.lines().filter_map(|line| line.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn run(&self, what: &str) -> String {
        let output = Command::new(root().join("deploy").join(self.script)).arg(what).arg(self.path()).output().unwrap();
        assert!(output.status.success(), "{} {what}: {}", self.script, String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The test has its verdict; a server that is gone already is what is wanted.
        let _ = Command::new(root().join("deploy").join(self.script)).arg("stop").arg(self.path()).output();
    }
}
