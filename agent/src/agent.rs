//! An agent's life: its parts are built in order, run until the node has stopped, and end within bounds.

use crate::api::{self, Api};
use crate::board::Board;
use crate::cli::{self, Code};
use crate::clock::{BootClock, duration, now};
use crate::config::Settings;
use crate::instance::Local;
use crate::journal::Journal;
use crate::outside::Desk;
use crate::store::directory::Directory;
use crate::store::mirror::{Mirror, Published, SharedLease};
use crate::store::records::Paths;
use crate::store::{EtcdStore, TRY, upkeep};
use crate::{patroni, place, telemetry};
use anyhow::Context;
use primacy_core::{Boot, Command, Node};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::timeout;

/// How long the last words of an agent may take.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Runs the agent of one member until it has stopped in order.
pub async fn main(config: &Path) -> Code {
    let settings = match cli::settings(config) {
        Ok(settings) => settings,
        Err(failure) => return failure.report(),
    };
    let log = match telemetry::start(&settings.log) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("primacy: could not start the log: {error}");
            return Code::NotDone;
        }
    };
    let code = match run(settings).await {
        Ok(()) => Code::Done,
        Err(error) => {
            tracing::error!("{error:#}");
            Code::NotDone
        }
    };
    log.flush(LAST_WORDS);
    code
}

async fn run(mut settings: Settings) -> anyhow::Result<()> {
    // A signal that comes while the agent starts must find its handler (hazard L19).
    let terminated = signal(SignalKind::terminate()).context("handle SIGTERM")?;
    let interrupted = signal(SignalKind::interrupt()).context("handle SIGINT")?;
    let _reload = signal(SignalKind::hangup()).context("handle SIGHUP")?;
    place::check_user()?;
    if !settings.ignored.is_empty() {
        tracing::warn!(
            keys = settings.ignored.join(", "),
            "these keys of the configuration have no effect yet"
        );
    }
    settings.postgres.data_dir = place::resolve(&settings.postgres.data_dir)?;
    place::check_owner(&settings.postgres.data_dir)?;
    let run_dir = place::run_dir(&settings.postgres.data_dir)?;
    let _lock = place::lock(&run_dir)?;
    place::check_socket(&run_dir, settings.postgres.port)?;
    let settings = Arc::new(settings);
    let listen = settings.rest.listen.to_string();
    let listener =
        TcpListener::bind(&listen).await.with_context(|| format!("listen on {listen} for restapi.listen"))?;

    let (board, commands) = Board::new();
    let directory = Directory::default();
    let etcd = primacy_etcd::Config {
        try_timeout: TRY,
        cluster: upkeep::earlier(&run_dir),
        ..primacy_etcd::Config::new(settings.etcd.clone())
    };
    let client = primacy_etcd::Client::new(etcd).context("etcd3.hosts")?;
    tokio::spawn(upkeep::run(client.clone(), run_dir.clone()));
    let paths = Paths { prefix: settings.prefix.clone() };
    let (published, wanted) = watch::channel(Published {
        member: patroni::member(&board.look(), &settings, now()),
        ..Published::default()
    });
    let lease = SharedLease::default();
    let me = settings.name.clone();
    let mirror = Mirror {
        client: client.clone(),
        paths: paths.clone(),
        me: me.clone(),
        directory: directory.clone(),
        lease: lease.clone(),
        ttl: duration(settings.core.ttl),
    };
    let mirror = tokio::spawn(mirror.run(wanted));
    let beat = duration(settings.core.beat_every);
    let store = EtcdStore::new(client, paths, me, directory.clone(), lease, beat);
    let local = Local::begin(settings.clone(), run_dir.clone(), board.clone(), directory.clone()).await?;
    let boot = Boot(draw()?);
    let saved = local.saved()?;
    let machine = crate::machine::here(&run_dir)?;
    let config = Arc::new(primacy_core::Config { machine, ..settings.core.clone() });
    let journal = Journal::open(&run_dir.join("journal.jsonl"), &config, boot, &saved)
        .map_err(|error| tracing::warn!(%error, "no journal is written"))
        .ok();
    let api = Api { board: board.clone(), directory, settings: settings.clone() };
    listener.into_std().and_then(|listener| api::start(listener, api)).context("start REST")?;
    tokio::spawn(shut_down_on(terminated, interrupted, board.clone()));

    tracing::info!(
        name = %settings.name,
        scope = settings.scope,
        version = env!("CARGO_PKG_VERSION"),
        "the agent has started"
    );
    let desk = Desk::new(board, commands, journal, published, settings);
    let node = Node::new(config, boot, saved);
    let exit = primacy_driver::run(node, &BootClock, &store, &local, &desk).await;
    tracing::debug!(role = exit.node.role().word(), "the node has ended");
    // Without its sender the mirror says its last words.
    desk.close();
    // A store that doesn't take them lets the key expire.
    let _ = timeout(LAST_WORDS, mirror).await;
    Ok(())
}

/// A number that nobody can guess, and not 0.
pub fn draw() -> anyhow::Result<u64> {
    let mut bytes = [0; 8];
    let mut filled = 0;
    while filled < bytes.len() {
        let flags = rustix::rand::GetRandomFlags::empty();
        filled += rustix::rand::getrandom(&mut bytes[filled..], flags).context("draw a random number")?;
    }
    Ok(u64::from_ne_bytes(bytes).max(1))
}

/// The first signal asks for an orderly end; more change nothing.
async fn shut_down_on(mut terminated: Signal, mut interrupted: Signal, board: Board) {
    loop {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
        tracing::info!("asked to stop");
        board.order(Command::Shutdown);
    }
}
