//! Video recordings of many makes.

mod common;

use common::{Bench, CORNER, colours, is_blue, is_red, number, stream, times};

const ALL: &[&str] = &["poster", "contact-sheet", "proxy"];
const TONE: &str = "-f lavfi -i sine=frequency=440:duration=6";

#[test]
fn turned_h264_mp4_becomes_upright() {
    let bench = Bench::new();
    bench.sample(
        "upright.mp4",
        &format!(
            "-f lavfi -i color=gray:s=1920x1080:r=30:d=6,{CORNER} {TONE} -c:v libx264 -preset ultrafast \
             -pix_fmt yuv420p -g 30 -c:a aac"
        ),
    );
    let turned = bench.sample(
        "turned.mp4",
        "-i @upright.mp4 -c copy -metadata:s:v rotate=270 -metadata creation_time=2026-01-02T03:04:05Z \
         -metadata make=Maker -movflags use_metadata_tags",
    );
    let run = bench.run("video", &turned, ALL).expect_success();
    assert_eq!(run.warnings(), Vec::<String>::new());
    assert_eq!(run.at("/probe/streams/0/rotation"), 90);
    assert_eq!(run.at("/probe/streams/0/codec"), "h264");
    assert_eq!(run.at("/probe/creation_time"), "2026-01-02T03:04:05Z");
    assert_eq!(run.at("/probe/tags/make"), "Maker");
    assert_eq!(run.size("proxy"), (404, 720));
    assert_eq!(run.size("poster"), (405, 720));
    assert_eq!(run.size("contact-sheet"), (1280, 4 * 568));
    let proxy = run.check_proxy(6.0);
    assert!(stream(&proxy, "audio").is_some());
    for output in ["poster", "proxy"] {
        let [_, top_right, bottom_left, _] = colours(&run.output(output), 2, 2)[..] else { panic!() };
        assert!(is_red(top_right) && is_blue(bottom_left), "{output}: {top_right:?} {bottom_left:?}");
    }
    assert!(is_red(colours(&run.output("contact-sheet"), 8, 8)[1]));
}

#[test]
fn every_quarter_turn_lands_where_it_should() {
    let bench = Bench::new();
    bench.sample(
        "upright.mp4",
        &format!("-f lavfi -i color=gray:s=320x240:r=10:d=1,{CORNER} -c:v libx264 -pix_fmt yuv420p"),
    );
    // What this version of ffmpeg calls `rotate` turns the other way round.
    for (degrees, red) in [(270, 1), (180, 3), (90, 2)] {
        let turned = bench.sample("turned.mp4", &format!("-i @upright.mp4 -c copy -metadata:s:v rotate={degrees}"));
        let run = bench.run("video", &turned, &["poster"]).expect_success();
        let shown = colours(&run.output("poster"), 2, 2);
        assert!(is_red(shown[red]) && is_blue(shown[3 - red]), "{degrees}: {shown:?}");
        assert!(is_red(colours(&turned, 2, 2)[red]), "ffmpeg's own opinion of {degrees}");
    }
}

#[test]
fn hevc_ten_bit_above_720_is_scaled_down() {
    let bench = Bench::new();
    let input = bench.sample(
        "hevc.mp4",
        &format!("-f lavfi -i testsrc2=s=1920x1080:r=10:d=6 {TONE} -c:v libx265 -preset ultrafast -x265-params log-level=none:keyint=10 -pix_fmt yuv420p10le -c:a aac"),
    );
    let run = bench.run("video", &input, ALL).expect_success();
    assert_eq!(run.at("/probe/streams/0/codec"), "hevc");
    assert_eq!(run.size("proxy"), (1280, 720));
    run.check_proxy(6.0);
}

#[test]
fn transport_stream_begins_at_zero_and_keeps_sound() {
    let bench = Bench::new();
    let input = bench.sample(
        "stream.ts",
        &format!("-f lavfi -i testsrc2=s=640x360:r=25:d=6 {TONE} -c:v libx264 -preset ultrafast -g 25 -c:a aac -output_ts_offset 5000"),
    );
    let run = bench.run("video", &input, ALL).expect_success();
    assert_eq!(run.at("/probe/container"), "mpegts");
    let proxy = run.check_proxy(6.0);
    assert!(stream(&proxy, "audio").is_some());
    assert!(times(&run.output("proxy"))[0] < 0.1);
    assert_eq!(run.warnings(), Vec::<String>::new());
}

