//! The records of a cluster whose store was wiped, or restored from an old backup, made anew from one member's copy of
//! the data (hazards E05, A43). A person says which copy counts, after all agents have been stopped: no node can know
//! that by itself.

use crate::instance::{Data, Saved};
use crate::node::UNORDERED;
use crate::store::{Beat, EpochRecord, Initialize, Record, Reign, Released, Rule, View};
use crate::{Boot, Epoch, MachineId, Name, Nonce, Span};
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

/// So many reigns may have been that the member never heard of. No number of theirs is given twice.
pub const MARGIN: u32 = 100;

/// What must be in the store, beside what `view` has: the way to the copy's timeline, a reign beyond all that can have been and
/// given back, and a rule that lets just this copy begin the next one. `None` if nobody can say which reigns the copy's
/// timelines belong to, as after a promotion by hand.
pub fn records(
    view: &View,
    me: &Name,
    saved: &Saved,
    data: &Data,
    ttl: Span,
    mark: Nonce,
) -> Option<Vec<Record>> {
    let position = data.position;
    let step = |(epoch, fork): (&Epoch, &_)| {
        let (_, nonce) = saved.lineage.iter().find(|(known, nonce)| known == epoch && *nonce != UNORDERED)?;
        // Who led then isn't known any more.
        let (epoch, holder) = (*epoch, Name::from(""));
        Some(Record::Epoch(EpochRecord {
            epoch,
            holder,
            nonce: *nonce,
            fork: Some(*fork),
            checkpointed: true,
        }))
    };
    let mut records = data.forks.range(..=position.epoch).map(step).collect::<Option<Vec<_>>>()?;
    if !data.forks.contains_key(&position.epoch) || saved.lineage.iter().any(|(_, nonce)| *nonce == UNORDERED)
    {
        return None;
    }
    let named = view.reign.as_ref().map_or(Epoch(0), |reign| reign.epoch);
    let recorded = view.epochs.last_key_value().map_or(Epoch(0), |(epoch, _)| *epoch);
    let highest = saved.highest.max(position.epoch).max(named).max(recorded);
    let epoch = Epoch(highest.0.checked_add(MARGIN)?);
    let (by, boot, holder) = (me.clone(), Boot(0), me.clone());
    let released = Some(Released { end: None, to: None });
    records.extend(vec![
        Record::Initialize(Initialize { by, boot, system: Some(data.system), foreign: false }),
        Record::Reign(Reign { epoch, holder, boot, machine: MachineId(0), nonce: mark, ttl, released }),
        Record::Beat(Beat { epoch, end: position.lsn }),
        Record::Rule(Rule {
            epoch: position.epoch,
            leader: me.clone(),
            leader_copy: saved.copy,
            electable: BTreeMap::new(),
        }),
    ]);
    Some(records)
}
