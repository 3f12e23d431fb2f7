//! A connection to one node that can write rows.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage, Statement};

use super::{Ack, Shared, Writer, in_namespace};
use crate::network::{Host, NODES};
use crate::time::Moment;

/// A node that doesn't answer in this time is tried again later.
pub const CONNECT_WITHIN: Duration = Duration::from_millis(300);

/// A transaction without an answer for so long is given up; its outcome stays unknown.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(1);

const CREATE: &str = "create table if not exists lab_rows (id bigint primary key, writer text not null)";

/// The timeline is read from the name of the WAL segment being written, which only a primary can tell.
const INSERT: &str = "insert into lab_rows (id, writer) values ($1, $2) \
     returning ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int, \
     (pg_current_wal_insert_lsn() - '0/0')::bigint";

/// How one write ended, if not well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The server has refused it; the session can go on.
    Refused,
    /// No answer, or the connection broke: it may have been committed or not.
    Unknown,
}

/// An open connection.
pub struct Session {
    /// The node it leads to.
    pub host: Host,
    client: Client,
    insert: Option<Statement>,
    background: AbortHandle,
}

impl Session {
    /// Connects to a node, if it fits, in bounded time.
    pub async fn open(host: Host, wanted: TargetSessionAttrs) -> Result<Session> {
        let mut config = Config::new();
        config.host(host.address()).port(5432).user("postgres").dbname("postgres");
        config.application_name("lab").target_session_attrs(wanted);
        // A standby refuses dozens of rows a second, and would log each of them.
        config.options("-c log_min_messages=fatal");
        let (client, connection) = timeout(CONNECT_WITHIN, config.connect(NoTls)).await??;
        let background = tokio::spawn(async move { drop(connection.await) }).abort_handle();
        Ok(Session { host, client, insert: None, background })
    }

    /// Makes the table, if it isn't there yet.
    pub async fn create_table(&self) -> Result<()> {
        timeout(ANSWER_WITHIN, self.client.batch_execute(CREATE)).await??;
        Ok(())
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Writes one row. Without an answer in time, the session is of no further use.
    pub async fn write(&mut self, writer: Writer, shared: &Shared) -> Result<Ack, Failure> {
        let id = shared.new_id();
        let sent = Moment::now();
        match timeout(ANSWER_WITHIN, self.insert(id, writer)).await {
            Ok(Ok((timeline, position))) => {
                Ok(Ack { id, writer, host: self.host, timeline, position, sent, acked: Moment::now() })
            }
            Ok(Err(error)) if error.as_db_error().is_some() && !self.is_closed() => Err(Failure::Refused),
            Ok(Err(_)) | Err(_) => Err(Failure::Unknown),
        }
    }

    async fn insert(&mut self, id: i64, writer: Writer) -> Result<(u32, u64), tokio_postgres::Error> {
        let statement = match &self.insert {
            Some(statement) => statement.clone(),
            None => self.client.prepare(INSERT).await?,
        };
        self.insert = Some(statement.clone());
        let name = format!("{writer:?}");
        let row = self.client.query_one(&statement, &[&id, &name]).await?;
        Ok((row.get::<_, i32>(0) as u32, row.get::<_, i64>(1) as u64))
    }

    /// How many standbys stream from this node.
    pub async fn streaming_standbys(&self) -> Result<i64> {
        let query = "select count(*) from pg_stat_replication where state = 'streaming' and application_name <> 'lab'";
        Ok(timeout(ANSWER_WITHIN, self.client.query_one(query, &[])).await??.get(0))
    }

    /// What a statement returns, the first column as text.
    async fn first_column(&self, statement: &str) -> Result<Vec<String>> {
        let messages = timeout(10 * ANSWER_WITHIN, self.client.simple_query(statement)).await??;
        let text = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(String::from),
            _ => None,
        };
        Ok(messages.iter().filter_map(text).collect())
    }

    async fn rows_from(&self, first: i64) -> Result<HashSet<i64>> {
        let query = "select id from lab_rows where id >= $1";
        let rows = timeout(10 * ANSWER_WITHIN, self.client.query(query, &[&first])).await??;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.background.abort();
    }
}

/// Asks one node's PostgreSQL; the first column of the answer, as text.
pub fn query(namespace: PathBuf, host: Host, statement: String) -> Result<Vec<String>> {
    let ask = move || async move {
        let session = Session::open(host, TargetSessionAttrs::Any).await?;
        session.first_column(&statement).await.with_context(|| statement.clone())
    };
    in_namespace(namespace, ask)?.join().expect("asking doesn't panic")
}

/// Acknowledged rows that the final primary lacks.
pub type Missing = HashSet<i64>;

/// Compares acknowledged rows with those on the cluster's primary.
pub fn missing_rows(namespace: PathBuf, first: i64, acked: Vec<i64>) -> Result<Missing> {
    let compare = move || async move {
        for _ in 0..50 {
            for host in NODES {
                let Ok(session) = Session::open(host, TargetSessionAttrs::ReadWrite).await else { continue };
                let present = session.rows_from(first).await.context("read all rows")?;
                return Ok(acked.into_iter().filter(|id| !present.contains(id)).collect());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("there is no primary to compare the rows with")
    };
    in_namespace(namespace, compare)?.join().expect("comparing doesn't panic")
}
