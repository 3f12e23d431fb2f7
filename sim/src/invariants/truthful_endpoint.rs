//! I12: whoever answers "primary" to a health check has the authority at that moment (hazards A35–A38).

use crate::world::World;

/// Says who calls itself the primary without being it.
pub fn check(world: &World) -> Option<String> {
    let claims = (0u8..)
        .zip(&world.hosts)
        .filter(|(host, one)| one.running().is_some_and(|node| node.is_primary(world.local(*host))));
    let reign = world.reign();
    for (host, one) in claims {
        let me = &world.setup.configs[usize::from(host)].me;
        let epoch = one.node().and_then(|node| node.lease()).map(|lease| lease.epoch);
        if !reign.is_some_and(|reign| reign.holder == *me && Some(reign.epoch) == epoch) {
            return Some(format!("{me} calls itself the primary, and the store says otherwise"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::by_hand::led;
    use super::check;

    #[test]
    fn a_world_without_agents_says_nothing() {
        assert_eq!(check(&led()), None);
    }
}
