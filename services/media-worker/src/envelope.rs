//! The loudest samples over the whole length of a recording, however long, in fixed memory.

/// Lowest and highest sample of a stretch of sound.
pub type Peak = (i16, i16);

const SILENCE: Peak = (0, 0);

/// Collects samples into at most `2 * columns` stretches of equal length, which doubles when
/// they run out.
#[derive(Debug)]
pub struct Envelope {
    columns: usize,
    stretch: usize,
    filled: usize,
    peaks: Vec<Peak>,
}

impl Envelope {
    /// An empty envelope.
    pub fn new(columns: usize) -> Self {
        Self { columns, stretch: 1, filled: 0, peaks: Vec::new() }
    }

    /// Adds the next samples.
    pub fn extend(&mut self, samples: &[i16]) {
        for sample in samples {
            if self.filled == 0 {
                self.make_room();
                self.peaks.push((*sample, *sample));
            }
            if let Some((low, high)) = self.peaks.last_mut() {
                *low = (*low).min(*sample);
                *high = (*high).max(*sample);
            }
            self.filled = (self.filled + 1) % self.stretch;
        }
    }

    /// The peaks, spread over exactly `columns`; `None` if there was no sound at all.
    pub fn finish(self) -> Option<Vec<Peak>> {
        let count = self.peaks.len();
        if count == 0 {
            return None;
        }
        let column = |index: usize| {
            let first = index * count / self.columns;
            let end = ((index + 1) * count / self.columns).max(first + 1);
            self.peaks[first..end].iter().copied().reduce(merge).unwrap_or(SILENCE)
        };
        Some((0..self.columns).map(column).collect())
    }

    fn make_room(&mut self) {
        if self.peaks.len() < 2 * self.columns {
            return;
        }
        self.peaks = self.peaks.chunks(2).filter_map(|two| two.iter().copied().reduce(merge)).collect();
        self.stretch *= 2;
    }
}

fn merge(one: Peak, other: Peak) -> Peak {
    (one.0.min(other.0), one.1.max(other.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_stays_in_its_place_at_any_length() {
        for length in [100, 1_000, 12_345, 1_000_000] {
            let mut samples = vec![0; length];
            samples[length / 4] = 1000;
            samples[length / 2] = -2000;
            let mut envelope = Envelope::new(100);
            samples.chunks(777).for_each(|chunk| envelope.extend(chunk));
            let columns = envelope.finish().unwrap();
            assert_eq!(columns.len(), 100);
            let high = columns.iter().position(|peak| peak.1 == 1000).unwrap();
            let low = columns.iter().position(|peak| peak.0 == -2000).unwrap();
            assert!((24..=26).contains(&high) && (49..=51).contains(&low), "{high} {low} of {length}");
        }
    }

    #[test]
    fn few_samples_fill_all_columns_and_none_fill_none() {
        let mut envelope = Envelope::new(10);
        envelope.extend(&[5, -5]);
        assert_eq!(envelope.finish().unwrap().len(), 10);
        assert_eq!(Envelope::new(10).finish(), None);
    }
}
