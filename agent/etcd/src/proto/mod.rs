//! etcd's messages and clients, written by `generate/` from `proto/*.proto`; not to be edited by hand.

#[allow(missing_docs, dead_code, clippy::all, rustdoc::all)]
#[rustfmt::skip]
pub mod etcdserverpb;

#[allow(missing_docs, dead_code, clippy::all, rustdoc::all)]
#[rustfmt::skip]
pub mod mvccpb;
