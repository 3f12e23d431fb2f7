//! I2: whoever can acknowledge commits has the store's present reign behind it. A takeover that is committed before
//! the old holder's PostgreSQL is surely gone breaks it, even if nobody wrote in between.

use crate::world::World;

/// Says whose PostgreSQL is writable without its reign standing in the store.
pub fn check(world: &World) -> Option<String> {
    let reign = world.reign();
    (0u8..).zip(&world.hosts).find_map(|(host, one)| {
        if !one.awake() || !one.postgres.can_acknowledge() {
            return None;
        }
        let me = &world.setup.configs[usize::from(host)].me;
        let epoch = one.postgres.data.as_ref()?.timeline()?.epoch;
        let backed = reign
            .is_some_and(|reign| reign.holder == *me && reign.epoch == epoch && reign.released.is_none());
        (!backed).then(|| match reign {
            Some(reign) if reign.released.is_some() => {
                format!("{me} is writable in epoch {epoch}, and epoch {} was given back", reign.epoch)
            }
            Some(reign) => {
                format!("{me} is writable in epoch {epoch}, and {} holds epoch {}", reign.holder, reign.epoch)
            }
            None => format!("{me} is writable in epoch {epoch}, and nobody holds the lease"),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::super::by_hand::{led, reign};
    use super::check;
    use std::sync::Arc;

    #[test]
    fn a_writer_needs_the_reign_of_its_epoch() {
        let mut world = led();
        assert_eq!(check(&world), None);
        reign(&mut world, 2, "a");
        assert!(check(&world).is_some());
        reign(&mut world, 1, "b");
        assert!(check(&world).is_some());
    }

    #[test]
    fn a_writer_after_the_release_is_seen() {
        let mut world = led();
        let view = Arc::make_mut(&mut world.store.view);
        let at = view.reign.as_mut().unwrap();
        Arc::make_mut(&mut at.value).released = Some(primacy_core::store::Released { end: None, to: None });
        assert!(check(&world).is_some());
    }

    #[test]
    fn a_reign_that_was_taken_of_a_forgetful_store_is_one() {
        let mut world = led();
        world.record.forgotten = Some(world.store.view.clone());
        let before = Arc::make_mut(world.record.forgotten.as_mut().unwrap());
        let at = before.reign.as_mut().unwrap();
        Arc::make_mut(&mut at.value).epoch = primacy_core::Epoch(109);
        assert!(check(&world).is_some(), "the store has forgotten that reign, but nobody has taken another");
        world.record.retaken = true;
        assert_eq!(check(&world), None);
        reign(&mut world, 2, "b");
        assert!(check(&world).is_some());
    }
}
