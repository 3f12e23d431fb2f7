//! The client on a node that tries to write to that node alone.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tokio_postgres::config::TargetSessionAttrs;

use super::session::{Failure, Session};
use super::{Shared, WRITE_EVERY, Writer};
use crate::network::Host;

/// Between two attempts to connect.
const CONNECT_EVERY: Duration = Duration::from_millis(50);

/// Writes until stopped.
pub async fn run(host: Host, shared: Arc<Shared>) {
    while !shared.stopped() {
        match Session::open(host, TargetSessionAttrs::Any).await {
            Ok(session) => write_on(session, &shared).await,
            Err(_) => sleep(CONNECT_EVERY).await,
        }
    }
}

/// Tries to write for as long as the session lives. A standby refuses each time, until it is promoted.
async fn write_on(mut session: Session, shared: &Shared) {
    let mut due = Instant::now();
    while !shared.stopped() {
        sleep_until(due).await;
        due = (due + WRITE_EVERY).max(Instant::now());
        match session.write(Writer::Pinned, shared).await {
            Ok(ack) => shared.note(ack),
            Err(Failure::Refused) => {}
            Err(Failure::Unknown) => return,
        }
    }
}
