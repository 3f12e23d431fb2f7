//! I6: asynchronous replication may lose what was not received, but never without saying so; and a reign that was handed
//! over in order loses nothing. Nobody leads unasked that lacks more than may be lost.

use crate::world::{World, Wrong};

/// Says whose commits are gone in silence.
pub fn check(world: &World) -> Option<String> {
    let (host, wrong) = world.record.wrong?;
    let name = &world.setup.configs[usize::from(host)].me;
    match wrong {
        Wrong::Unreported => Some(format!("{name} discarded acknowledged commits and didn't say so")),
        Wrong::Short => Some(format!("{name} was handed a reign, and lacks commits of the one before")),
        Wrong::TooShort => Some(format!("{name} stands though it lacks more than may be lost")),
        Wrong::Unasked => Some(format!("{name} acts at a loss that no operator has accepted")),
        Wrong::Destroyed | Wrong::Needless | Wrong::SameMark | Wrong::Unready => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::by_hand::led;
    use super::{Wrong, check};

    #[test]
    fn losses_in_silence_are_seen() {
        let mut world = led();
        assert_eq!(check(&world), None);
        for (wrong, seen) in [
            (Wrong::Unreported, true),
            (Wrong::Short, true),
            (Wrong::TooShort, true),
            (Wrong::SameMark, false),
        ] {
            world.record.wrong = Some((1, wrong));
            assert_eq!(check(&world).is_some(), seen, "{wrong:?}");
        }
    }
}
