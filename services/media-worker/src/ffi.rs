//! What the safe wrappers leave out: every line of this crate that hands FFmpeg a pointer.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ops::{Deref, DerefMut};
use std::ptr;

use anyhow::{Context, Result};
use ffmpeg_next as ffmpeg;
use ffmpeg_next::ffi as sys;
use ffmpeg_next::filter::Graph;
use ffmpeg_next::format::context::{Input, Output, StreamIo};
use ffmpeg_next::{DictionaryRef, Rational, Stream, color};

use crate::file::SharedFile;

/// Keeps glibc from reserving 64 MiB of address space for each thread, which the memory limit
/// would count.
pub fn use_one_heap() {
    // SAFETY: called while there is one thread; sets a number inside the allocator.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// Has SIGALRM end this process after so many seconds.
pub fn end_after(seconds: u32) {
    // SAFETY: sets the process's only timer of this kind, and touches no memory.
    unsafe { libc::alarm(seconds) };
}

/// A dictionary's entries. The wrapper's own iterator takes every file's tags for UTF-8, which
/// they needn't be; here the rest is replaced.
pub fn entries(dictionary: &DictionaryRef<'_>) -> Vec<(String, String)> {
    let mut entries = Vec::new();
    let mut entry: *const sys::AVDictionaryEntry = ptr::null();
    loop {
        // SAFETY: the dictionary lives as long as its reference, and isn't changed meanwhile.
        entry = unsafe { sys::av_dict_get(dictionary.as_ptr(), c"".as_ptr(), entry, sys::AV_DICT_IGNORE_SUFFIX) };
        if entry.is_null() {
            return entries;
        }
        // SAFETY: an entry's key and value are terminated strings owned by the dictionary.
        let text = unsafe { (CStr::from_ptr((*entry).key), CStr::from_ptr((*entry).value)) };
        entries.push((text.0.to_string_lossy().into(), text.1.to_string_lossy().into()));
    }
}

/// The name of the container libavformat takes `head`, a file's beginning, for, and how sure
/// it is (its own 0 to 100).
pub fn recognise(head: &[u8]) -> Option<(String, i32)> {
    let mut padded = head.to_vec();
    padded.resize(head.len() + sys::AVPROBE_PADDING_SIZE as usize, 0);
    let data = sys::AVProbeData {
        filename: c"".as_ptr(),
        buf: padded.as_mut_ptr(),
        buf_size: c_int::try_from(head.len()).ok()?,
        mime_type: ptr::null(),
    };
    let mut score = 0;
    // SAFETY: the buffer is padded as asked for and outlives the call; formats are static.
    unsafe {
        let format = sys::av_probe_input_format3(&data, 1, &mut score);
        let name = (!format.is_null()).then(|| CStr::from_ptr((*format).name))?;
        Some((name.to_string_lossy().into(), score))
    }
}

/// When the input's first stream begins, in microseconds.
pub fn start_time(input: &Input) -> Option<i64> {
    // SAFETY: the context is alive as long as its wrapper.
    let start = unsafe { (*input.as_ptr()).start_time };
    (start != sys::AV_NOPTS_VALUE).then_some(start)
}

/// Numbers of a stream that can be known without opening a decoder; zero where unknown.
#[derive(Clone, Copy, Debug)]
pub struct StreamShape {
    /// Coded width.
    pub width: u32,
    /// Coded height.
    pub height: u32,
    /// A pixel's width to its height.
    pub pixel_aspect: Rational,
    /// Samples per second.
    pub sample_rate: u32,
    /// Number of audio channels.
    pub channels: u32,
    /// What the pictures' numbers mean.
    pub colour: Colour,
}

/// What a video's numbers mean, as far as the file says so.
#[derive(Clone, Copy, Debug)]
pub struct Colour {
    /// Matrix between RGB and YCbCr.
    pub space: color::Space,
    /// Chromaticities of the primaries.
    pub primaries: color::Primaries,
    /// Curve between number and light.
    pub transfer: color::TransferCharacteristic,
}

/// Reads a stream's numbers.
pub fn stream_shape(input: &Input, stream: &Stream<'_>) -> StreamShape {
    let positive = |value: c_int| u32::try_from(value).unwrap_or(0);
    // SAFETY: the stream belongs to the context, and both are alive; guessing only reads them.
    unsafe {
        let parameters = (*stream.as_ptr()).codecpar;
        let aspect =
            sys::av_guess_sample_aspect_ratio(input.as_ptr().cast_mut(), stream.as_ptr().cast_mut(), ptr::null_mut());
        StreamShape {
            width: positive((*parameters).width),
            height: positive((*parameters).height),
            pixel_aspect: Rational::from(aspect),
            sample_rate: positive((*parameters).sample_rate),
            channels: positive((*parameters).ch_layout.nb_channels),
            colour: Colour {
                space: (*parameters).color_space.into(),
                primaries: (*parameters).color_primaries.into(),
                transfer: (*parameters).color_trc.into(),
            },
        }
    }
}

/// Keeps a filter graph from starting a thread for each core.
pub fn use_one_thread(graph: &mut Graph) {
    // SAFETY: the graph is alive and not configured yet.
    unsafe { (*graph.as_mut_ptr()).nb_threads = 1 };
}

/// A muxer that may read what it wrote. The MP4 muxer moves the index to the front by opening
/// its output a second time, by name; here that opening is answered with another view of the
/// same descriptor, and any other way to open something is gone.
pub struct RereadableOutput {
    output: Output,
    reread: *mut Reread,
}

struct Reread {
    file: SharedFile,
    reader: Option<StreamIo>,
}

impl RereadableOutput {
    /// A muxer for the named container, writing to `file`.
    pub fn new(file: &SharedFile, container: &str) -> Result<Self> {
        let writer = StreamIo::from_write_seek(file.reopened())?;
        let mut output = ffmpeg::format::output_to_stream(writer, None, Some(container))
            .with_context(|| format!("create the {container} muxer"))?;
        let reread = Box::into_raw(Box::new(Reread { file: file.clone(), reader: None }));
        // SAFETY: the context is alive, and these are its fields for this very purpose; `reread`
        // outlives it (see `Drop`).
        unsafe {
            let context = output.as_mut_ptr();
            (*context).opaque = reread.cast();
            (*context).io_open = Some(open_again);
            (*context).io_close2 = Some(close_again);
        }
        Ok(Self { output, reread })
    }
}

impl Deref for RereadableOutput {
    type Target = Output;

    fn deref(&self) -> &Output {
        &self.output
    }
}

impl DerefMut for RereadableOutput {
    fn deref_mut(&mut self) -> &mut Output {
        &mut self.output
    }
}

impl Drop for RereadableOutput {
    fn drop(&mut self) {
        // SAFETY: the context is alive until its wrapper is dropped, after this.
        unsafe { (*self.output.as_mut_ptr()).opaque = ptr::null_mut() };
        // SAFETY: made by `Box::into_raw` and freed only here.
        drop(unsafe { Box::from_raw(self.reread) });
    }
}

/// libavformat's `io_open`: whatever the name, the answer is the output itself, for reading.
unsafe extern "C" fn open_again(
    context: *mut sys::AVFormatContext,
    opened: *mut *mut sys::AVIOContext,
    _name: *const c_char,
    flags: c_int,
    _options: *mut *mut sys::AVDictionary,
) -> c_int {
    // SAFETY: the context is the one this callback was installed in.
    let reread: *mut Reread = unsafe { (*context).opaque.cast::<c_void>() }.cast();
    // SAFETY: null, or the box `RereadableOutput` owns; libavformat calls back on one thread.
    let Some(reread) = (unsafe { reread.as_mut() }) else {
        return sys::AVERROR(libc::EPERM);
    };
    if flags != sys::AVIO_FLAG_READ as c_int || reread.reader.is_some() {
        return sys::AVERROR(libc::EPERM);
    }
    match StreamIo::from_read_seek(reread.file.reopened()) {
        Ok(reader) => {
            let pointer = reread.reader.insert(reader).as_mut_ptr();
            // SAFETY: libavformat passes where it wants the answer.
            unsafe { *opened = pointer };
            0
        }
        Err(error) => error.into(),
    }
}

/// libavformat's `io_close2`, for what [`open_again`] opened.
unsafe extern "C" fn close_again(context: *mut sys::AVFormatContext, _opened: *mut sys::AVIOContext) -> c_int {
    // SAFETY: as in `open_again`.
    if let Some(reread) = unsafe { (*context).opaque.cast::<Reread>().as_mut() } {
        reread.reader = None;
    }
    0
}
