//! I1: the times in which two instances can acknowledge commits never overlap (hazards A01–A60).

use crate::world::World;

/// Says who can write, if more than one can.
pub fn check(world: &World) -> Option<String> {
    let mut writers =
        (0u8..).zip(&world.hosts).filter(|(_, one)| one.awake() && one.postgres.can_acknowledge());
    let (first, _) = writers.next()?;
    let (second, _) = writers.next()?;
    let name = |host: u8| &world.setup.configs[usize::from(host)].me;
    Some(format!("{} and {} can both acknowledge commits", name(first), name(second)))
}

#[cfg(test)]
mod tests {
    use super::super::by_hand::{led, writable};
    use super::check;

    #[test]
    fn two_writers_are_seen_and_a_suspended_one_is_none() {
        let mut world = led();
        assert_eq!(check(&world), None);
        writable(&mut world, 1, 2);
        assert!(check(&world).is_some());
        world.host(0).suspended = true;
        assert_eq!(check(&world), None);
    }

    #[test]
    fn sessions_that_outlive_their_postmaster_count() {
        let mut world = led();
        world.host(1).postgres.orphans = true;
        assert!(check(&world).is_some());
    }
}
