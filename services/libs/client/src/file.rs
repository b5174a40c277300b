//! The file that is sent: read by segment, and watched for changes.

use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use caselock_domain::digest::Blake3;
use rustix::{
    buffer::spare_capacity,
    io::{pread, retry_on_intr},
};

use crate::UploadError;

/// What tells whether a file is still the one that was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Size in bytes.
    pub size: u64,
    /// Modification time, nanoseconds since 1970.
    pub modified: i128,
    device: u64,
    inode: u64,
}

impl Stamp {
    /// The stamp of what is at this path now.
    pub fn of(path: &Path) -> io::Result<Self> {
        Ok(Self::from(&std::fs::metadata(path)?))
    }

    fn from(meta: &std::fs::Metadata) -> Self {
        let modified = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
        Self { size: meta.size(), modified, device: meta.dev(), inode: meta.ino() }
    }
}

/// An open file.
#[derive(Debug, Clone)]
pub struct Footage {
    file: Arc<File>,
    stamp: Stamp,
}

impl Footage {
    /// Opens a regular file.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(Self { file: Arc::new(file), stamp: Stamp::from(&meta) })
    }

    /// Its stamp when it was opened.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Whether it is as it was when it was opened.
    pub fn is_unchanged(&self) -> io::Result<bool> {
        Ok(Stamp::from(&self.file.metadata()?) == self.stamp)
    }

    /// The BLAKE3 of the whole, as it is now.
    pub async fn whole(&self) -> io::Result<Blake3> {
        let file = self.file.clone();
        let hash = move || {
            let mut hasher = blake3::Hasher::new();
            let mut buffer = vec![0; 1 << 20];
            loop {
                match file.read_at(&mut buffer, hasher.count())? {
                    0 => return Ok(Blake3(*hasher.finalize().as_bytes())),
                    n => hasher.update(&buffer[..n]),
                };
            }
        };
        tokio::task::spawn_blocking(hash).await.map_err(io::Error::other)?
    }

    /// Reads bytes at an offset; an error if the file has become shorter.
    pub async fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let file = self.file.clone();
        let read = tokio::task::spawn_blocking(move || {
            // Not zeroed first: that is one more pass over all that is sent.
            let mut bytes = Vec::with_capacity(length);
            while bytes.len() < length {
                let at = offset + bytes.len() as u64;
                if retry_on_intr(|| pread(&*file, spare_capacity(&mut bytes), at))? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            bytes.truncate(length);
            Ok(bytes.into())
        });
        read.await.map_err(io::Error::other)?
    }
}

/// What the key of a copy under another name has beside that of its content: 16 hex digits of the name's BLAKE3.
pub fn name_key(name: &str) -> String {
    blake3::hash(name.as_bytes()).to_hex()[..16].to_owned()
}

/// The uploader's default idempotency key: device, size, BLAKE3 of the first and last MiB. No name, no path, no time: a
/// device's file is found again wherever it was copied to, and a name used twice is no conflict.
pub fn content_key(path: &Path, device: &str) -> Result<String, UploadError> {
    const SAMPLE: u64 = 1 << 20;
    let file = File::open(path)?;
    let size = file.metadata()?.size();
    let sample = size.min(SAMPLE);
    let mut bytes = vec![0; sample as usize];
    let mut hasher = blake3::Hasher::new();
    for offset in [0, size - sample] {
        file.read_exact_at(&mut bytes, offset)?;
        hasher.update(&bytes);
    }
    let device = blake3::hash(device.as_bytes()).to_hex();
    Ok(format!("c1:{}:{size}:{}", &device[..16], hasher.finalize().to_hex()))
}
