//! What a running server says, always over a fresh connection: an old one tells nothing about a server that takes no
//! new ones.

use crate::config::literal;
use crate::control::parse_lsn;
use crate::wal::Forks;
use crate::{Error, Instant, Position, Postgres, Upstream};
use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::timeout_at;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

/// How a running instance stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The system identifier.
    pub system_id: u64,
    /// It can't be written.
    pub in_recovery: bool,
    /// The end of the WAL held durably.
    pub position: Position,
    /// The timeline of the latest checkpoint. One that was just promoted has none on its own yet, and nobody can be
    /// rewound from it before it has.
    pub checkpoint: u32,
    /// The end of the WAL replayed; on a primary the same as the position.
    pub replayed: u64,
    /// The history of the position's timeline.
    pub forks: Forks,
    /// Its walreceiver streams.
    pub streaming: bool,
    /// Who streams from it, and how far they have flushed.
    pub followers: BTreeMap<String, u64>,
    /// As a number: 150018 for 15.18.
    pub server_version: u32,
    /// When the postmaster started, as PostgreSQL writes it.
    pub started: String,
}

/// The same, under the name of the act.
pub type Probe = Standing;

/// What holds for each session of ours. Nothing of it is logged: statements set passwords. And it may write where the
/// user's default is that nobody does.
const OPTIONS: &str = "-c log_statement=none -c log_min_duration_statement=-1 -c log_min_duration_sample=-1 \
                       -c log_transaction_sample_rate=0 -c log_min_error_statement=panic \
                       -c default_transaction_read_only=off";

/// So much longer than its deadline a statement may run at most. Whoever waits for a lock doesn't see that nobody waits
/// for the answer any more.
const BEYOND: Duration = Duration::from_millis(100);

const QUESTION: &str = "\
SELECT (SELECT system_identifier FROM pg_control_system()),
       pg_is_in_recovery(),
       CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_flush_lsn() END,
       CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END,
       CASE WHEN pg_is_in_recovery() THEN NULL
            ELSE ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int END,
       (SELECT status = 'streaming' FROM pg_stat_wal_receiver),
       (SELECT string_agg(application_name || '=' || flush_lsn::text, E'\\n')
          FROM pg_stat_replication WHERE state = 'streaming' AND flush_lsn IS NOT NULL),
       current_setting('server_version_num'),
       pg_postmaster_start_time(),
       (SELECT bytes_per_wal_segment FROM pg_control_init()),
       (SELECT timeline_id FROM pg_control_checkpoint())";

impl Postgres {
    /// Asks a running server how it stands.
    ///
    /// # Errors
    /// If it takes no connection or doesn't answer by the deadline, or its history can't be read.
    pub async fn probe(&self, by: Instant) -> Result<Probe, Error> {
        let row = self.row("look at the server", QUESTION, by).await?;
        let row: Vec<Option<&str>> = row.iter().map(Option::as_deref).collect();
        let row = row.try_into().map_err(|_| unknown())?;
        self.standing(row, by).await
    }

    async fn standing(&self, row: [Option<&str>; 11], by: Instant) -> Result<Standing, Error> {
        let [
            system,
            recovery,
            received,
            replayed,
            timeline,
            streams,
            followers,
            version,
            started,
            segment,
            checkpoint,
        ] = row;
        let in_recovery = recovery.ok_or_else(unknown)? == "t";
        let replayed = replayed.and_then(parse_lsn).ok_or_else(unknown)?;
        let segment: u64 = number(segment)?;
        let position = match timeline {
            Some(_) => Position { timeline: number(timeline)?, lsn: replayed },
            None => {
                let fetches = self.settings.restore_command.is_some() && streams != Some("t");
                let received = received.and_then(parse_lsn);
                self.held(received, replayed, fetches, segment, by).await?
            }
        };
        let followers = followers.unwrap_or_default().lines().filter_map(|line| {
            let (name, lsn) = line.rsplit_once('=')?;
            Some((name.to_owned(), parse_lsn(lsn)?))
        });
        Ok(Standing {
            system_id: number::<i64>(system)?.cast_unsigned(),
            in_recovery,
            position,
            checkpoint: number(checkpoint)?,
            replayed,
            forks: self.settings.forks(position.timeline)?,
            streaming: streams == Some("t"),
            followers: followers.collect(),
            server_version: number(version)?,
            started: started.ok_or_else(unknown)?.to_owned(),
        })
    }