/// Ten minutes are looked through in the CPU time that decoding them would use up many times over.
#[test]
fn a_long_recording_is_seeked_through_not_decoded() {
    let bench = Bench::new();
    bench.sample(
        "short.mp4",
        "-f lavfi -i testsrc2=s=1280x720:r=25:d=10 -c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 50",
    );
    for name in ["long.mp4", "long.ts"] {
        let input = bench.sample(name, "-stream_loop 59 -i @short.mp4 -c copy");
        let run = bench.run_with("video", &input, &["contact-sheet", "poster"], &["--max-cpu-seconds", "4"]);
        let run = run.expect_success();
        assert_eq!(run.warnings(), Vec::<String>::new());
        assert_eq!(run.size("contact-sheet"), (1280, 720));
    }
}

/// Without an index as well, each tile shows the last keyframe before its moment: the picture grows brighter with time.
#[test]
fn contact_sheet_of_a_transport_stream_shows_the_moments() {
    let bench = Bench::new();
    for (gop, codec) in [(12, "mpeg2video -q:v 2"), (100, "libx264 -preset ultrafast -sc_threshold 0 -bf 2")] {
        let input = bench.sample(
            "brighter.ts",
            &format!("-f lavfi -i color=black:s=160x90:r=25:d=8,geq=lum=16+T*25:cb=128:cr=128 -c:v {codec} -g {gop}"),
        );
        let run = bench.run("video", &input, &["contact-sheet"]).expect_success();
        assert_eq!(run.warnings(), Vec::<String>::new());
        let tiles: Vec<f64> = colours(&run.output("contact-sheet"), 4, 4)
            .into_iter()
            .map(|[red, green, blue]| (f64::from(red) + f64::from(green) + f64::from(blue)) / 3.0)
            .collect();
        println!("{gop}: {tiles:?}");
        for (index, pair) in tiles.windows(2).enumerate() {
            // Half a second apart: 12.5 of luma, 14.6 of red, green and blue.
            assert!(
                pair[1] - pair[0] > 4.0,
                "tile {} of GOPs of {gop} is as bright as the one before: {tiles:?}",
                index + 1
            );
        }
    }
}

#[test]
fn joined_transport_streams_play_through_the_leap() {
    let bench = Bench::new();
    let part = |name: &str, offset: u32| {
        let sample = format!(
            "-f lavfi -i testsrc2=s=320x240:r=25:d=4 -f lavfi -i sine=duration=4 -c:v libx264 -preset ultrafast -g 25 -c:a aac -output_ts_offset {offset}"
        );
        std::fs::read(bench.sample(name, &sample)).unwrap()
    };
    let joined = [part("one.ts", 0), part("two.ts", 9000), part("three.ts", 3000)].concat();
    let joined = bench.write("joined.ts", &joined);
    let run = bench.run("video", &joined, &["proxy"]).expect_success();
    run.check_proxy(12.0);
    assert_eq!(times(&run.output("proxy")).len(), 300);
}

#[test]
fn motion_jpeg_avi_with_pcm() {
    let bench = Bench::new();
    let input = bench.sample(
        "dashcam.avi",
        &format!("-f lavfi -i testsrc2=s=640x480:r=15:d=6 {TONE} -c:v mjpeg -q:v 5 -c:a pcm_s16le"),
    );
    let run = bench.run("video", &input, ALL).expect_success();
    assert_eq!(run.at("/probe/container"), "avi");
    assert!(stream(&run.check_proxy(6.0), "audio").is_some());
}

