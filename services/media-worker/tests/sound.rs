//! Audio recordings.

mod common;

use common::{Bench, colours, number, stream};

const OUTPUTS: &[&str] = &["waveform", "proxy"];

#[test]
fn every_sound_becomes_aac_at_one_rate() {
    let bench = Bench::new();
    for (name, codec) in [
        ("stereo.wav", "-ac 2 -c:a pcm_s16le"),
        ("mono.wav", "-ac 1 -ar 8000 -c:a pcm_alaw"),
        ("voice.mp3", "-c:a libmp3lame"),
        ("voice.flac", "-c:a flac"),
        ("voice.ogg", "-c:a libvorbis"),
        ("voice.aac", "-ac 2 -c:a aac"),
        ("surround.wav", "-ac 6 -c:a pcm_s24le"),
        ("voice.wma", "-c:a wmav2"),
    ] {
        let input = bench.sample(name, &format!("-f lavfi -i sine=frequency=300:duration=8 {codec}"));
        let run = bench.run("audio", &input, OUTPUTS).expect_success();
        let proxy = run.check_proxy(8.0);
        let audio = stream(&proxy, "audio").unwrap();
        assert_eq!(number(&audio["sample_rate"]), 48_000.0, "{name}");
        let channels = if name.starts_with("mono") || codec.starts_with("-c") { 1 } else { 2 };
        assert_eq!(audio["channels"], channels, "{name}");
        assert_eq!(run.size("waveform"), (1280, 240));
        assert_eq!(run.warnings(), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn waveform_is_loud_where_the_sound_is() {
    let bench = Bench::new();
    let input = bench.sample(
        "late.wav",
        "-f lavfi -i sine=duration=10:frequency=440,volume=8,volume=0:enable='lt(t\\,5)' -c:a pcm_s16le",
    );
    let run = bench.run("audio", &input, OUTPUTS).expect_success();
    let shown = colours(&run.output("waveform"), 2, 8);
    let [quiet, loud] = [shown[6][1], shown[7][1]];
    assert!(quiet > 230 && loud < 150, "{quiet} {loud}");
}

#[test]
fn sound_of_a_video_can_be_had_alone() {
    let bench = Bench::new();
    let input = bench
        .sample("film.mp4", "-f lavfi -i testsrc2=s=320x240:d=3 -f lavfi -i sine=duration=3 -c:v libx264 -c:a aac");
    let run = bench.run("audio", &input, OUTPUTS).expect_success();
    assert!(stream(&run.check_proxy(3.0), "video").is_none());
}

#[test]
fn video_without_sound_is_unsupported_as_audio() {
    let bench = Bench::new();
    let input = bench.sample("silent.mp4", "-f lavfi -i testsrc2=s=320x240:d=3 -c:v libx264");
    assert_eq!(bench.run("audio", &input, OUTPUTS).reason(), "UNSUPPORTED");
}
