//! One step of a world: the relation that the search and the explorer share.

use crate::canon::canonicalise;
use primacy_sim::world::event::Event;
use primacy_sim::world::{Trail, World};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A step that was taken.
pub struct Step<'a> {
    /// The world before it.
    pub before: &'a World,
    /// What happened.
    pub event: &'a Event,
    /// The world after it.
    pub after: &'a World,
    /// What else has come of it.
    pub trail: &'a Trail,
}

/// What came of an event.
pub enum Next {
    /// A world.
    World(Box<World>, Trail),
    /// It could not happen.
    Nothing,
    /// A node has found itself in a state that must not be, and says so.
    Assertion(String),
}

/// Lets an event happen.
pub fn next(before: &World, event: &Event) -> Next {
    let step = || {
        let (mut after, mut trail) = (Box::new(before.clone()), Trail::default());
        let happened = after.apply(event, &mut trail);
        after.spend(event);
        canonicalise(&mut after);
        happened.then_some((after, trail))
    };
    match guarded(step) {
        Ok(Some((after, trail))) => Next::World(after, trail),
        Ok(None) => Next::Nothing,
        Err(what) => Next::Assertion(what),
    }
}

/// Does it; if an assertion fails on the way, says what was asserted.
pub fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words").to_owned()
    })
}
