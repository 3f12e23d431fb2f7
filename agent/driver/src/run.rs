//! The loop.

use crate::lanes::Lanes;
use crate::{Clock, Outside, Postgres, Store};
use primacy_core::{Effect, Node};

/// The end of an agent's life, in order: its PostgreSQL has stopped and it holds no lease.
#[derive(Debug)]
pub struct Exit {
    /// The node as it was at the end.
    pub node: Node,
}

/// Runs a node until it has stopped in order. May be dropped at any time, which is a crash of the agent.
pub async fn run<C, S, P, O>(mut node: Node, clock: &C, store: &S, postgres: &P, outside: &O) -> Exit
where
    C: Clock,
    S: Store,
    P: Postgres,
    O: Outside,
{
    let mut lanes = Lanes::new(clock, store, postgres, outside);
    let mut now = clock.now();
    loop {
        // Counted from the last input: a timer that fell due since then must not be missed.
        lanes.wake_at(node.deadline(now).map(|(time, _)| time));
        let input = lanes.next().await;
        now = clock.now();
        tracing::trace!(?now, ?input, "input");
        let effects = node.handle(now, input.clone());
        outside.handled(now, &input, &node);
        let mut exit = false;
        for effect in effects {
            match effect {
                Effect::Store { id, until, request } => lanes.ask(id, until, request),
                Effect::Postgres(id, order) => lanes.order(id, order),
                Effect::Arm { epoch, until } => lanes.arm(epoch, until),
                Effect::Reply(request, reply) => outside.reply(request, reply),
                Effect::Tell(event) => outside.tell(now, &event),
                Effect::Exit => exit = true,
            }
        }
        if exit {
            return Exit { node };
        }
    }
}
