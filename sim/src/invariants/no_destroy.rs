//! I8: no copy is replaced that holds commits of the elected history which no other copy holds; and none that is part of
//! that history as it is, whoever else holds the same.

use crate::world::{World, Wrong};

/// Says who destroyed what.
pub fn check(world: &World) -> Option<String> {
    let (host, wrong) = world.record.wrong?;
    let name = &world.setup.configs[usize::from(host)].me;
    match wrong {
        Wrong::Destroyed => Some(format!("{name} discarded the last copy of commits that were not lost")),
        Wrong::Needless => Some(format!("{name} discarded a copy that could have followed as it was")),
        Wrong::Unreported
        | Wrong::Short
        | Wrong::SameMark
        | Wrong::Unready
        | Wrong::Unasked
        | Wrong::TooShort => None,
    }
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
        epoch(&mut world, 2, Some(Position { epoch: Epoch(1), lsn: Lsn(6) }));
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
    fn a_copy_that_could_follow_is_missed_though_others_hold_the_same() {
        let mut world = led();
        epoch(&mut world, 1, None);
        epoch(&mut world, 2, Some(Position { epoch: Epoch(1), lsn: Lsn(7) }));
        world.host(1).postgres.data = world.hosts[0].postgres.data.clone();
        let discarded_at = |end| {
            let mut world = world.clone();
            world.host(1).postgres.data.as_mut().unwrap().end = Lsn(end);
            world.watch_discard(1, &order(None));
            (world.record.wrong, check(&world).is_some())
        };
        assert_eq!(discarded_at(7), (Some((1, Wrong::Needless)), true));
        assert_eq!(discarded_at(8), (None, false), "it went beyond");
        assert_eq!(discarded_at(0), (None, false), "there is nothing in it");
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
