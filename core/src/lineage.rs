//! Is a copy of the data contained in the elected history? Decided by ancestry, never by comparing bytes received.

use crate::instance::Saved;
use crate::store::View;
use crate::{Epoch, Nonce, Position};
use alloc::vec::Vec;

/// The verified way from the first timeline to that of `epoch`, oldest first; none if a step is missing or not
/// verified yet.
pub fn path(view: &View, epoch: Epoch) -> Option<Vec<(Epoch, Nonce)>> {
    let mut steps = Vec::new();
    let mut at = epoch;
    while at != Epoch(0) {
        let record = view.epochs.get(&at)?;
        let fork = record.fork?;
        if fork.epoch >= at {
            return None;
        }
        steps.push((at, record.nonce));
        at = fork.epoch;
    }
    steps.reverse();
    Some(steps)
}

/// Whether a copy at `position` with this lineage can follow `epoch` by streaming alone.
///
/// It can if every reign it has followed lies on the way to `epoch`, with equal nonces, and its WAL doesn't go past
/// the place where that way leaves its timeline. `None`: the way isn't known yet, so nothing can be said.
///
/// The nonces matter: two promotions at the same place leave identical history files (hazard C01).
pub fn contains(view: &View, epoch: Epoch, saved: &Saved, position: Position) -> Option<bool> {
    let path = path(view, epoch)?;
    let written = saved.lineage.iter().take_while(|(e, _)| *e <= position.epoch);
    let own: Vec<_> = written.copied().collect();
    if own.is_empty() || own.last().map(|(e, _)| *e) != Some(position.epoch) {
        return Some(false);
    }
    if !path.starts_with(&own) {
        return Some(false);
    }
    Some(match path.get(own.len()) {
        None => true,
        Some((next, _)) => {
            let fork = view.epochs.get(next).and_then(|record| record.fork);
            fork.is_some_and(|fork| fork.epoch == position.epoch && position.lsn <= fork.lsn)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{EpochRecord, Record};
    use crate::{CopyId, Lsn, Revision};

    fn at(epoch: u32, lsn: u64) -> Position {
        Position { epoch: Epoch(epoch), lsn: Lsn(lsn) }
    }

    /// Epochs 1 → 2 (at 100) → 4 (at 200); epoch 3 was won but never promoted.
    fn history() -> View {
        let mut view = View::default();
        let records = [(1, Some(at(0, 0))), (2, Some(at(1, 100))), (3, None), (4, Some(at(2, 200)))];
        for (epoch, fork) in records {
            let record = EpochRecord {
                epoch: Epoch(epoch),
                holder: "a".into(),
                nonce: Nonce(u64::from(epoch) * 10),
                fork,
            };
            view.put(Record::Epoch(record), Revision(u64::from(epoch)));
        }
        view
    }

    fn saved(lineage: &[(u32, u64)]) -> Saved {
        let lineage = lineage.iter().map(|(e, n)| (Epoch(*e), Nonce(*n))).collect();
        Saved { copy: CopyId(1), lineage, highest: Epoch(4) }
    }

    #[test]
    fn the_path_skips_reigns_that_were_never_promoted() {
        let steps = [(Epoch(1), Nonce(10)), (Epoch(2), Nonce(20)), (Epoch(4), Nonce(40))];
        assert_eq!(path(&history(), Epoch(4)), Some(steps.to_vec()));
        assert_eq!(path(&history(), Epoch(3)), None);
        assert_eq!(path(&history(), Epoch(9)), None);
    }

    #[test]
    fn a_copy_up_to_the_fork_is_contained_and_one_byte_more_is_not() {
        let view = history();
        assert_eq!(contains(&view, Epoch(4), &saved(&[(1, 10)]), at(1, 100)), Some(true));
        assert_eq!(contains(&view, Epoch(4), &saved(&[(1, 10)]), at(1, 101)), Some(false));
        assert_eq!(contains(&view, Epoch(4), &saved(&[(1, 10), (2, 20)]), at(2, 200)), Some(true));
        assert_eq!(contains(&view, Epoch(4), &saved(&[(1, 10), (2, 20)]), at(2, 201)), Some(false));
        assert_eq!(contains(&view, Epoch(4), &saved(&[(1, 10), (2, 20), (4, 40)]), at(4, 999)), Some(true));
    }

    #[test]
    fn an_equal_number_with_another_nonce_is_foreign() {
        assert_eq!(contains(&history(), Epoch(4), &saved(&[(1, 10), (2, 21)]), at(2, 150)), Some(false));
        assert_eq!(contains(&history(), Epoch(4), &saved(&[(1, 10), (4, 41)]), at(4, 150)), Some(false));
    }

    #[test]
    fn a_source_that_was_opened_but_sent_nothing_does_not_count() {
        let followed_3_in_vain = saved(&[(1, 10), (2, 20), (3, 30)]);
        assert_eq!(contains(&history(), Epoch(4), &followed_3_in_vain, at(2, 150)), Some(true));
        assert_eq!(contains(&history(), Epoch(4), &followed_3_in_vain, at(3, 150)), Some(false));
    }

    #[test]
    fn an_unknown_copy_is_not_contained_and_an_unknown_way_says_nothing() {
        assert_eq!(contains(&history(), Epoch(4), &saved(&[]), at(1, 1)), Some(false));
        assert_eq!(contains(&history(), Epoch(4), &saved(&[(1, 10)]), at(2, 1)), Some(false));
        assert_eq!(contains(&history(), Epoch(3), &saved(&[(1, 10)]), at(1, 1)), None);
    }

    #[test]
    fn a_record_that_forks_from_its_own_future_is_no_way() {
        let mut view = history();
        let record =
            EpochRecord { epoch: Epoch(5), holder: "a".into(), nonce: Nonce(50), fork: Some(at(5, 300)) };
        view.put(Record::Epoch(record), Revision(9));
        assert_eq!(path(&view, Epoch(5)), None);
    }
}
