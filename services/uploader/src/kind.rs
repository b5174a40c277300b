//! What a file is, by its bytes, never by its name.

use std::{io, path::Path};

use file_format::{FileFormat, Kind};

/// What a person calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    Video,
    Audio,
    Photo,
    Document,
    Other,
}

impl FileKind {
    pub fn as_str(self) -> &'static str {
        match self {
            FileKind::Video => "video",
            FileKind::Audio => "audio",
            FileKind::Photo => "photo",
            FileKind::Document => "document",
            FileKind::Other => "other",
        }
    }
}

/// Looks into a file: its kind, and its media type.
pub fn look(path: &Path) -> io::Result<(FileKind, String)> {
    let format = match FileFormat::from_file(path)? {
        // Containers whose list of streams can't be read: a recorder that lost its power leaves such videos.
        FileFormat::Mpeg4Part14 => FileFormat::Mpeg4Part14Video,
        FileFormat::AdvancedSystemsFormat => FileFormat::WindowsMediaVideo,
        format => format,
    };
    let kind = match format.kind() {
        Kind::Video => FileKind::Video,
        Kind::Audio => FileKind::Audio,
        Kind::Image => FileKind::Photo,
        Kind::Document | Kind::Ebook | Kind::Presentation | Kind::Spreadsheet => FileKind::Document,
        _ => FileKind::Other,
    };
    Ok((kind, format.media_type().to_owned()))
}
