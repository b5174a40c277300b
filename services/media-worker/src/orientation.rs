//! Which way up: EXIF's eight orientations and the display matrices that mean the same.

use ffmpeg_next::codec::packet::side_data::Type as PacketSideData;
use ffmpeg_next::frame::side_data::Type as FrameSideData;
use ffmpeg_next::{Frame, Stream};

use crate::ffi;

/// What is to be done to stored pixels before they are seen; an EXIF orientation, 1 to 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orientation(u8);

impl Default for Orientation {
    fn default() -> Self {
        Self(1)
    }
}

impl Orientation {
    /// The orientation with EXIF's number; upright if there is none such.
    pub fn from_exif(number: u8) -> Self {
        match number {
            1..=8 => Self(number),
            _ => Self::default(),
        }
    }

    /// A track's orientation.
    pub fn of_stream(stream: &Stream<'_>) -> Self {
        let matrix = stream.side_data().find(|data| data.kind() == PacketSideData::DisplayMatrix);
        matrix.map(|data| Self::from_matrix(data.data())).unwrap_or_default()
    }

    /// A still's orientation, from what its decoder found beside the pixels.
    pub fn of_frame(frame: &Frame) -> Self {
        if let Some(matrix) = frame.side_data(FrameSideData::DisplayMatrix) {
            return Self::from_matrix(matrix.data());
        }
        let tags = ffi::entries(&frame.metadata());
        let tag = tags.into_iter().find(|(key, _)| key == "Orientation");
        let number = tag.and_then(|(_, value)| value.trim().parse().ok());
        number.map(Self::from_exif).unwrap_or_default()
    }

    /// From libavutil's 3×3 matrix of 32-bit numbers, which sends (x, y) to
    /// (m0·x + m3·y, m1·x + m4·y) with y pointing down; snapped to the nearest quarter turn.
    fn from_matrix(bytes: &[u8]) -> Self {
        let cell = |index: usize| {
            let bytes = bytes.get(index * 4..index * 4 + 4);
            bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, i32::from_ne_bytes)
        };
        let (x_to_x, x_to_y, y_to_x, y_to_y) = (cell(0), cell(1), cell(3), cell(4));
        if x_to_x.unsigned_abs() >= x_to_y.unsigned_abs() {
            return match (x_to_x < 0, y_to_y < 0) {
                (false, false) => Self(1),
                (true, false) => Self(2),
                (true, true) => Self(3),
                (false, true) => Self(4),
            };
        }
        match (x_to_y < 0, y_to_x < 0) {
            (false, false) => Self(5),
            (false, true) => Self(6),
            (true, true) => Self(7),
            (true, false) => Self(8),
        }
    }

    /// Whether width and height change places.
    pub fn swaps_sides(self) -> bool {
        self.0 >= 5
    }

    /// Degrees clockwise; mirroring aside.
    pub fn degrees(self) -> u32 {
        match self.0 {
            3 | 4 => 180,
            5 | 6 => 90,
            7 | 8 => 270,
            _ => 0,
        }
    }

    /// The libavfilter filters that do it, followed by a comma, if any are needed.
    pub fn filters(self) -> &'static str {
        match self.0 {
            2 => "hflip,",
            3 => "hflip,vflip,",
            4 => "vflip,",
            5 => "transpose=cclock_flip,",
            6 => "transpose=clock,",
            7 => "transpose=clock_flip,",
            8 => "transpose=cclock,",
            _ => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(cells: [i32; 4]) -> Orientation {
        let [a, b, c, d] = cells.map(|cell| cell << 16);
        let cells = [a, b, 0, c, d, 0, 0, 0, 1 << 30];
        let bytes: Vec<u8> = cells.iter().flat_map(|cell| cell.to_ne_bytes()).collect();
        Orientation::from_matrix(&bytes)
    }

    #[test]
    fn matrices_mean_exif_orientations() {
        assert_eq!(matrix([1, 0, 0, 1]), Orientation(1));
        assert_eq!(matrix([-1, 0, 0, 1]), Orientation(2));
        assert_eq!(matrix([-1, 0, 0, -1]), Orientation(3));
        assert_eq!(matrix([1, 0, 0, -1]), Orientation(4));
        assert_eq!(matrix([0, 1, 1, 0]), Orientation(5));
        assert_eq!(matrix([0, 1, -1, 0]), Orientation(6));
        assert_eq!(matrix([0, -1, -1, 0]), Orientation(7));
        assert_eq!(matrix([0, -1, 1, 0]), Orientation(8));
    }

    #[test]
    fn a_broken_matrix_is_upright() {
        assert_eq!(Orientation::from_matrix(&[0; 5]), Orientation(1));
        assert_eq!(Orientation::from_exif(9), Orientation(1));
    }
}
