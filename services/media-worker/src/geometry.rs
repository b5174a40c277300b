//! Picture sizes.

use ffmpeg_next::Rational;

use crate::orientation::Orientation;

/// Pixels across and down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
}

impl Size {
    /// The size as it is to be seen: square pixels (the width gives way), then turned.
    pub fn displayed(self, pixel_aspect: Rational, orientation: Orientation) -> Size {
        let Rational(across, down) = pixel_aspect;
        let width = match (u64::try_from(across), u64::try_from(down)) {
            (Ok(across @ 1..), Ok(down @ 1..)) => u64::from(self.width) * across / down,
            _ => u64::from(self.width),
        };
        // Beyond this the stated aspect is nonsense, and no encoder takes the picture.
        let width = width.clamp(1, 16_384) as u32;
        if orientation.swaps_sides() {
            return Size { width: self.height, height: width };
        }
        Size { width, height: self.height }
    }

    /// The largest size of the same shape within the bounds, never larger than this one.
    pub fn fit(self, most: Size) -> Size {
        let (width, height) = (u64::from(self.width.max(1)), u64::from(self.height.max(1)));
        let (most_width, most_height) = (u64::from(most.width), u64::from(most.height));
        if width <= most_width && height <= most_height {
            return self;
        }
        // Rounded to the nearest; the sides' ratio decides which bound holds.
        let (width, height) = if width * most_height >= height * most_width {
            (most_width, (height * most_width + width / 2) / width)
        } else {
            ((width * most_height + height / 2) / height, most_height)
        };
        Size { width: width.max(1) as u32, height: height.max(1) as u32 }
    }

    /// Rounded down to even sides, which 4:2:0 video needs.
    pub fn even(self) -> Size {
        Size { width: (self.width & !1).max(2), height: (self.height & !1).max(2) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(width: u32, height: u32) -> Size {
        Size { width, height }
    }

    #[test]
    fn fits_by_the_tighter_bound_and_never_enlarges() {
        assert_eq!(size(1920, 1080).fit(size(4096, 720)), size(1280, 720));
        assert_eq!(size(4000, 3000).fit(size(1280, 1280)), size(1280, 960));
        assert_eq!(size(3000, 4000).fit(size(1280, 1280)), size(960, 1280));
        assert_eq!(size(321, 241).fit(size(4096, 720)), size(321, 241));
        assert_eq!(size(60_000, 1).fit(size(1280, 1280)), size(1280, 1));
    }

    #[test]
    fn even_sides_are_never_zero() {
        assert_eq!(size(321, 241).even(), size(320, 240));
        assert_eq!(size(1, 1).even(), size(2, 2));
    }

    #[test]
    fn wide_pixels_widen_before_the_turn() {
        let upright = Orientation::default();
        assert_eq!(size(720, 576).displayed(Rational(16, 15), upright), size(768, 576));
        assert_eq!(size(720, 576).displayed(Rational(0, 1), upright), size(720, 576));
        let turned = Orientation::from_exif(6);
        assert_eq!(size(720, 576).displayed(Rational(16, 15), turned), size(576, 768));
    }
}
