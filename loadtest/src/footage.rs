//! What is uploaded: files of seeded random bytes, which no link or disk can make smaller, and whatever else lies beside them.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use rand::{RngExt, SeedableRng, rngs::StdRng};

/// Makes files.
#[derive(Debug, Args)]
pub struct Make {
    /// The folder. Files of the same size and seed that are there already stay.
    folder: PathBuf,
    /// How many files.
    #[arg(long, default_value_t = 8)]
    count: u32,
    /// Their size in bytes, with k, M or G for powers of 1024; or else see --mix.
    #[arg(long, value_parser = size, value_name = "SIZE", conflicts_with = "mix")]
    size: Option<u64>,
    /// Sizes of a device's day: of ten files five are clips of 64 to 192 MiB, three photos of 1 to 6 MiB, one a sound file of 8 to
    /// 24 MiB, one a document of 20 KiB to 1 MiB.
    #[arg(long)]
    mix: bool,
    /// Real encoded clips of this codec instead of random bytes, by ffmpeg.
    #[arg(long, value_enum)]
    codec: Option<Codec>,
    /// Seconds that each real clip lasts.
    #[arg(long, default_value_t = 10, requires = "codec")]
    seconds: u32,
    /// The real clips' frame size.
    #[arg(long, default_value = "1920x1080", requires = "codec")]
    frame: String,
    /// Repeats the same bytes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Codecs of real clips.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Codec {
    H264,
    Hevc,
    Mjpeg,
}

/// Makes the files of a folder.
pub fn run(make: &Make) -> anyhow::Result<()> {
    fs::create_dir_all(&make.folder).with_context(|| format!("make {}", make.folder.display()))?;
    for number in 0..make.count {
        match make.codec {
            Some(codec) => clip(make, codec, number)?,
            None => random(make, number)?,
        }
    }
    Ok(())
}

fn random(make: &Make, number: u32) -> anyhow::Result<()> {
    let mut random = StdRng::seed_from_u64(make.seed.wrapping_add(u64::from(number) << 32));
    let size = match (make.size, make.mix) {
        (Some(size), _) => size,
        (None, true) => of_mix(number, &mut random),
        (None, false) => bail!("say --size or --mix"),
    };
    let path = make.folder.join(format!("{number:05}-{}-{size}.bin", make.seed));
    if fs::metadata(&path).is_ok_and(|meta| meta.len() == size) {
        return Ok(());
    }
    let mut file = File::create(&path)?;
    let (mut left, mut buffer) = (size, vec![0; 1 << 20]);
    while left > 0 {
        let length = left.min(buffer.len() as u64) as usize;
        random.fill(&mut buffer[..length]);
        file.write_all(&buffer[..length])?;
        left -= length as u64;
    }
    Ok(())
}

fn of_mix(number: u32, random: &mut StdRng) -> u64 {
    let (from, to) = match number % 10 {
        0..5 => (64 << 20, 192 << 20),
        5..8 => (1 << 20, 6 << 20),
        8 => (8 << 20, 24 << 20),
        _ => (20 << 10, 1 << 20),
    };
    random.random_range(from..to)
}

fn clip(make: &Make, codec: Codec, number: u32) -> anyhow::Result<()> {
    let path = make.folder.join(format!("{number:05}-{codec:?}-{}s-{}.mp4", make.seconds, make.frame).to_lowercase());
    if path.exists() {
        return Ok(());
    }
    let encoder = match codec {
        Codec::H264 => "libx264",
        Codec::Hevc => "libx265",
        Codec::Mjpeg => "mjpeg",
    };
    // A part of the picture is noise, as cameras make it: nothing compresses to nothing.
    let video = format!("testsrc2=size={}:rate=25:duration={},noise=alls=20:allf=t", make.frame, make.seconds);
    let sound = format!("sine=frequency={}:duration={}", 300 + number % 500, make.seconds);
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-f", "lavfi", "-i", &video, "-f", "lavfi", "-i", &sound, "-c:v", encoder])
        .args(["-preset", "ultrafast", "-pix_fmt", "yuvj420p", "-c:a", "aac", "-shortest"])
        .arg(&path)
        .status()
        .context("run ffmpeg")?;
    ensure!(status.success(), "ffmpeg made no {}", path.display());
    Ok(())
}

/// A file that is uploaded, as often as it is needed: each time it is another recording.
#[derive(Debug)]
pub struct Source {
    /// Where it lies.
    pub path: PathBuf,
    /// In bytes.
    pub size: u64,
    /// Of its bytes, in hex.
    pub blake3: String,
}

/// The files of a folder, by name.
pub fn sources(folder: &Path) -> anyhow::Result<Vec<Arc<Source>>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("look into {}", folder.display()))? {
        paths.push(entry?.path());
    }
    paths.sort();
    let mut sources = Vec::new();
    for path in paths.into_iter().filter(|path| path.is_file()) {
        let mut hasher = blake3::Hasher::new();
        std::io::copy(&mut File::open(&path)?, &mut hasher)?;
        let blake3 = hasher.finalize().to_hex().to_string();
        sources.push(Arc::new(Source { size: hasher.count(), blake3, path }));
    }
    ensure!(!sources.is_empty(), "there is no file in {}", folder.display());
    Ok(sources)
}

/// `256M` and the like, above 0.
pub fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.char_indices().last() {
        Some((at, 'k')) => (&text[..at], 1 << 10),
        Some((at, 'M')) => (&text[..at], 1 << 20),
        Some((at, 'G')) => (&text[..at], 1 << 30),
        _ => (text, 1),
    };
    let size = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).filter(|size| *size > 0);
    size.ok_or_else(|| "expected a size such as 256M".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_of_powers_of_1024() {
        assert_eq!(["1", "20k", "256M", "16G"].map(|text| size(text).unwrap()), [1, 20 << 10, 256 << 20, 16 << 30]);
        for bad in ["", "0", "M", "1.5M", "1T", "99999999999999999G"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_same_seed_makes_the_same_sizes_of_the_mix() {
        let sizes =
            || (0..20).map(|number| of_mix(number, &mut StdRng::seed_from_u64(number.into()))).collect::<Vec<_>>();
        assert_eq!(sizes(), sizes());
        assert!(sizes()[..5].iter().all(|size| (64 << 20..192 << 20).contains(size)) && sizes()[9] < 1 << 20);
    }
}