    /// How far the WAL of a standby goes.
    ///
    /// When streaming resumes it is said to begin at the start of a segment, which lies below what is there and
    /// replayed. Before it does, after a restart, nothing is said, and what is there may not be replayed yet; nor is
    /// anything said of what comes from an archive. Then the files tell: no stream writes to them.
    async fn held(
        &self,
        received: Option<u64>,
        replayed: u64,
        fetches: bool,
        segment: u64,
        by: Instant,
    ) -> Result<Position, Error> {
        let lsn = received.map_or(replayed, |received| received.max(replayed));
        let known = Position { timeline: self.settings.timeline_at(lsn, segment)?, lsn };
        match received {
            Some(_) if !fetches => Ok(known),
            Some(_) | None => self.settings.wal_end_from(known, segment, by).await,
        }
    }

    /// Whether it takes connections.
    pub(crate) async fn knock(&self, by: Instant) -> Result<(), Error> {
        self.row("connect", "SELECT 1", by).await.map(drop)
    }

    /// Whether a new session gets any answer, be it a refusal. Only a server that takes a connection and then says
    /// nothing gives none.
    pub async fn answers(&self, by: Instant) -> bool {
        !matches!(self.knock(by).await, Err(Error::TimedOut(_)))
    }

    /// When the configuration was loaded.
    pub(crate) async fn loaded_at(&self, by: Instant) -> Result<String, Error> {
        let row = self.row("ask when the configuration was loaded", "SELECT pg_conf_load_time()", by).await?;
        Ok(row.into_iter().next().flatten().unwrap_or_default())
    }

    /// Whether a fresh session shows no source of WAL, loaded at another time than `before`: clocks may go back.
    pub(crate) async fn sources_are_closed(&self, before: &str, by: Instant) -> Result<bool, Error> {
        let question = format!(
            "SELECT current_setting('primary_conninfo') = '' AND current_setting('restore_command') = '' \
             AND pg_conf_load_time() <> {}::timestamptz",
            literal(before)
        );
        let row = self.row("ask for the sources of WAL", &question, by).await?;
        Ok(row.first().and_then(Option::as_deref) == Some("t"))
    }

    /// The timeline it writes; none while it is in recovery.
    pub(crate) async fn written_timeline(&self, by: Instant) -> Result<Option<u32>, Error> {
        let question = "SELECT CASE WHEN pg_is_in_recovery() THEN NULL \
                        ELSE ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int END";
        let row = self.row("ask for the timeline", question, by).await?;
        Ok(row.first().and_then(Option::as_deref).and_then(|number| number.parse().ok()))
    }

    /// Writes the epoch and its mark into a place that is replicated and seen from each database.
    ///
    /// # Errors
    /// If it can't be written.
    pub async fn mark_epoch(&self, epoch: u32, nonce: u64, by: Instant) -> Result<(), Error> {
        let (name, mark) = (self.settings.superuser.name.replace('"', "\"\""), format!("{epoch}:{nonce}"));
        let script = format!(
            "SET synchronous_commit = local; ALTER ROLE \"{name}\" SET primacy.epoch = '{mark}'; \
             SELECT pg_logical_emit_message(false, 'primacy', '{mark}')"
        );
        self.execute("write the epoch's mark", &script, by).await
    }

