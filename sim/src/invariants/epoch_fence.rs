//! I3: an epoch has one owner: no two nodes believe to hold the same one, and nobody holds one that the store has
//! never given. What a node still believes when its authority is over, asleep or waiting for the store, harms nobody.

use crate::world::World;

/// Says which epoch has two owners, or which was never given.
pub fn check(world: &World) -> Option<String> {
    let given = world.reign().map_or(primacy_core::Epoch(0), |reign| reign.epoch);
    let mut owners = (0u8..).zip(&world.hosts).filter_map(|(host, one)| {
        let lease = one.node()?.lease().filter(|lease| world.local(host) < lease.authority)?;
        Some((host, lease.epoch, lease.nonce))
    });
    let first = owners.next()?;
    let beyond =
        |epoch: primacy_core::Epoch| (epoch > given).then(|| format!("epoch {epoch} was never given"));
    let mut known = vec![first];
    if let Some(what) = beyond(first.1) {
        return Some(what);
    }
    for (host, epoch, nonce) in owners {
        if let Some(what) = beyond(epoch) {
            return Some(what);
        }
        if known.iter().any(|(_, other, _)| *other == epoch) {
            return Some(format!("epoch {epoch} has two owners, the second is host {host} with {nonce}"));
        }
        known.push((host, epoch, nonce));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::by_hand::led;
    use super::check;

    #[test]
    fn nobody_owns_anything_at_first() {
        assert_eq!(check(&led()), None);
    }
}
