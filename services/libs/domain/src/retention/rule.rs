//! How long a recording must be kept, from the floor and the cases it is evidence in (Article 15).

use jiff::{Span, Timestamp, ToSpan};

use super::{RetentionError, end_of};
use crate::case::{CaseNumber, Kept, Status};

/// A case a recording is evidence in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bond {
    /// The case's number.
    pub number: CaseNumber,
    /// How the case stands; `None` where it was not opened yet, which counts as open.
    pub status: Option<Status>,
}

/// When an open case's locks are rolled forward, and how far.
#[derive(Debug, Clone, Copy)]
pub struct Rolling {
    /// Once less than this remains,
    pub when_under: Span,
    /// the lock is set to so long from now.
    pub to: Span,
}

impl Default for Rolling {
    /// To six months when under three remain.
    fn default() -> Self {
        Self { when_under: 3.months(), to: 6.months() }
    }
}

/// What protects a recording, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keeping {
    /// Whether a legal hold must be on.
    pub hold: bool,
    /// The date of the lock; never before the one that is set already.
    pub until: Timestamp,
    /// What the date follows from.
    pub because: Because,
}

/// What a date follows from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Because {
    /// The least period of Article 15.
    Floor,
    /// A case is open, or not opened yet: held, and rolled forward.
    OpenCase(CaseNumber),
    /// A case that is kept for ever: held, and rolled forward.
    PermanentCase(CaseNumber),
    /// A closed case whose file is kept longest.
    ClosedCase(CaseNumber),
    /// A lock that was set for longer than is asked for now, and can't be shortened: its case was closed as another class before,
    /// or rolled forward past its end.
    EarlierLock,
}

