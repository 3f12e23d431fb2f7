//! Moments on the clock that all hosts of a lab share.

use std::fmt;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Microseconds on `CLOCK_BOOTTIME`: comparable between all processes of this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Moment(pub i64);

impl Moment {
    /// The present.
    pub fn now() -> Moment {
        let now = clock_gettime(ClockId::Boottime);
        Moment(now.tv_sec * 1_000_000 + now.tv_nsec / 1_000)
    }

    /// Seconds since another moment, negative if this one is earlier.
    pub fn since(self, other: Moment) -> f64 {
        (self.0 - other.0) as f64 / 1e6
    }

    /// This moment and so much.
    pub fn plus(self, duration: Duration) -> Moment {
        Moment(self.0 + duration.as_micros() as i64)
    }

    /// This moment less so much.
    pub fn minus(self, duration: Duration) -> Moment {
        Moment(self.0 - duration.as_micros() as i64)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}", self.0 as f64 / 1e6)
    }
}
