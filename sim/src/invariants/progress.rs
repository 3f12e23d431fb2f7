//! I10: if all is mended and stays so, there is exactly one writable primary within a bound, and everybody else
//! streams from it. Everybody knows its own copy of the data.

use crate::world::World;
use crate::world::event::HostId;
use primacy_core::Role;

/// The primary of a healthy cluster; if it isn't healthy, what is missing.
///
/// # Errors
/// Names the first thing that isn't as it should be.
pub fn healthy(world: &World) -> Result<HostId, String> {
    let all = || (0u8..).zip(&world.hosts);
    let mut primaries = all().filter(|(host, one)| {
        one.running().is_some_and(|node| node.is_primary(world.local(*host)))
            && one.postgres.can_acknowledge()
    });
    let Some((primary, _)) = primaries.next() else {
        let roles: Vec<_> =
            world.hosts.iter().map(|one| one.node().map_or("no agent", |n| n.role().word())).collect();
        return Err(format!("nobody is a writable primary; roles: {}", roles.join(", ")));
    };
    if primaries.next().is_some() {
        return Err("there is more than one primary".into());
    }
    for (host, one) in all() {
        if one.node().is_some_and(|node| node.saved().copy != one.saved.copy) {
            let me = &world.setup.configs[usize::from(host)].me;
            return Err(format!("{me} takes its copy of the data for another one"));
        }
    }
    for (host, one) in all().filter(|(host, _)| *host != primary) {
        let me = &world.setup.configs[usize::from(host)].me;
        if !one.running().is_some_and(|node| matches!(node.role(), Role::Standby)) {
            let role = one.node().map_or("no agent", |node| node.role().word());
            return Err(format!("{me} is {role}, not a standby"));
        }
        if world.streams(host) != Some(primary) {
            return Err(format!("{me} doesn't stream from the primary"));
        }
    }
    Ok(primary)
}

#[cfg(test)]
mod tests {
    use super::super::by_hand::led;
    use super::healthy;

    #[test]
    fn a_writable_instance_without_an_agent_is_not_health() {
        assert!(healthy(&led()).unwrap_err().contains("nobody"));
    }
}
