//! When devices are docked. The model is open: a session begins when it is due, whatever became of those before it.

use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use rand::{RngExt, SeedableRng, rngs::StdRng};

/// How sessions arrive.
#[derive(Debug, Args)]
pub struct Arrivals {
    /// Sessions a second, on average (a Poisson process). Without it, and without --day, one session begins at once.
    #[arg(long, value_name = "RATE", conflicts_with = "day")]
    rate: Option<f64>,
    /// A day at a bureau, from a CSV file with the columns hour (0 to 23) and sessions (on average in that hour), pressed into
    /// --for.
    #[arg(long, value_name = "FILE")]
    day: Option<std::path::PathBuf>,
    /// For how many seconds sessions arrive.
    #[arg(long = "for", default_value_t = 60.0, value_name = "SECONDS")]
    lasts: f64,
    /// Repeats the same arrivals.
    #[arg(long = "arrival-seed", default_value_t = 1)]
    seed: u64,
}

impl Arrivals {
    /// When each session is due, from the run's start.
    pub fn due(&self) -> anyhow::Result<Vec<Duration>> {
        let mut random = StdRng::seed_from_u64(self.seed);
        match (&self.rate, &self.day) {
            (Some(rate), _) => {
                ensure!(*rate > 0.0 && self.lasts > 0.0, "expected a rate and a time above 0");
                Ok(poisson(&mut random, &[*rate * self.lasts], self.lasts))
            }
            (None, Some(path)) => {
                let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
                Ok(poisson(&mut random, &hours(&text)?, self.lasts))
            }
            (None, None) => Ok(vec![Duration::ZERO]),
        }
    }
}

/// Arrivals of a Poisson process whose rate changes between equal stretches of a time: in each there are so many on average.
fn poisson(random: &mut StdRng, expected: &[f64], lasts: f64) -> Vec<Duration> {
    let stretch = lasts / expected.len() as f64;
    let total: f64 = expected.iter().sum();
    let (mut due, mut reached) = (Vec::new(), 0.0);
    loop {
        // By the process's own clock one arrival is expected in each unit.
        reached += -(1.0 - random.random::<f64>()).ln();
        if reached >= total {
            return due;
        }
        let mut before = 0.0;
        for (number, count) in expected.iter().enumerate() {
            if reached < before + count {
                let seconds = (number as f64 + (reached - before) / count) * stretch;
                due.push(Duration::from_secs_f64(seconds));
                break;
            }
            before += count;
        }
    }
}

/// Sessions by hour, of a CSV text.
pub fn hours(text: &str) -> anyhow::Result<Vec<f64>> {
    let mut hours = vec![0.0; 24];
    for (number, line) in text.lines().enumerate().skip(1).filter(|(_, line)| !line.trim().is_empty()) {
        let row = line.split_once(',').and_then(|(hour, count)| {
            Some((hour.trim().parse::<usize>().ok()?, count.trim().parse::<f64>().ok().filter(|count| *count >= 0.0)?))
        });
        let (hour, count) = row.with_context(|| format!("line {}: expected an hour and a number", number + 1))?;
        *hours.get_mut(hour).with_context(|| format!("line {}: expected an hour from 0 to 23", number + 1))? = count;
    }
    ensure!(hours.iter().sum::<f64>() > 0.0, "there are no sessions on that day");
    Ok(hours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_are_where_the_day_has_them() {
        let mut expected = [0.0; 24];
        (expected[8], expected[18]) = (400.0, 1600.0);
        let mut random = StdRng::seed_from_u64(7);
        let due = poisson(&mut random, &expected, 24.0);
        assert!(due.is_sorted());
        let within = |hour: f64| due.iter().filter(|at| (hour..hour + 1.0).contains(&at.as_secs_f64())).count();
        // Within five standard deviations.
        assert!(within(8.0).abs_diff(400) < 100 && within(18.0).abs_diff(1600) < 200);
        assert_eq!(within(8.0) + within(18.0), due.len());
    }

    #[test]
    fn a_day_is_read_and_what_is_wrong_is_named() {
        let day = hours("hour,sessions\n8,2.5\n18, 7\n").unwrap();
        assert_eq!((day[8], day[18], day.iter().sum::<f64>()), (2.5, 7.0, 9.5));
        for (text, wrong) in [("h,s\n24,1\n", "line 2"), ("h,s\n8,x\n", "line 2"), ("h,s\n", "no sessions")] {
            assert!(hours(text).unwrap_err().to_string().contains(wrong), "{text}");
        }
    }
}
