//! I8: no copy is replaced that holds commits of the elected history which no other copy holds.

use crate::world::{World, Wrong};

/// Says who destroyed what.
pub fn check(world: &World) -> Option<String> {
    let (host, wrong) = world.record.wrong?;
    let name = &world.setup.configs[usize::from(host)].me;
    (wrong == Wrong::Destroyed)
        .then(|| format!("{name} discarded the last copy of commits that were not lost"))
}

#[cfg(test)]
mod tests {
    use super::super::by_hand::{epoch, led};
    use super::{Wrong, check};
    use primacy_core::instance::{Op, Order, Saved};
    use primacy_core::{Epoch, Lsn, Position, Time};

    fn order(left: Option<Position>) -> Order {
        let (epoch, time) = (Epoch(1), Time(9));
        Order { op: Op::SetAside, epoch, start_by: time, until: time, saved: Saved::default(), left }
    }

    #[test]
    fn the_last_copy_is_missed_and_one_of_several_is_not() {
        let mut world = led();
        epoch(&mut world, 1, None);
        world.record.acknowledged.insert((Epoch(1), 0), Lsn(5));
        world.host(0).postgres.data.as_mut().unwrap().end = Lsn(7);
        let mut shared = world.clone();
        shared.host(1).postgres.data = world.hosts[0].postgres.data.clone();
        shared.watch_discard(0, &order(None));
        assert_eq!(shared.record.wrong, None);
        world.watch_discard(0, &order(None));
        assert_eq!(world.record.wrong, Some((0, Wrong::Destroyed)));
        assert!(check(&world).is_some());
    }

    #[test]
    fn what_lies_beyond_the_elected_history_must_be_said() {
        let mut world = led();
        epoch(&mut world, 1, None);
        epoch(&mut world, 2, Some(Position { epoch: Epoch(1), lsn: Lsn(3) }));
        world.record.acknowledged.insert((Epoch(1), 0), Lsn(5));
        world.host(0).postgres.data.as_mut().unwrap().end = Lsn(7);
        world.host(1).postgres.data = world.hosts[0].postgres.data.clone();
        let said = |lsn| {
            let mut world = world.clone();
            world.watch_discard(0, &order(Some(Position { epoch: Epoch(1), lsn: Lsn(lsn) })));
            world.record.wrong.is_none()
        };
        assert!(said(3));
        assert!(!said(4), "too little");
        world.watch_discard(0, &order(None));
        assert_eq!(world.record.wrong, Some((0, Wrong::Unreported)));
    }
}
