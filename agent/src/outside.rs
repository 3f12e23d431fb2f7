//! The driver's view of everybody else: log, journal, board, mirror, operators.

use crate::board::{Board, Commands};
use crate::config::Settings;
use crate::journal::Journal;
use crate::store::mirror::Published;
use crate::{patroni, telemetry};
use primacy_core::effect::Reply;
use primacy_core::{Command, Event, Input, Node, RequestId, Time};
use primacy_driver::Outside;
use serde_json::json;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use tokio::sync::{oneshot, watch};

/// See the [module](self).
pub struct Desk {
    board: Board,
    commands: RefCell<Commands>,
    waiting: RefCell<BTreeMap<RequestId, oneshot::Sender<Reply>>>,
    last_request: Cell<u64>,
    journal: Option<Journal>,
    published: watch::Sender<Published>,
    settings: Arc<Settings>,
}

impl Desk {
    /// The desk of an agent.
    pub fn new(
        board: Board,
        commands: Commands,
        journal: Option<Journal>,
        published: watch::Sender<Published>,
        settings: Arc<Settings>,
    ) -> Desk {
        let (waiting, last_request) = (RefCell::default(), Cell::new(0));
        Desk { board, commands: RefCell::new(commands), waiting, last_request, journal, published, settings }
    }

    /// Tells it if the role is another one.
    fn tell_role(&self, before: Option<&Node>, node: &Node) {
        let (before, role) = (before.map(|node| node.role().word()), node.role().word());
        if before == Some(role) {
            return;
        }
        let sentence = match before {
            Some(before) => format!("is {role}, was {before}"),
            None => format!("is {role}"),
        };
        self.board.events.tell("role", &sentence, &json!({"role": role, "before": before}));
    }

    /// Publishes the member's state, as far as it changed.
    fn publish(&self, node: &Node, now: Time) {
        let seen = self.board.look();
        let member = patroni::member(&seen, &self.settings, now);
        let notes = seen.notes.clone();
        drop(seen);
        let reign = node.lease().and_then(|_| node.view().reign.as_ref()).map(|reign| reign.revision);
        let wanted = Published { member, reign, notes };
        self.published.send_if_modified(|known| {
            let changed = *known != wanted;
            *known = wanted;
            changed
        });
    }

    /// Writes what is still to be written, and ends what others listen to.
    pub fn close(self) {
        self.board.events.close();
        if let Some(journal) = &self.journal {
            journal.flush();
        }
    }
}

impl Outside for Desk {
    fn tell(&self, now: Time, event: &Event) {
        telemetry::tell(event);
        self.board.events.fact(event);
        if let Some(journal) = &self.journal {
            journal.event(now, event);
        }
    }

    fn reply(&self, request: RequestId, reply: Reply) {
        if let Some(waiting) = self.waiting.borrow_mut().remove(&request) {
            // Whoever asked may have gone.
            let _ = waiting.send(reply);
        }
    }

    async fn next_command(&self) -> (RequestId, Command) {
        let (command, waiting) = poll_fn(|cx| match self.commands.borrow_mut().poll_recv(cx) {
            Poll::Ready(Some(command)) => Poll::Ready(command),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        })
        .await;
        let request = RequestId(self.last_request.get() + 1);
        self.last_request.set(request.0);
        self.waiting.borrow_mut().insert(request, waiting);
        (request, command)
    }

    fn handled(&self, now: Time, input: &Input, node: &Node) {
        if let Some(journal) = &self.journal {
            journal.input(now, input);
        }
        let mut seen = self.board.look();
        let before = seen.node.replace(node.clone());
        seen.handled = now;
        drop(seen);
        self.tell_role(before.as_ref(), node);
        self.publish(node, now);
    }
}
