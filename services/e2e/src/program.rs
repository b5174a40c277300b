//! A running program: killed when dropped, its log kept for the one who reads a failure.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::{binary, wait_until};

pub struct Program {
    child: Child,
    log: PathBuf,
    admin: u16,
}

impl Program {
    /// Starts a program with its configuration, and waits until it is ready.
    pub fn start(name: &str, config: &[(String, String)], admin: u16, log: &Path) -> Self {
        Self::spawn(":", name, config, admin, log).ready()
    }

    /// Starts a program without waiting, in a shell that did something `first`.
    pub fn spawn(first: &str, name: &str, config: &[(String, String)], admin: u16, log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", &format!(r#"{first}; exec "$0" "$@""#)]).arg(binary(name));
        for (key, value) in config {
            command.args(["--set", &format!("{key}={value}")]);
        }
        command.args(["--set", &format!("admin.listen=127.0.0.1:{admin}")]);
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        Self { child: command.spawn().unwrap(), log: log.to_owned(), admin }
    }

    /// Waits until it is ready, and fails when it ends instead.
    pub fn ready(mut self) -> Self {
        wait_until(&format!("ready ({})", self.log.display()), || {
            assert_eq!(self.child.try_wait().unwrap(), None, "it ended before it was ready");
            get(self.admin, "/readyz").starts_with("ready")
        });
        self
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; the exit code.
    pub fn stop(mut self) -> Option<i32> {
        self.signal("TERM");
        wait_until("the end of the program", || self.child.try_wait().unwrap().is_some());
        self.child.wait().unwrap().code()
    }

    /// Its process id.
    pub fn id(&self) -> String {
        self.child.id().to_string()
    }

    pub fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([&format!("-{signal}"), &self.id()]).status().unwrap().success());
    }

    /// The exit code, if it has ended.
    pub fn ended(&mut self) -> Option<i32> {
        self.child.try_wait().unwrap().map(|status| status.code().unwrap_or(-1))
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// A page of the admin port.
    pub fn admin(&self, path: &str) -> String {
        get(self.admin, path)
    }

    /// A number that it counts, summed over labels; 0 before it was counted.
    pub fn metric(&self, name: &str) -> u64 {
        let text = self.admin("/metrics");
        let values = text.lines().filter(|line| line.starts_with(name) && !line.starts_with('#'));
        values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).unwrap_or_default() * 1024
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            // What it died of is said above a backtrace, and is told with it left out.
            let frame = |line: &&str| line.trim_start().starts_with("at ") || line.contains("::");
            let said: Vec<_> = log.lines().filter(|line| !(line.starts_with("  ") && frame(line))).collect();
            let tail: Vec<_> = said.iter().rev().take(25).collect();
            eprintln!("--- end of {}", self.log.display());
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// A plain HTTP GET; the body, or nothing.
fn get(port: u16, path: &str) -> String {
    use std::io::{Read, Write};
    let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", port)) else { return String::new() };
    let _ = stream.set_read_timeout(Some(std::time::Duration::from_secs(5)));
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let mut answer = String::new();
    let asked = stream.write_all(request.as_bytes()).and_then(|()| stream.read_to_string(&mut answer));
    match (asked, answer.split_once("\r\n\r\n")) {
        (Ok(_), Some((_, body))) => body.to_owned(),
        _ => String::new(),
    }
}
