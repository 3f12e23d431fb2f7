//! Whether what was lost is what asynchronous standbys may lose.
//!
//! A reign is a timeline. A new primary that was elected after a lapse may lack the last rows of the reigns before it,
//! and nothing else: no row may be missing that was acknowledged before another one was sent that is there. A primary
//! that was handed the lease, or went on by itself, lacks nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::client::{Ack, Missing};
use crate::network::Host;
use crate::time::Moment;

/// How a node became the holder of an epoch, as its agent logged it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taking {
    /// Which epoch; its rows are written on the timeline of the same number.
    pub epoch: u32,
    /// Who.
    pub host: Host,
    /// By which right it stood: `handed_over`, `leader`, `listed`, or `first`.
    pub right: String,
}

/// The rows lost of one reign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tail {
    /// Which reign.
    pub epoch: u32,
    /// Who had acknowledged them.
    pub host: Host,
    /// How many.
    pub rows: usize,
    /// When the first of them was acknowledged.
    pub from: Moment,
    /// And the last.
    pub to: Moment,
    /// Where in the WAL the first and the last of them lie.
    pub positions: (u64, u64),
    /// The election after which they were gone, if it was one that may lose rows.
    pub lapse: Option<Taking>,
    /// How many of them were acknowledged before a row of the same reign was sent that is there.
    pub holes: usize,
}

impl Tail {
    /// What about it must not be.
    pub fn problem(&self) -> Option<String> {
        let Tail { epoch, host, rows, holes, .. } = self;
        if *holes > 0 {
            let which = format!("{holes} of {rows} rows lost that {host} had acknowledged in epoch {epoch}");
            return Some(format!("{which} come before a row that is there"));
        }
        let which = format!("{rows} rows lost that {host} had acknowledged in epoch {epoch}");
        self.lapse.is_none().then(|| format!("{which}, which no lapse has ended"))
    }
}

/// The rows lost of each reign. `takings` tells how later reigns began.
pub fn tails(acks: &[Ack], missing: &Missing, takings: &[Taking]) -> Vec<Tail> {
    let mut reigns: BTreeMap<u32, (Vec<&Ack>, Option<Moment>)> = BTreeMap::new();
    for ack in acks {
        let (lost, last_kept) = reigns.entry(ack.timeline).or_default();
        match missing.contains(&ack.id) {
            true => lost.push(ack),
            false => *last_kept = (*last_kept).max(Some(ack.sent)),
        }
    }
    let with_loss = reigns.iter().filter(|(_, (lost, _))| !lost.is_empty());
    let tail = |(epoch, (lost, last_kept)): (&u32, &(Vec<&Ack>, Option<Moment>))| {
        // The next reign of which something is left: its history is what all after it built upon.
        let next = reigns.range(epoch + 1..).find(|(_, (_, kept))| kept.is_some()).map(|(next, _)| *next);
        let until = next.unwrap_or(u32::MAX);
        let between = |taking: &&Taking| taking.epoch > *epoch && taking.epoch <= until;
        let lapse = takings.iter().filter(between).find(|taking| taking.right == "listed");
        let times = || lost.iter().map(|ack| ack.acked);
        let positions = || lost.iter().map(|ack| ack.position);
        Tail {
            epoch: *epoch,
            host: lost[0].host,
            rows: lost.len(),
            from: times().min().unwrap_or_default(),
            to: times().max().unwrap_or_default(),
            positions: (positions().min().unwrap_or_default(), positions().max().unwrap_or_default()),
            lapse: lapse.cloned(),
            holes: lost.iter().filter(|ack| last_kept.is_some_and(|sent| ack.acked <= sent)).count(),
        }
    };
    with_loss.map(tail).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Writer;
    use crate::judge::example::{ack, acks};

    fn taking(epoch: u32, host: u8, right: &str) -> Taking {
        Taking { epoch, host: Host(host), right: right.into() }
    }

    /// A reign of h1 up to 1,000 ms and one of h2 from 3,000 ms on.
    fn two_reigns() -> Vec<Ack> {
        let mut all = acks(Writer::Steady, 1, 1, 0..1_000);
        all.extend(acks(Writer::Steady, 2, 2, 3_000..4_000));
        all
    }

    #[test]
    fn the_last_rows_may_be_lost_after_a_lapse() {
        let found = tails(&two_reigns(), &Missing::from([950, 975]), &[taking(2, 2, "listed")]);
        assert_eq!((found.len(), found[0].epoch, found[0].rows, found[0].holes), (1, 1, 2, 0));
        assert_eq!(found[0].problem(), None);
    }

    #[test]
    fn nothing_may_be_lost_by_a_handover_or_a_restart_in_place() {
        for right in ["handed_over", "leader", "first"] {
            let found = tails(&two_reigns(), &Missing::from([975]), &[taking(2, 2, right)]);
            let expected = "1 rows lost that h1 had acknowledged in epoch 1, which no lapse has ended";
            assert_eq!(found[0].problem().as_deref(), Some(expected), "{right}");
        }
    }

    #[test]
    fn a_hole_is_found() {
        let found = tails(&two_reigns(), &Missing::from([900, 975]), &[taking(2, 2, "listed")]);
        let expected = "1 of 2 rows lost that h1 had acknowledged in epoch 1 come before a row that is there";
        assert_eq!(found[0].problem().as_deref(), Some(expected));
    }

    #[test]
    fn rows_under_way_at_the_same_time_have_no_order() {
        let mut all = two_reigns();
        let kept = Ack { id: 1, sent: Moment(974_500), ..ack(Writer::Pinned, 1, 1, 980) };
        all.push(kept);
        let lost = Missing::from([975]);
        assert_eq!(tails(&all, &lost, &[taking(2, 2, "listed")])[0].holes, 0);
        all.push(Ack { id: 2, sent: Moment(975_500), ..kept });
        assert_eq!(tails(&all, &lost, &[taking(2, 2, "listed")])[0].holes, 1);
    }

    #[test]
    fn the_running_reign_loses_nothing() {
        let found = tails(&two_reigns(), &Missing::from([3_975]), &[taking(2, 2, "listed")]);
        assert!(found[0].problem().is_some());
    }

    #[test]
    fn a_reign_may_vanish_whole_with_the_end_of_the_one_before() {
        let mut all = two_reigns();
        all.extend(acks(Writer::Steady, 3, 3, 6_000..7_000));
        let lost: Missing = (3_000..4_000).step_by(25).chain([975]).collect();
        let takings = [taking(2, 2, "handed_over"), taking(3, 3, "listed")];
        let found = tails(&all, &lost, &takings);
        assert_eq!(found.iter().map(Tail::problem).collect::<Vec<_>>(), [None, None]);
        // What the second reign has kept shows that it was built upon the whole of the first.
        let found = tails(&all, &Missing::from([975]), &takings);
        assert!(found[0].problem().is_some());
    }
}
