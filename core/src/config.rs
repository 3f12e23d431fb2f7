//! What a node is told once, when its agent starts.

use crate::{MachineId, Name, Span};
use core::fmt;

/// The settings of one node. Build it with [`Config::new`], change fields, then [`validate`](Config::validate) once.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Config {
    /// This node's name.
    pub me: Name,
    /// Where it runs.
    pub machine: MachineId,
    /// T: how long a candidate watches an unchanged lease before it counts as lapsed. Travels with the reign, so that
    /// a change can't shorten a lease that is held (hazard A54).
    pub ttl: Span,
    /// How much earlier than T the holder's authority ends, for clocks that run at different rates: 2ρT, rounded up.
    pub drift: Span,
    /// S: the time the guard may need to kill every process of the instance.
    pub stop_budget: Span,
    /// How often the holder renews its lease: T/4 unless there is a reason.
    pub beat_every: Span,
    /// The longest a single request to the store may take before its outcome counts as unknown.
    pub store_patience: Span,
    /// The pause before a failed store request or PostgreSQL order is tried again.
    pub retry_after: Span,
    /// What only brings a copy back is tried again after twice the pause before, up to this one.
    pub retry_longest: Span,
    /// How long before the fence an asynchronous primary begins an orderly stop.
    pub demote_lead: Span,
    /// How long a candidate waits for the positions of others that may stand.
    pub election_window: Span,
    /// How long a better or named candidate is given before the next one stands.
    pub handover_patience: Span,
    /// How long a start, a promotion or an orderly stop may take.
    pub instance_patience: Span,
    /// How long initdb or a copy of the data directory may take.
    pub clone_patience: Span,
    /// How old the last proof may get that a primary does its work, before it is given up for one that can replace it
    /// (hazard A08); zero: for ever.
    #[cfg_attr(feature = "serde", serde(default))]
    pub health_age: Span,
    /// How many restarts in place a crashing primary is given before its holder hands over.
    pub restarts_max: u8,
    /// A candidate that lacks more bytes than this against the last published position may not stand.
    pub lag_bytes_max: u64,
    /// Whether a copy that has left the elected history may be rewound; else it is copied anew.
    pub rewind: bool,
    /// The greater, the rather this node is elected among equals; 0: never.
    pub priority: u32,
}

/// A node's settings never change, so its name stands for them all: states are hashed millions of times.
impl core::hash::Hash for Config {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        self.me.hash(state);
    }
}

/// A setting that can't work, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadConfig {
    /// The name of the field.
    pub field: &'static str,
    /// What must hold.
    pub rule: &'static str,
}

impl fmt::Display for BadConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.rule)
    }
}

impl core::error::Error for BadConfig {}

impl Config {
    /// The defaults for a lease of `ttl` with clocks that are at most 0.1 % wrong.
    pub fn new(me: Name, ttl: Span) -> Config {
        Config {
            me,
            machine: MachineId(0),
            ttl,
            drift: Span(ttl.0.div_ceil(500)),
            stop_budget: Span::millis(500),
            beat_every: Span(ttl.0 / 4),
            store_patience: Span::millis(400),
            retry_after: Span::millis(100),
            retry_longest: Span::millis(1_600),
            demote_lead: Span::secs(1),
            election_window: Span::millis(400),
            handover_patience: Span::secs(1),
            instance_patience: Span::secs(60),
            clone_patience: Span::secs(24 * 3600),
            health_age: Span::secs(3),
            restarts_max: 3,
            lag_bytes_max: 1_048_576,
            rewind: true,
            priority: 1,
        }
    }

    /// How long after its request was sent a committed beat gives authority.
    pub fn authority(&self) -> Span {
        self.ttl - self.drift
    }

    /// Refuses settings with which the lease could not be kept or would not be safe.
    ///
    /// # Errors
    /// Names the first field that breaks a rule.
    pub fn validate(&self) -> Result<(), BadConfig> {
        let fence = self.authority() - self.stop_budget;
        let rules = [
            ("ttl", "must be at least 3 s", self.ttl >= Span::secs(3)),
            ("stop_budget", "must leave more than half of ttl", fence.0 * 2 > self.ttl.0),
            ("beat_every", "must be at most a third of ttl", self.beat_every.times(3) <= self.ttl),
            ("beat_every", "must not be zero", self.beat_every > Span::ZERO),
            (
                "store_patience",
                "a beat, one retry and the orderly stop must fit before the fence",
                self.beat_every + self.store_patience.times(2) + self.demote_lead <= fence,
            ),
            ("retry_after", "must not be zero", self.retry_after > Span::ZERO),
            (
                "health_age",
                "must be zero or at least 1 s",
                self.health_age == Span::ZERO || self.health_age >= Span::secs(1),
            ),
        ];
        match rules.iter().find(|(_, _, holds)| !holds) {
            Some((field, rule, _)) => Err(BadConfig { field, rule }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_hold_from_three_seconds() {
        for secs in [3, 5, 10, 30] {
            let mut config = Config::new("a".into(), Span::secs(secs));
            if secs == 3 {
                config.demote_lead = Span::millis(500);
            }
            assert_eq!(config.validate(), Ok(()), "ttl {secs}");
        }
    }

    #[test]
    fn each_rule_refuses_what_it_names() {
        let good = Config::new("a".into(), Span::secs(5));
        let refused = |change: fn(&mut Config)| {
            let mut config = good.clone();
            change(&mut config);
            config.validate().unwrap_err().field
        };
        assert_eq!(refused(|c| c.ttl = Span::secs(2)), "ttl");
        assert_eq!(refused(|c| c.stop_budget = Span::millis(2_490)), "stop_budget");
        assert_eq!(refused(|c| c.beat_every = Span::millis(1_667)), "beat_every");
        assert_eq!(refused(|c| c.beat_every = Span::ZERO), "beat_every");
        assert_eq!(refused(|c| c.store_patience = Span::millis(1_121)), "store_patience");
        assert_eq!(refused(|c| c.retry_after = Span::ZERO), "retry_after");
        assert_eq!(refused(|c| c.health_age = Span::millis(999)), "health_age");
        for off_or_least in [Span::ZERO, Span::secs(1)] {
            assert_eq!(Config { health_age: off_or_least, ..good.clone() }.validate(), Ok(()));
        }
    }

    #[test]
    fn authority_ends_before_any_allowed_clock_shows_the_lapse() {
        let config = Config::new("a".into(), Span::secs(5));
        assert_eq!(config.authority(), Span::millis(4_990));
    }
}
