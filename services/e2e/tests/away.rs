//! Services that are started while what they need is away.
#![allow(clippy::unwrap_used)]

use caselock_e2e::{Footage, Kind, Program, Stack, Uploader, free_port, postgres_database, wait_until};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

/// An address where nobody answers, until [`comes`].
struct Away {
    port: u16,
    real: String,
}

impl Away {
    fn new(real: &str) -> Self {
        Self { port: free_port(), real: real.to_owned() }
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// From now on it is as the real one.
    async fn comes(&self) {
        let listener = TcpListener::bind(self.address()).await.unwrap();
        let real = self.real.clone();
        tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                let real = real.clone();
                tokio::spawn(async move {
                    let mut to = TcpStream::connect(real).await.unwrap();
                    // Either may end it at any moment.
                    let _ = copy_bidirectional(&mut from, &mut to).await;
                });
            }
        });
    }
}

/// It lives, and says that it has not started, and what it waits for.
fn waits(program: &mut Program, step: &str) {
    wait_until(&format!("waiting in {step}"), || {
        assert_eq!(program.ended(), None, "it ended");
        program.admin("/readyz").contains(&format!("start-up: {step}: "))
    });
    assert_eq!(program.admin("/livez"), "ok\n");
    let log = program.log();
    assert!(log.contains(&format!("\"step\":\"{step}\"")), "{log}");
    // librdkafka says it of each broker and each try; one line of a kind in ten seconds is enough.
    let lines = log.lines().filter(|line| line.contains("rdkafka\"") || line.contains("rdkafka::client")).count();
    assert!(lines < 40, "{lines} lines of librdkafka: {log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_wait_for_what_is_away_and_work_as_soon_as_it_comes() {
    let mut stack = Stack::prepare(Kind::Distributed, &[]).await;
    let address =
        |url: &str| url.rsplit('@').next().unwrap().trim_start_matches("http://").trim_end_matches('/').to_owned();
    let database = postgres_database().await;
    let (rest, name) = database.rsplit_once('/').unwrap();
    let kafka = Away::new(stack.kafka.brokers.split(',').next().unwrap());
    let store = Away::new(&address(stack.s3.endpoint.as_deref().unwrap()));
    let postgres = Away::new(&address(rest));
    let database = format!("{}@{}/{name}", rest.rsplit_once('@').unwrap().0, postgres.address());
    let settings = [
        ("kafka.brokers", kafka.address()),
        ("s3.endpoint", format!("http://{}", store.address())),
        ("registry.database", database),
    ];
    stack.config.retain(|(key, _)| settings.iter().all(|(name, _)| key != name));
    stack.config.extend(settings.map(|(key, value)| (key.to_owned(), value)));
    let mut programs =
        ["gateway", "archiver", "media", "registry"].map(|service| stack.spawn(service, free_port(), &[]));
    for program in &mut programs {
        waits(program, "connect-log");
    }
    // Who waits is ended like any other.
    let mut stopped = stack.spawn("archiver", free_port(), &[]);
    waits(&mut stopped, "connect-log");
    assert_eq!(stopped.stop(), Some(0));

    kafka.comes().await;
    let [gateway, mut archiver, media, mut registry] = programs;
    let (gateway, media) = (gateway.ready(), media.ready());
    waits(&mut archiver, "check-store");
    waits(&mut registry, "open-database");
    store.comes().await;
    postgres.comes().await;
    let (archiver, registry) = (archiver.ready(), registry.ready());
    let footage = Footage::new().random("a", 1000);
    let run = Uploader::new(&stack).upload(footage.path(), &[]);
    run.expect_stored(1);
    // What it says of a recording has the recording's trace, without any collector.
    let recording = run.of_kind("stored").next().unwrap()["recording_id"].as_str().unwrap().replace('-', "");
    let traced = format!("\"traceId\":\"{recording}\"");
    wait_until("a line of its trace", || archiver.log().contains(&traced));
    drop((gateway, media, registry));
}