/// What the law asks for a recording now. `set` is the date of its lock by now: it is never shortened, whatever the rule says.
pub fn keeping(
    now: Timestamp,
    floor: Timestamp,
    set: Timestamp,
    bonds: &[Bond],
    rolling: &Rolling,
) -> Result<Keeping, RetentionError> {
    let (mut until, mut because) = (floor, Because::Floor);
    let mut holding = None;
    for bond in bonds {
        match bond.status {
            Some(Status::Closed(Kept::Until { until: end })) => {
                if end > until {
                    (until, because) = (end, Because::ClosedCase(bond.number.clone()));
                }
            }
            Some(Status::Closed(Kept::Permanently)) => holding = Some(Because::PermanentCase(bond.number.clone())),
            // Permanence says more than openness.
            Some(Status::Open) | None => {
                holding = holding.or_else(|| Some(Because::OpenCase(bond.number.clone())));
            }
        }
    }
    let hold = holding.is_some();
    if let Some(holding) = holding {
        because = holding;
        if set < end_of(now, &rolling.when_under)? {
            until = until.max(end_of(now, &rolling.to)?);
        }
    } else if set > until {
        because = Because::EarlierLock;
    }
    Ok(Keeping { hold, until: until.max(set), because })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn bond(number: &str, status: Option<Status>) -> Bond {
        Bond { number: number.to_owned().try_into().unwrap(), status }
    }

    fn closed(until: &str) -> Option<Status> {
        Some(Status::Closed(Kept::Until { until: at(until) }))
    }

    const FLOOR: &str = "2026-08-13T16:00:00Z";

    fn keep(now: &str, set: &str, bonds: &[Bond]) -> Keeping {
        keeping(at(now), at(FLOOR), at(set), bonds, &Rolling::default()).unwrap()
    }

    #[test]
    fn the_longest_of_several_cases() {
        let short = bond("a", closed("2026-07-01T16:00:00Z"));
        let long = bond("b", closed("2036-03-31T16:00:00Z"));
        let none = keep("2026-03-01T00:00:00Z", FLOOR, &[]);
        assert_eq!(none, Keeping { hold: false, until: at(FLOOR), because: Because::Floor });
        assert_eq!(keep("2026-03-01T00:00:00Z", FLOOR, std::slice::from_ref(&short)), none);
        let both = keep("2026-03-01T00:00:00Z", FLOOR, &[long.clone(), short]);
        assert_eq!(
            (both.hold, both.until, &both.because),
            (false, at("2036-03-31T16:00:00Z"), &Because::ClosedCase(long.number.clone()))
        );
        // Open, not opened yet, or permanent: held.
        for status in [None, Some(Status::Open), Some(Status::Closed(Kept::Permanently))] {
            let kept = keep("2026-03-01T00:00:00Z", FLOOR, &[long.clone(), bond("c", status)]);
            assert!(kept.hold && kept.until == at("2036-03-31T16:00:00Z"), "{kept:?}");
        }
    }

    #[test]
    fn an_open_case_is_rolled_forward_before_its_lock_runs_out() {
        let open = [bond("a", Some(Status::Open))];
        // Three months remain: nothing to do yet.
        assert_eq!(keep("2026-05-13T00:00:00Z", FLOOR, &open).until, at(FLOOR));
        // Less: six months from today, to the end of the day in Shanghai, clamped at the month's end.
        assert_eq!(keep("2026-05-14T00:00:00Z", FLOOR, &open).until, at("2026-11-14T16:00:00Z"));
        assert_eq!(keep("2026-08-31T00:00:00Z", FLOOR, &open).until, at("2027-02-28T16:00:00Z"));
        // Long after it ran out unattended.
        assert_eq!(keep("2030-01-01T00:00:00Z", FLOOR, &open).until, at("2030-07-01T16:00:00Z"));
    }

    fn statuses() -> impl Strategy<Value = Option<Status>> {
        prop_oneof![
            Just(None),
            Just(Some(Status::Open)),
            Just(Some(Status::Closed(Kept::Permanently))),
            (1_700_000_000i64..4_000_000_000).prop_map(|seconds| {
                Some(Status::Closed(Kept::Until { until: Timestamp::from_second(seconds).unwrap() }))
            }),
        ]
    }

    /// What happens to a case, and how many days later.
    #[derive(Debug, Clone)]
    struct Step {
        days: i64,
        case: usize,
        status: Option<Status>,
    }

    fn step() -> impl Strategy<Value = Step> {
        (0i64..400, 0usize..3, statuses()).prop_map(|(days, case, status)| Step { days, case, status })
    }

    proptest! {
        /// Cases are opened, closed, reopened and closed as another class, in any order and with any time between, and each
        /// time the lock is set to what the rule says.
        #[test]
        fn through_any_life_nothing_is_shortened_and_no_hold_goes_too_soon(
            steps in proptest::collection::vec(step(), 1..40),
        ) {
            let floor = at(FLOOR);
            let (mut now, mut set) = (at("2026-02-13T00:00:00Z"), floor);
            let mut bonds = [bond("a", None), bond("b", None), bond("c", None)];
            for step in steps {
                now += jiff::SignedDuration::from_hours(24 * step.days);
                bonds[step.case].status = step.status;
                let kept = keeping(now, floor, set, &bonds, &Rolling::default()).unwrap();
                prop_assert!(kept.until >= set && kept.until >= floor, "{:?} after {}", kept, set);
                let ends = bonds.iter().filter_map(|bond| match bond.status {
                    Some(Status::Closed(Kept::Until { until })) => Some(until),
                    _ => None,
                });
                let ends: Vec<_> = ends.collect();
                // A hold is off only when every case has an end, and then the date is none before any of them.
                prop_assert_eq!(kept.hold, ends.len() < bonds.len());
                prop_assert!(ends.iter().all(|end| kept.until >= *end));
                // The date names a case that is there and asks for it, the floor, or what was set before.
                match &kept.because {
                    Because::Floor => prop_assert!(!kept.hold && kept.until == floor),
                    Because::ClosedCase(_) => prop_assert!(!kept.hold && ends.contains(&kept.until)),
                    Because::EarlierLock => prop_assert!(!kept.hold && kept.until == set && !ends.contains(&set)),
                    Because::OpenCase(number) | Because::PermanentCase(number) => {
                        let named = bonds.iter().find(|bond| bond.number == *number).unwrap();
                        let has_an_end = matches!(named.status, Some(Status::Closed(Kept::Until { .. })));
                        prop_assert!(kept.hold && !has_an_end);
                    }
                }
                set = kept.until;
            }
        }

        #[test]
        fn never_less_than_the_law_asks(
            now in 1_700_000_000i64..4_000_000_000,
            floor in 1_700_000_000i64..4_000_000_000,
            set in 1_700_000_000i64..4_000_000_000,
            statuses in proptest::collection::vec(statuses(), 0..5),
            order in any::<proptest::sample::Index>(),
        ) {
            let [now, floor, set] = [now, floor, set].map(|seconds| Timestamp::from_second(seconds).unwrap());
            let mut bonds: Vec<_> = statuses.iter().enumerate().map(|(i, s)| bond(&i.to_string(), *s)).collect();
            let kept = keeping(now, floor, set, &bonds, &Rolling::default()).unwrap();
            prop_assert!(kept.until >= floor && kept.until >= set);
            let mut held = false;
            for status in &statuses {
                match status {
                    Some(Status::Closed(Kept::Until { until })) => prop_assert!(kept.until >= *until),
                    _ => held = true,
                }
            }
            prop_assert_eq!(kept.hold, held);
            // Whoever lifts the hold behind its back finds a lock with months to run.
            if held {
                prop_assert!(kept.until.duration_since(now) > jiff::SignedDuration::from_hours(24 * 85));
            }
            // The order of the cases says nothing about date and hold, and asking again changes nothing.
            if !bonds.is_empty() {
                let by = order.index(bonds.len());
                bonds.rotate_left(by);
            }
            let again = keeping(now, floor, kept.until, &bonds, &Rolling::default()).unwrap();
            prop_assert_eq!((again.until, again.hold), (kept.until, kept.hold));
        }
    }
}