#[test]
fn odd_size_and_variable_rate_keep_their_times() {
    let bench = Bench::new();
    // Frames 0 to 59 at 30 a second, of which those from 20 to 49 are missing: a gap of a second.
    let input = bench.sample(
        "odd.mkv",
        "-f lavfi -i testsrc=s=321x241:r=30:d=4,select='not(between(n\\,20\\,49))' -vsync vfr -c:v libx264 -preset ultrafast -pix_fmt yuv444p",
    );
    let run = bench.run("video", &input, ALL).expect_success();
    assert_eq!(run.size("proxy"), (320, 240));
    assert_eq!(run.size("poster"), (321, 241));
    run.check_proxy(4.0);
    let (original, proxy) = (times(&input), times(&run.output("proxy")));
    assert_eq!(original.len(), proxy.len());
    for (original, proxy) in original.iter().zip(&proxy) {
        assert!((original - proxy).abs() < 0.002, "{original} became {proxy}");
    }
}

#[test]
fn wide_pixels_become_square() {
    let bench = Bench::new();
    let input = bench.sample("dv.mpg", "-f lavfi -i testsrc2=s=720x576:r=25:d=3,setsar=16/15 -c:v mpeg2video -q:v 4");
    let run = bench.run("video", &input, &["proxy", "poster"]).expect_success();
    assert_eq!(run.size("proxy"), (768, 576));
    assert_eq!(run.at("/probe/container"), "mpeg");
    run.check_proxy(3.0);
}

#[test]
fn silent_video_and_pictureless_video_both_have_a_proxy() {
    let bench = Bench::new();
    let silent = bench.sample("silent.mp4", "-f lavfi -i testsrc2=s=320x240:r=25:d=3 -c:v libx264");
    let run = bench.run("video", &silent, &["proxy"]).expect_success();
    assert!(stream(&run.check_proxy(3.0), "audio").is_none());
    let heard = bench.sample("heard.mp4", &format!("{TONE} -c:a aac"));
    let run = bench.run("video", &heard, ALL).expect_success();
    assert!(stream(&run.check_proxy(6.0), "video").is_none());
    assert_eq!(run.warnings().len(), 2, "{:?}", run.warnings());
}

#[test]
fn sound_that_begins_late_stays_late() {
    let bench = Bench::new();
    let input = bench.sample(
        "late.mkv",
        "-f lavfi -i testsrc2=s=320x240:r=25:d=6 -itsoffset 2 -f lavfi -i sine=duration=4 -c:v libx264 -c:a pcm_s16le",
    );
    let run = bench.run("video", &input, &["proxy"]).expect_success();
    let proxy = run.check_proxy(6.0);
    let audio = stream(&proxy, "audio").unwrap();
    assert!((number(&audio["duration"]) - 6.0).abs() < 0.1);
    assert!(number(&audio["start_time"]).abs() < 0.05);
}

#[test]
fn the_last_of_several_cover_pictures_is_not_the_video() {
    let bench = Bench::new();
    bench.sample("cover.png", "-f lavfi -i color=red:s=64x64 -frames:v 1");
    bench.sample("plain.mp4", "-f lavfi -i testsrc2=s=320x240:r=25:d=2 -c:v libx264");
    let input =
        bench.sample("covered.mp4", "-i @cover.png -i @plain.mp4 -map 0 -map 1 -c copy -disposition:v:0 attached_pic");
    let run = bench.run("video", &input, &["proxy"]).expect_success();
    assert_eq!(run.size("proxy"), (320, 240));
}

#[test]
fn truncated_video_gives_what_is_left_and_says_so() {
    let bench = Bench::new();
    let whole = bench.sample(
        "whole.mp4",
        &format!("-f lavfi -i testsrc2=s=640x360:r=25:d=6 {TONE} -c:v libx264 -preset ultrafast -g 25 -c:a aac -movflags faststart"),
    );
    let part = bench.truncate(&whole, "part.mp4", 0.5);
    let run = bench.run("video", &part, ALL).expect_success();
    let seconds = run.at("/outputs/proxy/duration_seconds").as_f64().unwrap();
    assert!((2.0..4.0).contains(&seconds), "{seconds}");
    run.check_proxy(seconds);
    let warnings = run.warnings().join("\n");
    assert!(warnings.contains("stated seconds"), "{warnings}");
    assert!(warnings.contains("moments"), "{warnings}");
}

