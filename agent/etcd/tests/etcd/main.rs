//! The client against real etcd members. Needs `etcd` (Debian package etcd-server).

mod cluster;
mod failures;
mod leases;
mod silence;
mod strangers;
mod transactions;
mod watches;
