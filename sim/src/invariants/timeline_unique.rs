//! I7: no second promotion uses the number of a timeline that was ever written (hazard C01).

use crate::world::World;

/// Says which number was used twice.
pub fn check(world: &World) -> Option<String> {
    world.record.reused.map(|epoch| format!("timeline {epoch} was promoted twice"))
}

#[cfg(test)]
mod tests {
    use super::super::by_hand::led;
    use super::check;

    #[test]
    fn a_number_used_twice_is_seen() {
        let mut world = led();
        assert_eq!(check(&world), None);
        world.record.reused = Some(primacy_core::Epoch(3));
        assert!(check(&world).is_some());
    }
}
