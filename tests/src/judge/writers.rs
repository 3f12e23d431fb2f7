//! Whether two nodes acknowledged writes at the same time (invariant I1, for a cluster without synchronous standbys).
//!
//! Each promotion opens a new timeline, so acknowledgements are grouped by it. Once the first row of a timeline is
//! acknowledged, no row of an older one may be acknowledged any more, by any node; and on one timeline only one node
//! may acknowledge at all.
//!
//! In a cluster that waits for standbys, an old primary may still report a commit that the new one has: then only
//! acknowledgements of rows that are missing in the end count.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::client::Ack;
use crate::network::Host;
use crate::time::Moment;

/// An acknowledgement that shows a second writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// The acknowledgement that came too late, or from a second node.
    pub host: Host,
    /// Its timeline.
    pub timeline: u32,
    /// When it came.
    pub acked: Moment,
    /// Who could write already.
    pub against: Host,
    /// On which timeline.
    pub newer: u32,
    /// Since when, at the latest.
    pub since: Moment,
    /// Whether the row was even sent after that, so that no delay of the client's explains it.
    pub sent_after: bool,
}

/// All acknowledgements that show a second writer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TwoWriters {
    /// How many.
    pub instants: usize,
    /// Over how long, in seconds: from the first moment both could write to the last late acknowledgement.
    pub seconds: f64,
    /// The first few.
    pub examples: Vec<Violation>,
}

/// Looks for two writers among all acknowledgements, of which those that `counts` says yes to may be violations.
pub fn two_writers(acks: &[Ack], counts: impl Fn(&Ack) -> bool) -> TwoWriters {
    let firsts = first_of_timelines(acks);
    let late = acks.iter().filter(|ack| counts(ack));
    let mut found: Vec<Violation> = late.filter_map(|ack| violation(ack, &firsts)).collect();
    found.sort_by_key(|violation| violation.acked);
    let first = found.iter().map(|violation| violation.since).min();
    let seconds = first.zip(found.last()).map_or(0.0, |(first, last)| last.acked.since(first));
    TwoWriters { instants: found.len(), seconds, examples: found.into_iter().take(5).collect() }
}

/// The first acknowledgement of each timeline.
fn first_of_timelines(acks: &[Ack]) -> BTreeMap<u32, Ack> {
    let mut firsts: BTreeMap<u32, Ack> = BTreeMap::new();
    for ack in acks {
        let first = firsts.entry(ack.timeline).or_insert(*ack);
        if ack.acked < first.acked {
            *first = *ack;
        }
    }
    firsts
}

fn violation(ack: &Ack, firsts: &BTreeMap<u32, Ack>) -> Option<Violation> {
    let too_late = |first: &&Ack| first.timeline > ack.timeline && first.acked < ack.acked;
    let newer = firsts.values().filter(too_late).min_by_key(|first| first.acked);
    let rival = firsts.get(&ack.timeline).filter(|first| first.host != ack.host);
    let against = newer.or(rival)?;
    Some(Violation {
        host: ack.host,
        timeline: ack.timeline,
        acked: ack.acked,
        against: against.host,
        newer: against.timeline,
        since: against.acked,
        sent_after: ack.sent > against.acked,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Writer;
    use crate::judge::example::{ack, acks};

    #[test]
    fn one_after_the_other_is_no_violation() {
        let mut all = acks(Writer::Steady, 1, 1, 0..1_000);
        all.extend(acks(Writer::Pinned, 1, 1, 5..1_005));
        all.extend(acks(Writer::Steady, 2, 2, 3_000..4_000));
        all.extend(acks(Writer::Pinned, 2, 2, 3_005..4_005));
        assert_eq!(two_writers(&all, |_| true), TwoWriters::default());
    }

    #[test]
    fn a_restart_in_place_keeps_its_timeline_and_is_no_violation() {
        let mut all = acks(Writer::Steady, 1, 1, 0..1_000);
        all.extend(acks(Writer::Pinned, 1, 1, 2_000..3_000));
        assert_eq!(two_writers(&all, |_| true).instants, 0);
    }

    #[test]
    fn a_cut_off_primary_that_goes_on_is_a_violation() {
        let mut all = acks(Writer::Steady, 2, 2, 3_000..4_000);
        all.extend(acks(Writer::Pinned, 1, 1, 2_000..3_500));
        let found = two_writers(&all, |_| true);
        assert_eq!(found.instants, 19);
        let first = found.examples[0];
        assert_eq!((first.host, first.against, first.since), (Host(1), Host(2), Moment(3_000_000)));
        assert_eq!(first.acked, Moment(3_025_000));
        assert!(first.sent_after && (found.seconds - 0.475).abs() < 1e-9);
    }

    #[test]
    fn with_standbys_to_wait_for_only_lost_rows_count() {
        let all =
            [ack(Writer::Steady, 2, 2, 100), ack(Writer::Pinned, 1, 1, 150), ack(Writer::Pinned, 1, 1, 160)];
        assert_eq!(two_writers(&all, |ack| ack.id == 160).instants, 1);
        assert_eq!(two_writers(&all, |_| false).instants, 0);
    }

    #[test]
    fn a_single_late_acknowledgement_is_enough() {
        let all = [ack(Writer::Steady, 2, 2, 100), ack(Writer::Pinned, 1, 1, 101)];
        let found = two_writers(&all, |_| true);
        assert_eq!(found.instants, 1);
        assert!(!found.examples[0].sent_after, "it was sent at the moment of the other's acknowledgement");
    }

    #[test]
    fn two_nodes_on_one_timeline_are_a_violation_at_any_time() {
        let mut all = acks(Writer::Steady, 1, 2, 0..1_000);
        all.push(ack(Writer::Steady, 2, 2, 5_000));
        assert_eq!(two_writers(&all, |_| true).instants, 1);
    }

    #[test]
    fn a_third_timeline_convicts_the_first_by_the_second() {
        let mut all = vec![ack(Writer::Steady, 2, 2, 100), ack(Writer::Steady, 3, 3, 200)];
        all.push(ack(Writer::Pinned, 1, 1, 300));
        let found = two_writers(&all, |_| true);
        assert_eq!((found.instants, found.examples[0].against), (1, Host(2)));
    }
}
