//! I9: a node takes WAL only from a source whose history contains its own. PostgreSQL compares numbers and places; two
//! forks with equal ones are told apart by the reigns' marks, or not at all.

use crate::world::World;

/// Says who has joined a foreign history.
pub fn check(world: &World) -> Option<String> {
    let host = world.record.misjoined?;
    Some(format!("{} took WAL of a history that isn't its own", world.setup.configs[usize::from(host)].me))
}

#[cfg(test)]
mod tests {
    use super::super::by_hand::led;
    use super::check;

    #[test]
    fn a_foreign_source_is_seen() {
        let mut world = led();
        assert_eq!(check(&world), None);
        world.record.misjoined = Some(1);
        assert!(check(&world).is_some());
    }
}
