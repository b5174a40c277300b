//! Files by descriptor: everything this process reads or writes was opened by its parent.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// The error number that reading fails with, whatever the kernel's was: demuxers answer damaged
/// files with EIO and others, and a disk's failure must not look like the recording's.
pub const READ_FAILED: i32 = libc::EREMOTEIO;

fn unmistakable(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::Interrupted => error,
        _ => io::Error::from_raw_os_error(READ_FAILED),
    }
}

/// A view of a regular file with a position of its own, so that several readers (or the muxer
/// and its second pass) share one descriptor without opening anything by name.
#[derive(Clone, Debug)]
pub struct SharedFile {
    file: Arc<File>,
    position: u64,
}

impl SharedFile {
    /// Takes over a descriptor of a regular file.
    pub fn new(descriptor: OwnedFd) -> Self {
        Self { file: Arc::new(File::from(descriptor)), position: 0 }
    }

    /// Another view of the same file, at its beginning.
    pub fn reopened(&self) -> Self {
        Self { file: Arc::clone(&self.file), position: 0 }
    }

    /// The file's size now. Asks by seeking: the sandbox has no `stat`.
    pub fn size(&self) -> io::Result<u64> {
        (&*self.file).seek(SeekFrom::End(0))
    }

    /// Empties the file.
    pub fn clear(&self) -> io::Result<()> {
        self.file.set_len(0)
    }
}

impl Read for SharedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.position);
        let count = read.inspect_err(|error| eprintln!("read: {error}")).map_err(unmistakable)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Write for SharedFile {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.file.write_at(buffer, self.position)?;
        self.position += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for SharedFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
            SeekFrom::End(offset) => self.size()?.checked_add_signed(offset),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
