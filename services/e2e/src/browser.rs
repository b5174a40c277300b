//! Footage as a browser shows it: a real Chromium plays files to their end.

use std::{
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::header::CONTENT_TYPE,
    response::Html,
    routing::{get, post},
};
use serde::Deserialize;
use tokio::sync::mpsc;

/// A file, and what a server calls it.
pub struct Shown {
    pub name: String,
    pub content_type: String,
    pub bytes: bytes::Bytes,
}

/// How a file was played.
#[derive(Debug, Deserialize)]
pub struct Played {
    pub name: String,
    /// Whether it came to its end without an error.
    pub ended: bool,
    pub error: String,
    /// Seconds, as the file says.
    pub duration: f64,
    /// Seconds, where it stopped.
    pub position: f64,
    /// Pixels; 0 for sound.
    pub width: u32,
    pub height: u32,
}

struct Page {
    files: Vec<Shown>,
    played: mpsc::Sender<Vec<Played>>,
}

/// Plays every file, one after the other, at four times its speed.
pub async fn play(files: Vec<Shown>) -> Vec<Played> {
    let (played, mut results) = mpsc::channel(1);
    let patience = Duration::from_secs(60 + 30 * files.len() as u64);
    let page = Arc::new(Page { files, played });
    let router = Router::new()
        .route("/", get(html))
        .route("/file/{index}", get(file))
        .route("/played", post(done))
        .with_state(page);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let profile = tempfile::TempDir::new().unwrap();
    let program = std::env::var("CASELOCK_TEST_BROWSER").unwrap_or_else(|_| "chromium".into());
    let mut browser = Command::new(&program)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"])
        .arg("--autoplay-policy=no-user-gesture-required")
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(url)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("start {program}, or name another browser in CASELOCK_TEST_BROWSER: {error}"));
    let results = tokio::time::timeout(patience, results.recv()).await;
    let _ = browser.kill();
    let _ = browser.wait();
    server.abort();
    results.expect("the browser plays in time").unwrap()
}

async fn html(State(page): State<Arc<Page>>) -> Html<String> {
    let names: Vec<_> = page.files.iter().map(|file| &file.name).collect();
    Html(HTML.replace("NAMES", &serde_json::to_string(&names).unwrap()))
}

async fn file(
    State(page): State<Arc<Page>>,
    Path(index): Path<usize>,
) -> ([(axum::http::HeaderName, String); 1], bytes::Bytes) {
    let file = &page.files[index];
    ([(CONTENT_TYPE, file.content_type.clone())], file.bytes.clone())
}

async fn done(State(page): State<Arc<Page>>, Json(played): Json<Vec<Played>>) {
    // The test has its answer; another would be the browser's repetition.
    let _ = page.played.try_send(played);
}

const HTML: &str = r#"<!doctype html><title>playing</title><body><script>
const play = (name, index) => new Promise(resolve => {
  const video = document.createElement('video');
  const end = (ended, error) => resolve({name, ended, error: String(error || ''), duration: video.duration || 0,
    position: video.currentTime, width: video.videoWidth, height: video.videoHeight});
  video.muted = true;
  video.onended = () => end(true);
  video.onerror = () => end(false, video.error && video.error.message);
  setTimeout(() => end(false, 'it did not end'), 30000);
  video.src = `/file/${index}`;
  video.playbackRate = 4;
  document.body.append(video);
  video.play().catch(error => end(false, error));
});
(async () => {
  const played = [];
  for (const [index, name] of NAMES.entries()) played.push(await play(name, index));
  await fetch('/played', {method: 'POST', headers: {'content-type': 'application/json'}, body: JSON.stringify(played)});
})();
</script>"#;
