//! I10: a primary that does nothing any more doesn't keep the lease for long, if another member may lead (hazard A08).

use crate::world::World;
use primacy_core::{Role, Span};

/// What a late agent, and an order that it has to wait for, may take.
const GRACE: Span = Span::secs(3);

/// Says whose PostgreSQL hangs, and for how long, while it keeps the lease.
pub fn check(world: &World) -> Option<String> {
    (0u8..).zip(&world.hosts).find_map(|(host, one)| {
        let hangs = one.postgres.hangs() && one.postgres.process != crate::world::postgres::Process::Down;
        let node = one.running().filter(|_| hangs)?;
        let (lease, config) = (node.lease()?, node.config());
        let rule = node.view().rule.as_ref().filter(|rule| rule.epoch == lease.epoch)?;
        if config.health_age == Span::ZERO || rule.electable.is_empty() {
            return None;
        }
        // What can't be killed keeps the lease until it lapses.
        let until = match node.role() {
            Role::Primary(_) => config.health_age + GRACE,
            _ => config.health_age + GRACE + config.ttl,
        };
        let lasts = Span(world.now.saturating_sub(one.postgres.hangs_since));
        let me = &world.setup.configs[usize::from(host)].me;
        (lasts > until)
            .then(|| format!("{me} holds epoch {}, and its PostgreSQL has hung for {lasts}", lease.epoch))
    })
}

#[cfg(test)]
mod tests {
    use super::super::by_hand::led;
    use super::check;

    #[test]
    fn without_an_agent_nobody_keeps_a_lease() {
        let mut world = led();
        world.host(0).postgres.stopped = true;
        world.now = 100_000_000;
        assert_eq!(check(&world), None);
    }
}
