//! Files as bureaus have them.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tempfile::TempDir;

use crate::root;

/// A folder of files.
pub struct Footage(TempDir);

/// A file of incompressible bytes that follow from its name and length.
pub fn random_file(path: &Path, length: u64) {
    let name = path.file_name().unwrap().as_encoded_bytes();
    let seed = blake3::hash(&[name, &length.to_le_bytes()].concat());
    let mut random = StdRng::from_seed(*seed.as_bytes());
    let mut file = fs::File::create(path).unwrap();
    let mut left = length;
    let mut block = vec![0u8; 1 << 20];
    while left > 0 {
        let n = left.min(block.len() as u64) as usize;
        random.fill(&mut block[..n]);
        file.write_all(&block[..n]).unwrap();
        left -= n as u64;
    }
}

impl Footage {
    /// An empty folder.
    pub fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Adds a file of random bytes.
    pub fn random(self, name: &str, length: u64) -> Self {
        random_file(&self.path().join(name), length);
        self
    }

    /// Adds the demo's footage: videos, sound, photos, a document.
    pub fn with_demo(self) -> Self {
        let made = Command::new(root().join("deploy/demo-footage.sh")).arg(self.path()).status().unwrap();
        assert!(made.success());
        fs::remove_file(self.path().join("manifest.csv")).unwrap();
        self
    }

    /// Adds what ffmpeg makes of these arguments.
    pub fn ffmpeg(self, name: &str, arguments: &[&str]) -> Self {
        let made = Command::new("ffmpeg")
            .args(["-v", "error", "-nostdin"])
            .args(arguments)
            .arg(self.path().join(name))
            .status()
            .unwrap();
        assert!(made.success(), "{name}");
        self
    }

    /// Adds a photo that was taken with the camera upside down, and says so in its EXIF data.
    pub fn turned_photo(self, name: &str) -> Self {
        let this = self.ffmpeg(name, &["-f", "lavfi", "-i", "testsrc2=size=1200x900", "-frames:v", "1", "-f", "mjpeg"]);
        let path = this.path().join(name);
        let jpeg = fs::read(&path).unwrap();
        // After the SOI marker: APP1 with a TIFF header and one entry, orientation 3.
        let mut exif = b"\xff\xe1\0\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x03\0\0".to_vec();
        exif.extend([0; 4]);
        fs::write(&path, [&jpeg[..2], &exif, &jpeg[2..]].concat()).unwrap();
        this
    }

    /// Adds a file of these bytes.
    pub fn with(self, name: &str, bytes: &[u8]) -> Self {
        fs::write(self.path().join(name), bytes).unwrap();
        self
    }

    /// The files, in order.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> = fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }
}

impl Default for Footage {
    fn default() -> Self {
        Self::new()
    }
}
