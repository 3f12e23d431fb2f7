//! I14: whatever is interrupted leads back to a legal state. Nothing half-made is ever started, and no copy of the data
//! bears the mark of another one.

use crate::world::postgres::Process;
use crate::world::{World, Wrong};

/// Says who runs what isn't whole, or isn't itself.
pub fn check(world: &World) -> Option<String> {
    let name = |host: usize| &world.setup.configs[host].me;
    if let Some((host, Wrong::SameMark)) = world.record.wrong {
        return Some(format!("{}'s new copy bears the mark of another", name(usize::from(host))));
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
}