#[test]
fn damage_in_the_middle_is_survived() {
    let bench = Bench::new();
    let whole = bench.sample(
        "whole.ts",
        &format!("-f lavfi -i testsrc2=s=640x360:r=25:d=6 {TONE} -c:v libx264 -preset ultrafast -g 25 -c:a aac"),
    );
    let mut content = std::fs::read(whole).unwrap();
    let (third, length) = (content.len() / 3, content.len());
    for (index, byte) in content[third..third + length / 10].iter_mut().enumerate() {
        *byte = (index * 31 % 251) as u8;
    }
    let damaged = bench.write("damaged.ts", &content);
    let run = bench.run("video", &damaged, ALL).expect_success();
    let seconds = run.at("/outputs/proxy/duration_seconds").as_f64().unwrap();
    assert!((5.0..6.5).contains(&seconds), "{seconds}");
}

#[test]
fn tiles_differ_with_one_keyframe_or_many() {
    let bench = Bench::new();
    for gop in [25, 10_000] {
        let input = bench.sample(
            &format!("gop{gop}.mp4"),
            &format!("-f lavfi -i testsrc2=s=640x360:r=25:d=16 -c:v libx264 -preset ultrafast -g {gop} -keyint_min {gop} -sc_threshold 0"),
        );
        let run = bench.run("video", &input, &["contact-sheet"]).expect_success();
        assert_eq!(run.warnings(), Vec::<String>::new());
        assert_eq!(run.size("contact-sheet"), (1280, 720));
        let rows = colours(&run.output("contact-sheet"), 64, 64);
        let tile = |index: usize| -> Vec<[u8; 3]> {
            let (column, row) = (index % 4 * 16, index / 4 * 16);
            (0..16).flat_map(|line| rows[(row + line) * 64 + column..][..16].to_vec()).collect()
        };
        for index in 1..16 {
            assert_ne!(tile(index - 1), tile(index), "tile {index} with keyframes every {gop}");
        }
    }
}

/// Pictures that grow brighter with time: every tile is from near its own moment, with an index or without.
#[test]
fn tiles_are_in_order_to_the_end() {
    let bench = Bench::new();
    for (name, codec) in [("ramp.mp4", "libx264 -g 12"), ("ramp.ts", "mpeg2video -b:v 3M"), ("ramp.avi", "mjpeg")] {
        let ramp = "-f lavfi -i color=black:s=320x240:r=25:d=8,format=yuv420p,geq=lum=16+25*T:cb=128:cr=128";
        let input = bench.sample(name, &format!("{ramp} {TONE} -c:v {codec}"));
        let run = bench.run("video", &input, &["contact-sheet"]).expect_success();
        let tiles = colours(&run.output("contact-sheet"), 4, 4);
        for (index, [red, ..]) in tiles.iter().enumerate() {
            // Of limited range: luma 16 to 235 becomes 0 to 255.
            let seconds = f64::from(*red) / 255.0 * 219.0 / 25.0;
            let moment = 8.0 * (index as f64 + 0.5) / 16.0;
            assert!((seconds - moment).abs() < 0.8, "{name}: tile {index} is from {seconds}, not {moment}: {tiles:?}");
        }
    }
}

#[test]
fn poster_passes_over_black() {
    let bench = Bench::new();
    bench.sample("black.ts", "-f lavfi -i color=black:s=320x240:r=25:d=2 -c:v libx264 -g 25");
    bench.sample("shown.ts", "-f lavfi -i testsrc2=s=320x240:r=25:d=2 -c:v libx264 -g 25");
    let list = format!("file '{}'\nfile '{}'\n", bench.path("black.ts").display(), bench.path("shown.ts").display());
    bench.write("list", list.as_bytes());
    let input = bench.sample("both.mp4", "-f concat -safe 0 -i @list -c copy");
    let run = bench.run("video", &input, &["poster"]).expect_success();
    let brightest = colours(&run.output("poster"), 8, 8).into_iter().flatten().max();
    assert!(brightest > Some(100), "{brightest:?}");
}
