//! What can be set, in one place: shown, checked, described, and changed while a program runs.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    io::{Read, Write as _},
    net::TcpStream,
    process::Command,
};

use caselock_e2e::{Footage, Kind, Stack, Uploader, binary, free_port, root, wait_until};
use serde_json::Value;

const PROGRAMS: [&str; 5] = ["gateway", "archiver", "media", "registry", "standalone"];

/// The page of all settings is what the programs say of themselves.
#[test]
fn the_reference_is_what_the_programs_say() {
    let mut sections: BTreeMap<String, (Value, Vec<&str>)> = BTreeMap::new();
    for program in PROGRAMS {
        let said = Command::new(binary(&format!("caselock-{program}"))).arg("--config-schema").output().unwrap();
        assert!(said.status.success(), "{said:?}");
        let schema: Value = serde_json::from_slice(&said.stdout).unwrap();
        for (name, section) in schema["properties"].as_object().unwrap() {
            let (known, programs) = sections.entry(name.clone()).or_insert_with(|| (section.clone(), Vec::new()));
            assert_eq!(known["properties"], section["properties"], "{name} of {program}");
            programs.push(program);
        }
    }
    let mut page = String::from(
        "# Settings\n\nEvery setting of every service, as the programs describe themselves (`--config-schema`). How they are given: \
         [ops.md](ops.md#configuration). In the environment `gateway.tls.key` is `CASELOCK__GATEWAY__TLS__KEY`.\n",
    );
    for (name, (section, programs)) in &sections {
        let programs: Vec<_> = programs.iter().map(|program| format!("`caselock-{program}`")).collect();
        writeln!(page, "\n## {name}\n\nOf {}.\n", programs.join(", ")).unwrap();
        page.push_str("| Setting | Kind | Default | Meaning |\n|---|---|---|---|\n");
        rows(&mut page, name, section, section.get("default"));
    }
    let path = root().join("services/docs/configuration.md");
    if std::env::var_os("CASELOCK_WRITE_DOCS").is_some() {
        fs::write(&path, &page).unwrap();
    }
    assert_eq!(fs::read_to_string(path).unwrap(), page, "CASELOCK_WRITE_DOCS=1 writes it anew");
}

/// A row for each setting of a section, those of sections within it as well.
fn rows(page: &mut String, name: &str, section: &Value, defaults: Option<&Value>) {
    for (key, setting) in section["properties"].as_object().unwrap() {
        let (name, default) = (format!("{name}.{key}"), defaults.and_then(|defaults| defaults.get(key)));
        let text = setting["description"].as_str().unwrap_or_else(|| panic!("{name} says nothing of itself"));
        let text = text.replace('\n', " ").replace('|', "\\|");
        // Of what may be there or not, the one that may.
        let of = setting["anyOf"].as_array().and_then(|any| any.iter().find(|one| one["type"] != "null"));
        let of = of.unwrap_or(setting);
        if of["properties"].is_object() {
            writeln!(
                page,
                "| `{name}` | section | {} | {text} |",
                if default.is_some_and(Value::is_object) { "" } else { "–" }
            )
            .unwrap();
            rows(page, &name, of, default);
            continue;
        }
        let kind = match &of["type"] {
            Value::String(kind) => kind.as_str(),
            Value::Array(kinds) => kinds[0].as_str().unwrap(),
            _ => panic!("{name}: {setting}"),
        };
        let kind = if kind == "object" { "table" } else { kind };
        let default = match default {
            None | Some(Value::Null) => "–".into(),
            Some(Value::String(text)) if text.is_empty() => "–".into(),
            Some(Value::String(text)) => format!("`{}`", text.replace('|', "\\|")),
            Some(Value::Object(table)) if table.is_empty() => "–".into(),
            Some(Value::Object(table)) => {
                table.iter().map(|(key, value)| format!("`{key} = {value}`")).collect::<Vec<_>>().join(", ")
            }
            Some(value) => format!("`{value}`"),
        };
        writeln!(page, "| `{name}` | {kind} | {default} | {text} |").unwrap();
    }
}

#[test]
fn the_configuration_is_printed_as_it_is_used_without_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("settings.toml");
    fs::write(
        &file,
        "[s3]\nbucket = 'evidence'\nregion = 'cn-north-1'\n[kafka.properties]\n'sasl.password' = 'hunter2'\n",
    )
    .unwrap();
    let dump = |more: &[&str]| {
        let mut command = Command::new(binary("caselock-registry"));
        command.args(["--config", file.to_str().unwrap(), "--dump-config"]).args(more);
        command.env("CASELOCK__S3__REGION", "cn-south-1").env("CASELOCK__S3__SECRET_KEY", "hunter2");
        let said = command.output().unwrap();
        assert!(said.status.success(), "{said:?}");
        String::from_utf8(said.stdout).unwrap()
    };
    let text =
        dump(&["--set", "registry.database=postgres://me:hunter2@host/db", "--set", "s3.access_key=file:/run/key"]);
    assert!(!text.contains("hunter2"), "{text}");
    let table: toml::Table = text.parse().unwrap();
    assert_eq!(table["s3"]["bucket"].as_str(), Some("evidence"));
    assert_eq!(table["s3"]["region"].as_str(), Some("cn-south-1"));
    assert_eq!(table["s3"]["secret_key"].as_str(), Some("***"));
    assert_eq!(table["s3"]["access_key"].as_str(), Some("file:/run/key"));
    assert_eq!(table["kafka"]["properties"]["sasl.password"].as_str(), Some("***"));
    assert_eq!(table["registry"]["database"].as_str(), Some("***"));
    // Whatever is printed can be read again.
    fs::write(&file, dump(&[])).unwrap();
    dump(&[]);
}

