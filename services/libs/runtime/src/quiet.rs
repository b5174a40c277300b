//! Of what librdkafka says again and again, one line.

use std::{
    collections::HashMap,
    fmt::Write as _,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tracing::{Event, Metadata, Subscriber, field::Field};
use tracing_subscriber::layer::{Context, Filter};

/// How long the same is not said again,
const PAUSE: Duration = Duration::from_secs(10);
/// and of how many lines that is remembered.
const REMEMBERED: usize = 100;

/// While a broker is away librdkafka says so for each connection and each try: hundreds of lines a minute. Lines of its that differ in numbers only
/// pass once in ten seconds.
#[derive(Default)]
pub struct Quiet(Mutex<HashMap<String, Instant>>);

impl<S: Subscriber> Filter<S> for Quiet {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        // Its own lines, and the errors that it tells.
        if !["librdkafka", "rdkafka"].iter().any(|of| event.metadata().target().starts_with(of)) {
            return true;
        }
        let mut said = String::new();
        event.record(&mut |field: &Field, value: &dyn std::fmt::Debug| {
            if field.name() == "message" {
                // Into a string nothing fails.
                let _ = write!(said, "{value:?}");
            }
        });
        self.is_news(said, Instant::now())
    }
}

impl Quiet {
    fn is_news(&self, mut said: String, now: Instant) -> bool {
        said.retain(|letter| !letter.is_ascii_digit());
        let mut before = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        before.retain(|_, at| now.saturating_duration_since(*at) < PAUSE);
        if before.contains_key(&said) {
            return false;
        }
        if before.len() < REMEMBERED {
            before.insert(said, now);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once_in_ten_seconds() {
        let (quiet, now) = (Quiet::default(), Instant::now());
        let say = |text: &str, after: u64| quiet.is_news(text.into(), now + Duration::from_secs(after));
        assert!(say("3/3 brokers are down", 0));
        assert!(!say("2/3 brokers are down", 1));
        assert!(say("another", 1));
        assert!(!say("3/3 brokers are down", 9));
        assert!(say("3/3 brokers are down", 10));
        assert!(!say("3/3 brokers are down", 19));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_nothing_new_is_lost() {
        let (quiet, now) = (Quiet::default(), Instant::now());
        for at in 0..3 * REMEMBERED {
            let text: String = format!("{at}").chars().map(|digit| char::from(digit as u8 + 50)).collect();
            assert!(quiet.is_news(text, now));
        }
        assert!(quiet.0.lock().is_ok_and(|before| before.len() == REMEMBERED));
    }
}
