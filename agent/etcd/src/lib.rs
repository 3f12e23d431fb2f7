//! A small etcd v3 client: transactions, linearizable reads, watches, leases, rotation of endpoints.
//!
//! It knows nothing of what is stored: keys and values are bytes. What it is careful about is failure.
//!
//! - **One try.** A call makes exactly one try, on the current endpoint, and ends at its deadline or after
//!   the time allowed for a try ([`Config::try_timeout`]), whichever comes first. A frozen member never holds
//!   a caller longer than that. Only [`Client::read`], which changes nothing, tries on until its deadline.
//! - **Rotation.** A try without a definitive answer retires the connection: its watches end with
//!   [`Notice::Lost`] at once and the next call goes to the next endpoint. Otherwise the client stays
//!   where it is.
//! - **One cluster.** Before its first request a client settles on one cluster for life, and each new connection is
//!   asked for the cluster it leads to before anything else is sent. A stranger counts as a member that doesn't
//!   answer; it is never written to, read or watched.
//! - **Honest errors.** [`Error`] says whether the request was surely not sent, may have been applied (now
//!   or later), or was refused by the store with nothing changed. What isn't known to be definitive isn't
//!   taken for it.
//! - **Linearizable reads only.** There is no way to ask for a member's local, perhaps stale, data.
//!
//! Dropping the future of a call before it ends leaves the outcome of that call unknown. Everything here
//! needs a tokio runtime with IO and time enabled.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use primacy_etcd::{Client, Compare, Config, Instant, Op};
//! use std::time::Duration;
//!
//! let client = Client::new(Config::new(["10.0.0.1:2379", "10.0.0.2:2379", "10.0.0.3:2379"]))?;
//! let deadline = Instant::now() + Duration::from_secs(1);
//! let lease = client.lease_grant(Duration::from_secs(10), None, deadline).await?;
//! let txn = client
//!     .txn(
//!         vec![Compare::absent("/leader")],
//!         vec![Op::put_with_lease("/leader", "a", lease.id)],
//!         vec![Op::get("/leader")],
//!         deadline,
//!     )
//!     .await?;
//! println!("leader: {}, revision {}", txn.succeeded, txn.header.revision);
//! # Ok(())
//! # }
//! ```

mod client;
mod compare;
mod config;
mod connect;
mod connection;
mod error;
mod header;
mod identity;
mod keys;
mod kv;
mod lease;
mod member;
mod op;
#[allow(unreachable_pub)]
mod proto;
mod txn;
mod watch;

pub use client::Client;
pub use compare::{Compare, Is};
pub use config::{Config, ConfigError, Endpoint};
pub use error::{Cause, Error};
pub use header::Header;
pub use keys::Keys;
pub use kv::{Deletion, KeyValue, Range};
pub use lease::{Lease, LeaseId, Renewal};
pub use member::{Member, Status};
pub use op::{Op, OpResult};
pub use txn::Txn;
pub use watch::{Event, Events, Loss, Notice, Watch};

/// The code of an error, as gRPC has them.
pub use tonic::Code;

/// A point in time: deadlines are given as one.
pub use tokio::time::Instant;
