//! Stills.

mod common;

use common::{Bench, CORNER, colours, is_blue, is_red};

/// A JPEG with an EXIF segment that says how it is turned and by whom it was made.
fn with_exif(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let mut tiff = b"MM\0*\0\0\0\x08\0\x02".to_vec();
    tiff.extend(b"\x01\x0f\0\x02\0\0\0\x06\0\0\0\x26"); // Make, 6 bytes of text at 38
    tiff.extend([1, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0]);
    tiff.extend(b"\0\0\0\0Maker\0");
    let mut segment = b"Exif\0\0".to_vec();
    segment.extend(tiff);
    let length = (segment.len() as u16 + 2).to_be_bytes();
    [&jpeg[..2], b"\xff\xe1", &length, &segment, &jpeg[2..]].concat()
}

#[test]
fn exif_orientations_are_applied() {
    let bench = Bench::new();
    let plain = bench.sample("plain.jpg", &format!("-f lavfi -i color=gray:s=1600x1200,{CORNER} -frames:v 1"));
    let plain = std::fs::read(plain).unwrap();
    // Where red, and opposite of it blue, come to lie: top left, top right, bottom left, bottom right.
    for (orientation, red) in [(1, 0), (2, 1), (3, 3), (4, 2), (5, 0), (6, 1), (7, 3), (8, 2)] {
        let input = bench.write(&format!("exif{orientation}.jpg"), &with_exif(&plain, orientation));
        let run = bench.run("photo", &input, &["preview"]).expect_success();
        let size = if orientation < 5 { (1280, 960) } else { (960, 1280) };
        assert_eq!(run.size("preview"), size, "{orientation}");
        let shown = colours(&run.output("preview"), 2, 2);
        assert!(is_red(shown[red]) && is_blue(shown[3 - red]), "{orientation}: {shown:?}");
        assert_eq!(run.at("/probe/tags/Make"), "Maker");
    }
}

#[test]
fn stills_of_many_formats_are_not_enlarged() {
    let bench = Bench::new();
    for name in ["small.png", "small.bmp", "small.webp", "small.tiff", "small.gif", "small.jpg"] {
        let input = bench.sample(name, &format!("-f lavfi -i testsrc=s=321x241,{CORNER} -frames:v 1"));
        let run = bench.run("photo", &input, &["preview"]).expect_success();
        assert_eq!(run.size("preview"), (321, 241), "{name}");
        assert!(is_red(colours(&run.output("preview"), 2, 2)[0]), "{name}");
    }
}

#[test]
fn large_stills_are_fitted() {
    let bench = Bench::new();
    let input = bench.sample("large.png", "-f lavfi -i testsrc2=s=6000x4000 -frames:v 1");
    let run = bench.run("photo", &input, &["preview"]).expect_success();
    assert_eq!(run.size("preview"), (1280, 853));
}

#[test]
fn a_damaged_still_is_unreadable() {
    let bench = Bench::new();
    let whole = bench.sample("whole.png", "-f lavfi -i testsrc2=s=640x480 -frames:v 1");
    let part = bench.truncate(&whole, "part.png", 0.01);
    assert_eq!(bench.run("photo", &part, &["preview"]).reason(), "UNREADABLE");
}
