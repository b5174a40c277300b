//! What is not a recording, or means harm.

mod common;

use std::fs::File;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use command_fds::{CommandFdExt, FdMapping};
use common::{Bench, WORKER};

const ALL: &[&str] = &["poster", "contact-sheet", "proxy"];

#[test]
fn text_nothing_and_noise_are_not_media() {
    let bench = Bench::new();
    let noise: Vec<u8> = (0..200_000_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for (name, content) in [
        ("text.mp4", b"Dear diary, this is no film.\n".repeat(300).as_slice()),
        ("empty.mp4", b""),
        ("short.mp4", b"a"),
        ("noise.mp4", &noise),
        ("zeros.mp4", &[0; 100_000]),
        ("elf.mp4", &std::fs::read("/bin/true").unwrap()),
    ] {
        let input = bench.write(name, content);
        let run = bench.run("video", &input, ALL);
        assert_eq!(run.reason(), "NOT_MEDIA", "{name}: {}", run.report);
    }
}

#[test]
fn playlists_are_refused_and_nothing_is_fetched() {
    let bench = Bench::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let local = bench.sample("local.ts", "-f lavfi -i testsrc2=s=320x240:d=2 -c:v libx264");
    let targets = [
        "/etc/hostname".to_owned(),
        local.display().to_string(),
        format!("file://{}", local.display()),
        format!("http://127.0.0.1:{port}/segment.ts"),
        format!("concat:{}", local.display()),
    ];
    for (index, target) in targets.iter().enumerate() {
        let playlists = [
            format!("#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{target}\n#EXT-X-ENDLIST\n"),
            format!("ffconcat version 1.0\nfile '{target}'\n"),
            format!(
                "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nm=video {port} RTP/AVP 96\na=control:{target}\n"
            ),
            format!(
                "<?xml version=\"1.0\"?><MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" type=\"static\"><BaseURL>{target}</BaseURL></MPD>"
            ),
            format!("[playlist]\nFile1={target}\n"),
        ];
        for (kind, playlist) in playlists.iter().enumerate() {
            let input = bench.write(&format!("playlist{index}-{kind}.mp4"), playlist.as_bytes());
            let run = bench.run("video", &input, ALL);
            assert_eq!(run.reason(), "NOT_MEDIA", "{playlist}: {}", run.report);
        }
    }
    let connection = listener.accept().map(drop).map_err(|error| error.kind());
    assert_eq!(connection, Err(ErrorKind::WouldBlock), "somebody connected");
}

#[test]
fn a_recording_without_its_index_is_unreadable() {
    let bench = Bench::new();
    let whole = bench.sample("whole.mp4", "-f lavfi -i testsrc2=s=320x240:d=4 -c:v libx264");
    let part = bench.truncate(&whole, "part.mp4", 0.5);
    assert_eq!(bench.run("video", &part, ALL).reason(), "UNREADABLE");
}

#[test]
fn a_recording_of_only_damage_is_unreadable() {
    let bench = Bench::new();
    let whole = bench.sample("whole.mp4", "-f lavfi -i testsrc2=s=320x240:d=4 -c:v libx264 -movflags faststart");
    let mut content = std::fs::read(whole).unwrap();
    let data = content.windows(4).position(|name| name == b"mdat").unwrap() + 4;
    content[data..].fill(0);
    let input = bench.write("zeroed.mp4", &content);
    assert_eq!(bench.run("video", &input, ALL).reason(), "UNREADABLE");
}

#[test]
fn no_pictures_in_a_photo_is_unsupported() {
    let bench = Bench::new();
    let input = bench.sample("sound.wav", "-f lavfi -i sine=duration=2");
    assert_eq!(bench.run("photo", &input, &["preview"]).reason(), "UNSUPPORTED");
}

#[test]
fn tags_in_other_encodings_do_no_harm() {
    let bench = Bench::new();
    let input = bench.sample("tagged.avi", "-f lavfi -i testsrc2=s=320x240:d=1 -c:v mjpeg -metadata title=ABCDEFGH");
    let mut content = std::fs::read(input).unwrap();
    let title = content.windows(8).position(|text| text == b"ABCDEFGH").unwrap();
    content[title..title + 8].copy_from_slice(b"\xd6\xb4\xb7\xa8\xbc\xc7\xc2\xbc");
    let input = bench.write("gbk.avi", &content);
    let run = bench.run("video", &input, &["poster"]).expect_success();
    assert!(run.at("/probe/tags/title").as_str().unwrap().contains('\u{fffd}'));
}

#[test]
fn memory_is_limited() {
    let bench = Bench::new();
    let input = bench.sample("large.png", "-f lavfi -i testsrc2=s=6000x4000 -frames:v 1");
    let run = bench.run_with("photo", &input, &["preview"], &["--max-memory", "200000000"]);
    assert_eq!(run.reason(), "UNSUPPORTED", "{}", run.report);
    assert!(run.at("/error/detail").as_str().unwrap().contains("memory"), "{}", run.report);
}

#[test]
fn time_is_limited_by_processor_and_clock() {
    let bench = Bench::new();
    let input = bench.sample("film.mp4", "-f lavfi -i testsrc2=s=1280x720:r=25:d=60 -c:v libx264 -preset ultrafast");
    for (limit, signal) in [("--max-cpu-seconds", libc::SIGXCPU), ("--max-wall-seconds", libc::SIGALRM)] {
        let output = File::create(bench.path("proxy")).unwrap();
        let mut command = Command::new(WORKER);
        command.args(["--kind", "video", "--out", "proxy=10", limit, "1"]);
        let mapping = FdMapping { parent_fd: output.into(), child_fd: 10 };
        command.fd_mappings(vec![mapping]).unwrap().stdin(File::open(&input).unwrap());
        assert_eq!(command.status().unwrap().signal(), Some(signal), "{limit}");
    }
}

#[test]
fn an_original_that_cannot_be_read_is_internal() {
    let bench = Bench::new();
    let path = bench.write("unread.mp4", b"whatever");
    let unread = File::options().write(true).open(path).unwrap();
    let ended = Command::new(WORKER).args(["--kind", "video"]).stdin(unread).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(report["error"]["reason"], "INTERNAL", "{report}");
}

#[test]
fn wrong_arguments_are_internal() {
    for arguments in [&["--kind", "film"][..], &["--kind", "photo", "--out", "preview=77"], &["--what"], &[]] {
        let ended = Command::new(WORKER).args(arguments).stdin(Stdio::null()).output().unwrap();
        assert_eq!(ended.status.code(), Some(1));
        let report: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
        assert_eq!(report["error"]["reason"], "INTERNAL", "{report}");
    }
}

#[test]
fn the_sandbox_can_be_asked_for() {
    let asked = Command::new(WORKER)
        .args(["--check-sandbox", "--max-memory", "1000000000", "--max-cpu-seconds", "60"])
        .output()
        .unwrap();
    assert_eq!(asked.status.code(), Some(0));
    let report: serde_json::Value = serde_json::from_slice(&asked.stdout).unwrap();
    assert_eq!(report["no_new_privs"], true);
    assert_eq!(report["seccomp"], true);
    assert_eq!(report["rlimits"]["memory_bytes"], 1_000_000_000);
    assert_eq!(report["rlimits"]["cpu_seconds"], 60);
    assert_eq!(report["rlimits"]["core_bytes"], 0);
    assert_eq!(report.get("problems"), None, "{report}");
}
