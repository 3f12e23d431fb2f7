//! How long nobody could write, as the client that knows all nodes saw it.

use serde::{Deserialize, Serialize};

use crate::client::{Ack, Writer};
use crate::time::Moment;

/// A time without an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The last acknowledgement before it.
    pub from: Moment,
    /// The first one after it; `None` if there was none any more.
    pub to: Option<Moment>,
}

/// The times without an acknowledgement after a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outage {
    /// From the last acknowledgement before the fault to the first after it. Writes that still go well just after a
    /// fault make it small.
    pub at_fault: Gap,
    /// The longest time without one, from the fault to the end: the outage that counts.
    pub longest: Gap,
}

impl Gap {
    /// Seconds, if it has ended.
    pub fn seconds(self) -> Option<f64> {
        self.to.map(|to| to.since(self.from))
    }

    fn longer_than(self, other: Gap, end: Moment) -> bool {
        self.to.unwrap_or(end).since(self.from) > other.to.unwrap_or(end).since(other.from)
    }
}

/// Finds the outage of a fault. The record ends at `end`; silence there is a gap without end.
pub fn outage(acks: &[Ack], fault: Moment, end: Moment) -> Outage {
    let mut times: Vec<Moment> =
        acks.iter().filter(|a| a.writer == Writer::Steady).map(|a| a.acked).collect();
    times.sort();
    let before = times.iter().rev().find(|at| **at <= fault).copied().unwrap_or(fault);
    let after: Vec<Moment> = times.into_iter().filter(|at| *at > fault && *at <= end).collect();
    let at_fault = Gap { from: before, to: after.first().copied() };
    let inner = after.windows(2).map(|pair| Gap { from: pair[0], to: Some(pair[1]) });
    let silence =
        after.last().filter(|last| end.since(**last) > SILENCE).map(|last| Gap { from: *last, to: None });
    let longest =
        inner.chain(silence).fold(at_fault, |best, gap| if gap.longer_than(best, end) { gap } else { best });
    Outage { at_fault, longest }
}

/// All times without an acknowledgement that anybody would notice, from a moment to the end of the record.
pub fn outages(acks: &[Ack], from: Moment, end: Moment) -> Vec<Gap> {
    let of_steady = acks.iter().filter(|a| a.writer == Writer::Steady && a.acked > from).map(|a| a.acked);
    let mut times: Vec<Moment> = std::iter::once(from).chain(of_steady).collect();
    times.sort();
    let gaps = times.windows(2).map(|pair| Gap { from: pair[0], to: Some(pair[1]) });
    let last = times.last().filter(|last| end.since(**last) > SILENCE);
    let endless = last.map(|last| Gap { from: *last, to: None });
    gaps.filter(|gap| gap.seconds() > Some(NOTICED)).chain(endless).collect()
}

/// The end of the last time after a fault in which the client that knows all nodes was silent for long.
pub fn silent_until(acks: &[Ack], fault: Moment) -> Option<Moment> {
    let mut times: Vec<Moment> =
        acks.iter().filter(|a| a.writer == Writer::Steady).map(|a| a.acked).collect();
    times.sort();
    let silences = times.windows(2).filter(|pair| pair[1] > fault && pair[1].since(pair[0]) > SILENCE / 2.0);
    silences.map(|pair| pair[1]).max()
}

/// A client that has written until the end has written this recently, in seconds.
const SILENCE: f64 = 1.0;

/// A time without an acknowledgement that counts as an outage, in seconds.
pub const NOTICED: f64 = 0.5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::example::{ack, acks};

    fn at(millis: i64) -> Moment {
        Moment(millis * 1_000)
    }

    #[test]
    fn the_outage_lasts_from_the_last_write_before_to_the_first_after() {
        let mut all = acks(Writer::Steady, 1, 1, 0..1_000);
        all.extend(acks(Writer::Steady, 2, 2, 6_000..7_000));
        let found = outage(&all, at(980), at(7_000));
        assert_eq!(found.at_fault, Gap { from: at(975), to: Some(at(6_000)) });
        assert_eq!(found.longest, found.at_fault);
        assert_eq!(found.longest.seconds(), Some(5.025));
    }

    #[test]
    fn a_gap_that_begins_later_is_the_outage() {
        let mut all = acks(Writer::Steady, 1, 1, 0..3_000);
        all.extend(acks(Writer::Steady, 2, 2, 5_000..6_000));
        let found = outage(&all, at(1_010), at(6_000));
        assert_eq!(found.at_fault.seconds(), Some(0.025));
        assert_eq!(found.longest, Gap { from: at(2_975), to: Some(at(5_000)) });
    }

    #[test]
    fn a_cluster_that_never_came_back_has_an_outage_without_end() {
        let all = acks(Writer::Steady, 1, 1, 0..1_000);
        assert_eq!(outage(&all, at(980), at(9_000)).longest, Gap { from: at(975), to: None });
        let all = acks(Writer::Steady, 1, 1, 0..2_000);
        assert_eq!(outage(&all, at(980), at(9_000)).longest.seconds(), None);
    }

    #[test]
    fn the_last_silence_counts_and_short_ones_do_not() {
        let mut all = acks(Writer::Steady, 1, 1, 0..1_000);
        all.extend(acks(Writer::Steady, 1, 1, 3_000..4_000));
        all.extend(acks(Writer::Steady, 1, 1, 4_200..5_000));
        assert_eq!(silent_until(&all, at(980)), Some(at(3_000)));
        assert_eq!(silent_until(&all, at(3_500)), None);
    }

    #[test]
    fn all_outages_of_a_record_are_found() {
        let mut all = acks(Writer::Steady, 1, 1, 0..1_000);
        all.extend(acks(Writer::Steady, 1, 1, 3_000..4_000));
        all.extend(acks(Writer::Steady, 1, 1, 4_200..5_000));
        let first = Gap { from: at(975), to: Some(at(3_000)) };
        assert_eq!(outages(&all, at(0), at(5_500)), [first]);
        let endless = Gap { from: at(4_975), to: None };
        assert_eq!(outages(&all, at(0), at(6_000)), [first, endless]);
    }

    #[test]
    fn pinned_writers_do_not_shorten_it() {
        let mut all = acks(Writer::Steady, 1, 1, 0..1_000);
        all.push(ack(Writer::Pinned, 1, 1, 3_000));
        all.extend(acks(Writer::Steady, 2, 2, 6_000..7_000));
        assert_eq!(outage(&all, at(980), at(7_000)).longest.seconds(), Some(5.025));
    }
}