/// A request to the admin port; the whole answer.
fn ask(port: u16, request: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn put(port: u16, path: &str, body: &str) -> String {
    let head = format!(
        "PUT {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    ask(port, &(head + body))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_told_changes_without_a_restart() {
    let mut stack = Stack::prepare(Kind::Embedded, &[]).await;
    let file = stack.dir.path().join("telemetry.toml");
    let write = |text: &str| fs::write(&file, format!("[telemetry]\n{text}\n")).unwrap();
    write("filter = 'error'");
    stack.first = format!("export CASELOCK_CONFIG={}", file.display()).leak();
    let admin = free_port();
    let program = stack.spawn("standalone", admin, &[]).ready();
    let levels = || -> Vec<String> {
        let lines = program.log();
        let level = |line: &str| serde_json::from_str::<Value>(line).unwrap()["level"].as_str().unwrap().to_owned();
        lines.lines().map(level).collect()
    };
    assert!(levels().iter().all(|level| level == "ERROR"), "{:?}", levels());

    // A wrong one changes nothing, and says why.
    let refused = put(admin, "/telemetry/filter", "info,[");
    assert!(refused.starts_with("HTTP/1.1 400") && refused.contains("telemetry.filter"), "{refused}");
    assert!(put(admin, "/telemetry/trace_ratio", "2").contains("expected 0 to 1"));
    assert_eq!(program.admin("/telemetry/filter").trim(), "error");
    assert!(put(admin, "/telemetry/filter", "info").starts_with("HTTP/1.1 200"));
    assert!(put(admin, "/telemetry/trace_ratio", "0.25").starts_with("HTTP/1.1 200"));
    assert_eq!(
        (program.admin("/telemetry/filter").trim(), program.admin("/telemetry/trace_ratio").trim()),
        ("info", "0.25")
    );
    wait_until("a line of the new level", || levels().iter().any(|level| level == "INFO"));

    write("filter = 'warn'\ntrace_ratio = 0.5");
    program.signal("HUP");
    wait_until("what the file says", || program.admin("/telemetry/filter").trim() == "warn");
    assert_eq!(program.admin("/telemetry/trace_ratio").trim(), "0.5");
    write("filtre = 'debug'");
    program.signal("HUP");
    wait_until("its refusal", || program.log().contains("did you mean telemetry.filter?"));
    assert_eq!(program.admin("/telemetry/filter").trim(), "warn");
    assert_eq!(program.stop(), Some(0));
    stack.stop();
}

/// Certificates, and what librdkafka reads from files, are changed under a running pipeline; the store's keys come from files.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_and_secrets_rotate_without_a_restart() {
    let mut stack = Stack::prepare(Kind::Distributed, &[]).await;
    let folder = stack.dir.path().to_owned();
    let put = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    let [access, secret] =
        [&stack.s3.access_key, &stack.s3.secret_key].map(|key| key.as_ref().unwrap().read().unwrap());
    put("access", &access);
    put("secret", &format!("{secret}\n"));
    put("rack", "one");
    let file = |name: &str| format!("file:{}", folder.join(name).display());
    for (key, name) in
        [("s3.access_key", "access"), ("s3.secret_key", "secret"), ("kafka.properties.client_rack", "rack")]
    {
        stack.config.push((key.into(), file(name)));
    }
    let mut stack = stack.started();
    let footage = Footage::new().random("a", 9 << 20);
    Uploader::new(&stack).upload(footage.path(), &[]).expect_stored(1);
    let wait_for = |service: &str, line: &str| {
        wait_until(line, || stack.programs[service].log().contains(line));
    };

    // A certificate that can't be used changes nothing.
    let ca = folder.join("ca");
    fs::write(ca.join("server.pem"), "half a certifi").unwrap();
    wait_for("gateway", "going on with the certificates before");
    // A new CA, for server and clients.
    for file in fs::read_dir(&ca).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() && !path.file_name().unwrap().to_str().unwrap().starts_with("receipt-key") {
            fs::remove_file(path).unwrap();
        }
    }
    let made = Command::new(root().join("deploy/dev-ca.sh")).arg(&ca).arg("demo").output().unwrap();
    assert!(made.status.success(), "{made:?}");
    wait_for("gateway", "new connections have the new certificates");
    put("rack", "two");
    for (service, line) in [
        ("gateway", "reading on with them"),
        ("archiver", "joining again with them"),
        ("media", "joining again with them"),
    ] {
        wait_for(service, &format!("files of kafka.properties have changed: {line}"));
    }
    let footage = Footage::new().random("b", 9 << 20);
    let run = Uploader::new(&stack).upload(footage.path(), &[]);
    run.expect_stored(1);
    stack.wait_derived(&run).await;
    for service in ["gateway", "archiver"] {
        wait_for(service, "files of kafka.properties have changed: a client was made anew");
    }
    stack.stop();
}
