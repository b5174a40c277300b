//! The bureaus' command, as a bureau runs it.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::{Stack, binary};

/// How a bureau calls the command.
pub struct Uploader {
    arguments: Vec<String>,
    /// The gateways it calls, parted by commas.
    pub server: String,
    pub journal: PathBuf,
}

/// What a call of the command said.
pub struct Run {
    pub code: i32,
    pub events: Vec<Value>,
    pub stderr: String,
}

impl Uploader {
    /// For the bureau `demo`, with a journal of its own.
    pub fn new(stack: &Stack) -> Self {
        Self::of(stack, "demo", &stack.server)
    }

    pub fn of(stack: &Stack, bureau: &str, server: &str) -> Self {
        let ca = |name: &str| stack.dir.path().join("ca").join(name).display().to_string();
        let journal = stack.dir.path().join(format!("journal-{}", uuid::Uuid::new_v4()));
        let pairs = [
            ("--server", server.to_owned()),
            ("--ca", ca("ca.pem")),
            ("--cert", ca(&format!("{bureau}.pem"))),
            ("--key", ca(&format!("{bureau}.key"))),
            ("--receipt-keys", ca("receipt-key.pub.pem")),
            ("--journal", journal.display().to_string()),
        ];
        let mut arguments: Vec<String> = pairs.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect();
        let fields = [
            "source=body_worn_recorder",
            "matter=inspection",
            "record_form=audiovisual",
            "unit=综合监督科",
            "officers=张三",
            "device_id=DSJ-1",
            "recorded_started_at=2026-11-20 09:00:00",
            "recorded_ended_at=2026-11-20 09:10:00",
            "document_id=WS-1",
            "site=大厅",
        ];
        arguments.extend(fields.iter().flat_map(|field| ["--set".to_owned(), (*field).to_owned()]));
        Self { arguments, server: server.to_owned(), journal }
    }

    /// Uploads, and returns what a person reads.
    pub fn say(&self, path: &Path, more: &[&str]) -> String {
        String::from_utf8(self.saying(path, more).output().unwrap().stdout).unwrap()
    }

    /// The command that uploads for people, not begun.
    pub fn saying(&self, path: &Path, more: &[&str]) -> Command {
        let mut command = caselock();
        command.arg("upload").args(&self.arguments).args(more).arg(path);
        command
    }

    fn command(&self, path: &Path, more: &[&str]) -> Command {
        let mut command = caselock();
        command.args(["upload", "--json"]).args(&self.arguments).args(more).arg(path);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Asks the registry as `who`, a certificate's name: `case …` or `find …`, with its answer as JSON.
    pub fn ask(stack: &Stack, who: &str, arguments: &[&str]) -> Run {
        let mut command = Self::asking(stack, who, &[arguments, &["--json"]].concat());
        Run::of(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// The command that asks the registry as `who`, not begun.
    pub fn asking(stack: &Stack, who: &str, arguments: &[&str]) -> Command {
        let ca = |name: &str| stack.dir.path().join("ca").join(name).display().to_string();
        let mut command = Command::new(binary("caselock"));
        command.args(arguments).args(["--registry", &stack.registry, "--ca", &ca("ca.pem")]);
        command.args(["--cert", &ca(&format!("{who}.pem")), "--key", &ca(&format!("{who}.key"))]);
        command
    }

    /// Begins to watch a folder, its events going to a file.
    pub fn watch(&self, folder: &Path, log: &Path, more: &[&str]) -> Child {
        let mut command = Command::new(binary("caselock"));
        command.args(["watch", "--json"]).args(&self.arguments).args(more).arg(folder);
        command.stdin(Stdio::null()).stdout(std::fs::File::create(log).unwrap()).spawn().unwrap()
    }

    /// Uploads, and waits for the end.
    pub fn upload(&self, path: &Path, more: &[&str]) -> Run {
        Run::of(self.start(path, more))
    }

    /// Begins to upload.
    pub fn start(&self, path: &Path, more: &[&str]) -> Child {
        self.command(path, more).spawn().unwrap()
    }
}

/// The command, not within the trace of whoever runs the tests.
fn caselock() -> Command {
    let mut command = Command::new(binary("caselock"));
    command.env_remove("TRACEPARENT");
    command
}

/// Runs a command on a terminal so wide, and returns what is seen there.
pub fn on_a_terminal(command: &Command, columns: u32) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let words: Vec<_> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
    let line = format!("stty cols {columns}; exec {}", words.join(" "));
    let output = Command::new("script").args(["-qec", &line, "/dev/null"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

impl Run {
    /// Waits for a call to end.
    pub fn of(child: Child) -> Self {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        Self {
            code: output.status.code().unwrap_or(-1),
            // A line that was cut off by a kill is no event.
            events: text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The one answer of a call that went well.
    #[track_caller]
    pub fn answer(&self) -> &Value {
        assert_eq!((self.code, self.events.len()), (0, 1), "{:?}\n{}", self.events, self.stderr);
        &self.events[0]
    }

    /// Fails unless the call was refused for this reason.
    #[track_caller]
    pub fn expect_refused(&self, reason: &str) {
        assert!(self.code == 3 && self.stderr.contains(reason), "{}: {}", self.code, self.stderr);
    }

    /// The events of a kind.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.events.iter().filter(move |event| event["event"] == kind)
    }

    /// The bytes that were acknowledged in this call.
    pub fn bytes_held(&self) -> u64 {
        self.of_kind("held").map(|event| event["bytes"].as_u64().unwrap()).sum()
    }

    /// Fails unless every file was stored.
    #[track_caller]
    pub fn expect_stored(&self, files: usize) {
        let failed: Vec<_> = self.of_kind("failed").collect();
        assert_eq!(self.code, 0, "{failed:#?}\n{}", self.stderr);
        assert_eq!(self.of_kind("stored").count(), files, "{failed:#?}\n{}", self.stderr);
    }
}
