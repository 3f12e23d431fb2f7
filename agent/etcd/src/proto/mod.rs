//! etcd's messages and clients, written by `generate/` from `proto/*.proto`; not to be edited by hand.
//! Derived from etcd's definitions, so under their licence: see `proto/LICENSE-APACHE`.

#[allow(missing_docs, dead_code, clippy::all, rustdoc::all)]
#[rustfmt::skip]
pub mod etcdserverpb;

#[allow(missing_docs, dead_code, clippy::all, rustdoc::all)]
#[rustfmt::skip]
pub mod mvccpb;