    /// Writes a checkpoint.
    ///
    /// # Errors
    /// If it isn't done by the deadline; it goes on then.
    pub async fn checkpoint(&self, by: Instant) -> Result<(), Error> {
        self.execute("checkpoint", "CHECKPOINT", by).await
    }

    /// Runs statements over a fresh connection.
    pub(crate) async fn execute(&self, what: &'static str, script: &str, by: Instant) -> Result<(), Error> {
        self.ask(what, script, by).await.map(drop)
    }

    pub(crate) async fn row(
        &self,
        what: &'static str,
        question: &str,
        by: Instant,
    ) -> Result<Vec<Option<String>>, Error> {
        row_of(what, self.ask(what, question, by).await?)
    }

    /// The same, from another member, as the user that may read files there.
    pub(crate) async fn row_from(
        &self,
        source: &Upstream,
        what: &'static str,
        question: &str,
        by: Instant,
    ) -> Result<Vec<Option<String>>, Error> {
        let rewind = &self.settings.rewind;
        let mut config = Config::new();
        config.host(&source.host).port(source.port).dbname("postgres");
        config.user(&rewind.name).application_name("primacy");
        if let Some(password) = &rewind.password {
            config.password(password);
        }
        row_of(what, ask(config, "", what, question, by).await?)
    }

    async fn ask(
        &self,
        what: &'static str,
        script: &str,
        by: Instant,
    ) -> Result<Vec<SimpleQueryMessage>, Error> {
        let settings = &self.settings;
        let mut config = Config::new();
        config.host_path(&settings.run_dir).port(settings.port).dbname("postgres");
        config.user(&settings.superuser.name).application_name("primacy");
        if let Some(password) = &settings.superuser.password {
            config.password(password);
        }
        ask(config, OPTIONS, what, script, by).await
    }
}

/// Connecting, asking and parting share one deadline: a frozen postmaster accepts and says nothing. Whether it is met
/// or not, or this is dropped: no connection is left behind, and soon after the deadline no session.
async fn ask(
    mut config: Config,
    options: &str,
    what: &'static str,
    script: &str,
    by: Instant,
) -> Result<Vec<SimpleQueryMessage>, Error> {
    let left = by.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(Error::TimedOut(what));
    }
    let at_most = i32::try_from((left + BEYOND).as_millis()).unwrap_or(i32::MAX);
    config.options(format!("{options} -c statement_timeout={at_most}"));
    let asked = timeout_at(by, async {
        let session = Session::begin(&config).await?;
        session.client.simple_query(script).await
    });
    match asked.await {
        Err(_) => Err(Error::TimedOut(what)),
        Ok(Ok(messages)) => Ok(messages),
        Ok(Err(why)) => {
            let state = why.code().map(|code| code.code().to_owned());
            let words = why.as_db_error().map_or_else(|| why.to_string(), |error| error.message().to_owned());
            Err(Error::Sql { what, why: words, state })
        }
    }
}

/// A connection. Its task would go on after the client is dropped for as long as an answer is due.
struct Session {
    client: Client,
    task: JoinHandle<()>,
}

impl Session {
    async fn begin(config: &Config) -> Result<Session, tokio_postgres::Error> {
        let (client, connection) = config.connect(NoTls).await?;
        let task = tokio::spawn(async move {
            if let Err(why) = connection.await {
                tracing::debug!(%why, "connection ended");
            }
        });
        Ok(Session { client, task })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn row_of(what: &'static str, messages: Vec<SimpleQueryMessage>) -> Result<Vec<Option<String>>, Error> {
    let row = messages.into_iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect())
        }
        _ => None,
    });
    row.ok_or(Error::Sql { what, why: "no row".to_owned(), state: None })
}

fn number<N: FromStr>(text: Option<&str>) -> Result<N, Error> {
    text.and_then(|text| text.parse().ok()).ok_or_else(unknown)
}

fn unknown() -> Error {
    Error::Unfit("the server says something unknown about itself".to_owned())
}
