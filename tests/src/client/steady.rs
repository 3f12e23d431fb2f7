//! The client that knows all nodes and writes wherever it may.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_postgres::config::TargetSessionAttrs;

use super::session::{Failure, Session};
use super::{Shared, WRITE_EVERY, Writer};
use crate::network::{Host, NODES};

/// Between two attempts to find a node writable.
const SEEK_EVERY: Duration = Duration::from_millis(25);

/// A write without an answer for so long makes the client look around while it goes on waiting.
const SEEK_AFTER: Duration = Duration::from_millis(250);

/// Writes until stopped.
pub async fn run(shared: Arc<Shared>) {
    let (seek, seeking) = watch::channel(true);
    let (offer, mut offers) = mpsc::channel(NODES.len());
    for host in NODES {
        tokio::spawn(look_at(host, seeking.clone(), offer.clone()));
    }
    while !shared.stopped() {
        let _ = seek.send(true);
        let Some(mut session) = next(&mut offers, &shared).await else { continue };
        settle(&seek, &mut offers);
        while let Some(better) = write_on(session, &seek, &mut offers, &shared).await {
            session = better;
            settle(&seek, &mut offers);
        }
    }
}

/// Ends the search. Sessions that were found but not taken grow old, so they are let go.
fn settle(seek: &watch::Sender<bool>, offers: &mut mpsc::Receiver<Session>) {
    let _ = seek.send(false);
    while offers.try_recv().is_ok() {}
}

/// The next node found writable.
async fn next(offers: &mut mpsc::Receiver<Session>, shared: &Shared) -> Option<Session> {
    let session = timeout(Duration::from_millis(200), offers.recv()).await.ok()??;
    if shared.stopped() || session.is_closed() {
        return None;
    }
    session.create_table().await.ok()?;
    Some(session)
}

/// Writes on one session as long as it goes well. Another node that was found writable while this one kept silent
/// takes its place.
async fn write_on(
    mut session: Session,
    seek: &watch::Sender<bool>,
    offers: &mut mpsc::Receiver<Session>,
    shared: &Shared,
) -> Option<Session> {
    let mut due = Instant::now();
    while !shared.stopped() {
        sleep_until(due).await;
        due = (due + WRITE_EVERY).max(Instant::now());
        let host = session.host;
        let better = tokio::select! {
            outcome = session.write(Writer::Steady, shared) => match outcome {
                Ok(ack) => {
                    shared.note(ack);
                    continue;
                }
                Err(Failure::Refused) => return None,
                Err(Failure::Unknown) => None,
            },
            better = found_elsewhere(host, seek, offers) => Some(better),
        };
        shared.seen.lock().expect("the record").unknown += 1;
        return better;
    }
    None
}

async fn found_elsewhere(
    host: Host,
    seek: &watch::Sender<bool>,
    offers: &mut mpsc::Receiver<Session>,
) -> Session {
    sleep(SEEK_AFTER).await;
    let _ = seek.send(true);
    loop {
        match offers.recv().await {
            Some(session) if session.host != host && !session.is_closed() => return session,
            Some(_) => {}
            None => std::future::pending().await,
        }
    }
}

/// Tries one node over and over while somebody seeks, and offers the session once it is writable.
async fn look_at(host: Host, mut seeking: watch::Receiver<bool>, offer: mpsc::Sender<Session>) {
    loop {
        if seeking.wait_for(|seeking| *seeking).await.is_err() {
            return;
        }
        match Session::open(host, TargetSessionAttrs::ReadWrite).await {
            // Offered only while it is wanted: an old offer may lead to a node that has lost its role.
            Ok(session) if *seeking.borrow() => drop(offer.try_send(session)),
            Ok(_) | Err(_) => {}
        }
        sleep(SEEK_EVERY).await;
    }
}
