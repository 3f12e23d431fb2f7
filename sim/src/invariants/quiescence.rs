//! I11: with no fault and no order from an operator, no role changes and nothing is restarted (hazard C23).

use primacy_core::Event;

/// Whether a healthy cluster that is left alone may tell this.
pub fn is_quiet(event: &Event) -> bool {
    matches!(event, Event::Follows { .. } | Event::BeatMissed { .. })
}

#[cfg(test)]
mod tests {
    use super::is_quiet;
    use primacy_core::{Epoch, Event};

    #[test]
    fn an_election_is_not_quiet() {
        assert!(!is_quiet(&Event::Resumed { epoch: Epoch(1) }));
        assert!(is_quiet(&Event::Follows { source: "a".into(), epoch: Epoch(1) }));
    }
}
