//! Is a copy of the data contained in the elected history? Decided by ancestry, never by comparing bytes received.

use crate::instance::{Data, Saved};
use crate::store::View;
use crate::{Epoch, Lsn, Nonce, Position};
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

/// Whether this copy can follow `epoch` by streaming alone.
///
/// It can if every timeline that its WAL goes through lies on the way to `epoch`, with the nonce under which it was
/// followed, and its WAL doesn't go past the place where that way leaves its timeline. `None`: the way isn't known yet,
/// so nothing can be said.
///
/// The nonces matter: two promotions at the same place leave identical history files (hazard C01). So do the copy's own
/// timelines: a reign may be in the lineage that has sent nothing.
pub fn contains(view: &View, epoch: Epoch, saved: &Saved, data: &Data) -> Option<bool> {
    let (path, position) = (path(view, epoch)?, data.position);
    let through = data.forks.keys().filter(|timeline| **timeline <= position.epoch);
    let followed = through.map(|timeline| saved.lineage.iter().find(|(e, _)| e == timeline).copied());
    let Some(own) = followed.collect::<Option<Vec<_>>>() else { return Some(false) };
    if own.last().map(|(e, _)| *e) != Some(position.epoch) || !path.starts_with(&own) {
        return Some(false);
    }
    // A source that has sent nothing yet may have by now, so its reign mustn't pass for the elected one of its number.
    let mistaken = |(e, nonce): &(Epoch, Nonce)| path.iter().any(|(other, mark)| e == other && nonce != mark);
    if saved.lineage.iter().any(mistaken) {
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

/// Whether it is known which reign each timeline of this copy is. The place in the history of what is led from it could
/// never be verified otherwise, and nobody would follow.
pub fn is_known(saved: &Saved, data: &Data) -> bool {
    let known = |timeline: &Epoch| saved.lineage.iter().any(|(epoch, _)| epoch == timeline);
    known(&data.position.epoch)
        && data.forks.range(..=data.position.epoch).all(|(timeline, _)| known(timeline))
}

/// Adds the reigns of a way that is going to be followed: a source sends the WAL of all of them that the copy lacks,
/// also of those that came and went while it was away.
pub fn extend(lineage: &mut Vec<(Epoch, Nonce)>, path: &[(Epoch, Nonce)]) {
    let missing = path.iter().filter(|(epoch, _)| !lineage.iter().any(|(known, _)| known == epoch));
    let missing: Vec<_> = missing.copied().collect();
    lineage.extend(missing);
    lineage.sort_unstable_by_key(|(epoch, _)| *epoch);
}

/// The last place that a copy has in common with the history of `epoch`: where the one
/// leaves the other. `None` if they have no beginning in common, or the way isn't known yet.
pub fn left(view: &View, epoch: Epoch, saved: &Saved, data: &Data) -> Option<Position> {
    let path = path(view, epoch)?;
    // Not the lineage: a reign in it may have sent nothing.
    let own: Vec<(Epoch, Position)> = data.forks.iter().map(|(epoch, fork)| (*epoch, *fork)).collect();
    let steps = own.iter().zip(&path);
    let alike = steps.take_while(|((epoch, _), step)| *epoch == step.0 && saved.lineage.contains(step));
    let common = alike.count();
    let (last, _) = path.get(common.checked_sub(1)?)?;
    let theirs = path.get(common).and_then(|(next, _)| view.epochs.get(next)?.fork);
    let ours = own.get(common).map(|(_, fork)| *fork);
    let lsn = [theirs, ours].into_iter().flatten().map(|fork| fork.lsn).fold(data.position.lsn, Lsn::min);
    Some(Position { epoch: *last, lsn })
}

/// Whether `pg_rewind` tells this copy's timelines apart from those of the elected history. It knows them by their
/// numbers alone, so each of the copy's must be that of the one reign that was ever elected under it (hazard C01).
pub fn tells_apart(view: &View, saved: &Saved) -> bool {
    saved
        .lineage
        .iter()
        .all(|(epoch, nonce)| view.epochs.get(epoch).is_some_and(|known| known.nonce == *nonce))
}

/// The reigns to add to the lineage of a standby whose position is on a timeline that it wasn't ordered to follow.
///
/// PostgreSQL follows its source onto a newer timeline by itself. The source was the holder of the last reign of the
/// lineage; so the WAL is that member's own next reign, or of one whose place in the history is verified and that the
/// source follows in turn. The copy's own history file must agree. Anything else (somebody promoted by hand, say)
/// stays unknown, and makes the copy one that isn't contained.
pub fn followed(view: &View, saved: &Saved, data: &Data) -> Vec<(Epoch, Nonce)> {
    let Some((last, nonce)) = saved.lineage.last().copied() else { return Vec::new() };
    let Some(source) = view.epochs.get(&last).filter(|record| record.nonce == nonce) else {
        return Vec::new();
    };
    let newer = data.forks.iter().filter(|(epoch, _)| **epoch > last && **epoch <= data.position.epoch);
    let learnt = newer.map(|(epoch, fork)| {
        let record = view.epochs.get(epoch)?;
        let known = record.fork.map_or(record.holder == source.holder, |verified| verified == *fork);
        known.then_some((*epoch, record.nonce))
    });
    learnt.collect::<Option<_>>().unwrap_or_default()
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
                checkpointed: false,
            };
            view.put(Record::Epoch(record), Revision(u64::from(epoch)));
        }
        view
    }

    fn saved(lineage: &[(u32, u64)]) -> Saved {
        let lineage = lineage.iter().map(|(e, n)| (Epoch(*e), Nonce(*n))).collect();
        Saved { copy: CopyId(1), lineage, highest: Epoch(4), mending: false }
    }

    /// A copy at this place that went there through the elected timelines; what is above 4 comes from 4.
    fn copy(position: Position) -> Data {
        let ways = [(1, at(0, 0)), (2, at(1, 100)), (3, at(2, 140)), (4, at(2, 200)), (5, at(4, 300))];
        let passed = |epoch: u32| epoch <= position.epoch.0 && (epoch != 3 || position.epoch.0 == 3);
        let forks = ways.into_iter().filter(|(epoch, _)| passed(*epoch)).map(|(e, fork)| (Epoch(e), fork));
        Data { system: crate::SystemId(1), position, forks: alloc::sync::Arc::new(forks.collect()) }
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
        assert_eq!(contains(&view, Epoch(4), &saved(&[(1, 10)]), &copy(at(1, 100))), Some(true));
        assert_eq!(contains(&view, Epoch(4), &saved(&[(1, 10)]), &copy(at(1, 101))), Some(false));
        assert_eq!(contains(&view, Epoch(4), &saved(&[(1, 10), (2, 20)]), &copy(at(2, 200))), Some(true));
        assert_eq!(contains(&view, Epoch(4), &saved(&[(1, 10), (2, 20)]), &copy(at(2, 201))), Some(false));
        assert_eq!(
            contains(&view, Epoch(4), &saved(&[(1, 10), (2, 20), (4, 40)]), &copy(at(4, 999))),
            Some(true)
        );
    }

    #[test]
    fn an_equal_number_with_another_nonce_is_foreign() {
        assert_eq!(
            contains(&history(), Epoch(4), &saved(&[(1, 10), (2, 21)]), &copy(at(2, 150))),
            Some(false)
        );
        assert_eq!(
            contains(&history(), Epoch(4), &saved(&[(1, 10), (4, 41)]), &copy(at(4, 150))),
            Some(false)
        );
    }

    #[test]
    fn a_source_that_was_opened_but_sent_nothing_does_not_count() {
        let followed_3_in_vain = saved(&[(1, 10), (2, 20), (3, 30)]);
        assert_eq!(contains(&history(), Epoch(4), &followed_3_in_vain, &copy(at(2, 150))), Some(true));
        assert_eq!(contains(&history(), Epoch(4), &followed_3_in_vain, &copy(at(3, 150))), Some(false));
        let followed_another_4_in_vain = saved(&[(1, 10), (2, 20), (4, 41)]);
        assert_eq!(
            contains(&history(), Epoch(4), &followed_another_4_in_vain, &copy(at(2, 150))),
            Some(false)
        );
        let then_4 = saved(&[(1, 10), (2, 20), (3, 30), (4, 40)]);
        assert_eq!(contains(&history(), Epoch(4), &then_4, &copy(at(4, 250))), Some(true), "nor later on");
    }

    #[test]
    fn an_unknown_copy_is_not_contained_and_an_unknown_way_says_nothing() {
        assert_eq!(contains(&history(), Epoch(4), &saved(&[]), &copy(at(1, 1))), Some(false));
        assert_eq!(contains(&history(), Epoch(4), &saved(&[(1, 10)]), &copy(at(2, 1))), Some(false));
        assert_eq!(
            contains(&history(), Epoch(4), &saved(&[(1, 10), (2, 20), (4, 40)]), &copy(at(5, 1))),
            Some(false)
        );
        assert_eq!(contains(&history(), Epoch(3), &saved(&[(1, 10)]), &copy(at(1, 1))), None);
    }

    #[test]
    fn what_came_and_went_meanwhile_belongs_to_the_way() {
        let path = path(&history(), Epoch(4)).unwrap();
        let extended = |lineage: &[(u32, u64)]| {
            let mut lineage = saved(lineage).lineage;
            extend(&mut lineage, &path);
            lineage
        };
        assert_eq!(extended(&[(1, 10)]), path);
        assert_eq!(extended(&[(1, 10), (3, 30)]), saved(&[(1, 10), (2, 20), (3, 30), (4, 40)]).lineage);
        assert_eq!(extended(&[(1, 10), (2, 20), (4, 40)]), path);
    }

    /// A copy at 250 of the last of these timelines.
    fn data(forks: &[(u32, Position)]) -> Data {
        let position = at(forks.last().unwrap().0, 250);
        let forks = forks.iter().map(|(epoch, fork)| (Epoch(*epoch), *fork)).collect();
        Data { system: crate::SystemId(1), position, forks: alloc::sync::Arc::new(forks) }
    }

    #[test]
    fn a_timeline_that_the_source_went_on_to_is_learnt() {
        let view = history();
        let verified = data(&[(1, at(0, 0)), (2, at(1, 100)), (4, at(2, 200))]);
        let own = data(&[(1, at(0, 0)), (2, at(1, 100)), (3, at(2, 150))]);
        let on = |lineage: &[(u32, u64)], data| followed(&view, &saved(lineage), data);
        assert_eq!(on(&[(1, 10), (2, 20), (4, 40)], &verified), []);
        assert_eq!(on(&[(1, 10)], &verified), [(Epoch(2), Nonce(20)), (Epoch(4), Nonce(40))]);
        assert_eq!(
            on(&[(1, 10), (2, 20)], &own),
            [(Epoch(3), Nonce(30))],
            "the source's own, not verified yet"
        );
        assert_eq!(on(&[(1, 10)], &own), [(Epoch(2), Nonce(20)), (Epoch(3), Nonce(30))], "both");
        assert_eq!(on(&[(1, 10), (2, 21)], &verified), [], "the source was another one");
        assert_eq!(on(&[(1, 10)], &data(&[(1, at(0, 0)), (9, at(1, 90))])), [], "nobody won it");
    }

    #[test]
    fn a_copy_leaves_the_history_where_an_equal_number_bears_another_mark() {
        let copy = data(&[(1, at(0, 0)), (2, at(1, 90))]);
        let leaves = |lineage: &[(u32, u64)]| left(&history(), Epoch(4), &saved(lineage), &copy);
        assert_eq!(leaves(&[(1, 10), (2, 20)]), Some(at(2, 200)));
        assert_eq!(leaves(&[(1, 10), (2, 21)]), Some(at(1, 90)));
        assert_eq!(leaves(&[(1, 11), (2, 20)]), None);
    }

    #[test]
    fn a_timeline_of_the_right_number_that_forked_elsewhere_is_not_learnt() {
        let by_hand = data(&[(1, at(0, 0)), (2, at(1, 100)), (4, at(2, 199))]);
        assert_eq!(followed(&history(), &saved(&[(1, 10), (2, 20)]), &by_hand), []);
    }

    #[test]
    fn another_members_reign_is_learnt_only_once_it_is_verified() {
        let mut view = history();
        let record = EpochRecord {
            epoch: Epoch(5),
            holder: "b".into(),
            nonce: Nonce(50),
            fork: None,
            checkpointed: false,
        };
        view.put(Record::Epoch(record), Revision(9));
        let copy = data(&[(1, at(0, 0)), (2, at(1, 100)), (5, at(2, 200))]);
        assert_eq!(followed(&view, &saved(&[(1, 10), (2, 20)]), &copy), []);
    }

    #[test]
    fn a_record_that_forks_from_its_own_future_is_no_way() {
        let mut view = history();
        let record = EpochRecord {
            epoch: Epoch(5),
            holder: "a".into(),
            nonce: Nonce(50),
            fork: Some(at(5, 300)),
            checkpointed: false,
        };
        view.put(Record::Epoch(record), Revision(9));
        assert_eq!(path(&view, Epoch(5)), None);
    }
}
