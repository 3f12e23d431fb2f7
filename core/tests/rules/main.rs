//! The rules of the protocol, one node at a time.
//!
//! Each test gives a node what it learns, and looks at what it asks for. Read them by topic:
//!
//! | rule | file |
//! |---|---|
//! | who makes the first data directory, and the first reign | `first_reign` |
//! | how a lease is kept, and when it ends | `beats` |
//! | what is done under which fence | `guard` |
//! | when a primary that does nothing any more is given up | `health` |
//! | who may stand for election, from when, and who goes first | `election` |
//! | how a reign is taken | `claims` |
//! | how a standby becomes writable, and stays so | `promotion` |
//! | who may be elected next | `rule` |
//! | how a primary is moved | `switchover` |
//! | how a member stops | `stopping` |
//! | whose WAL is taken, and what is done with a copy that doesn't fit | `copies` |
//! | when a copy is given up because an operator wants a new one | `reinit` |
//! | how a store that was lost is made anew | `rebuild` |
//! | what a new agent goes on with | `restart` |
//! | what a node knows of the store, and when it believes that the store went back | `store` |
//! | what PostgreSQL is ordered, by when, and what is durable before | `orders` |
//! | when a node wants to be woken | `deadlines` |
//! | what is only meaningful relative to something else | `touch` |
//! | the sentences people read | `words` |

mod host;

mod beats;
mod claims;
mod copies;
mod deadlines;
mod election;
mod failover;
mod first_reign;
mod guard;
mod health;
mod orders;
mod promotion;
mod rebuild;
mod reinit;
mod restart;
mod rewind;
mod rule;
mod stopping;
mod store;
mod switchover;
mod touch;
mod words;
