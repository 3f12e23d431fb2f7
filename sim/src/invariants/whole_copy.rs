//! I14: whatever is interrupted leads back to a legal state. Nothing half-made is ever started, nothing stands for
//! election that can't be promoted yet, and no copy of the data bears the mark of another one.

use crate::world::postgres::Process;
use crate::world::{World, Wrong};

/// Says who runs what isn't whole, or isn't itself.
pub fn check(world: &World) -> Option<String> {
    let name = |host: usize| &world.setup.configs[host].me;
    match world.record.wrong {
        Some((host, Wrong::SameMark)) => {
            return Some(format!("{}'s new copy bears the mark of another", name(usize::from(host))));
        }
        Some((host, Wrong::Unready)) => {
            return Some(format!("{} stands and still replays its WAL", name(usize::from(host))));
        }
        Some(_) | None => {}
    }
    let runs_torn = world.hosts.iter().position(|one| {
        one.postgres.process != Process::Down && one.postgres.data.as_ref().is_some_and(|data| data.torn)
    });
    runs_torn.map(|host| format!("{} runs on pages of two histories", name(host)))
}

#[cfg(test)]
mod tests {
    use super::super::by_hand::led;
    use super::{Wrong, check};
    use primacy_core::Epoch;
    use primacy_core::event::Right;

    #[test]
    fn a_torn_copy_may_lie_there_but_not_run() {
        let mut world = led();
        assert_eq!(check(&world), None);
        world.host(1).postgres.data = world.hosts[0].postgres.data.clone().map(|mut data| {
            data.torn = true;
            data
        });
        assert_eq!(check(&world), None);
        world.host(0).postgres.data = world.hosts[1].postgres.data.clone();
        assert!(check(&world).is_some());
    }

    #[test]
    fn a_mark_that_is_used_twice_is_seen() {
        let mut world = led();
        world.record.wrong = Some((1, Wrong::SameMark));
        assert!(check(&world).is_some());
        world.record.wrong = Some((1, Wrong::Short));
        assert_eq!(check(&world), None);
    }
    #[test]
    fn a_candidate_that_still_replays_is_seen() {
        let mut world = led();
        world.watch_candidate(0, Epoch(2), Right::Leader);
        assert_eq!(check(&world), None);
        world.host(0).postgres.replays = true;
        world.watch_candidate(0, Epoch(2), Right::Leader);
        assert!(check(&world).is_some());
    }
}
