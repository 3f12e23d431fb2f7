//! The conditions of a transaction.

use crate::LeaseId;
use crate::proto::etcdserverpb as pb;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};

/// How the stored value must relate to the given one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Is {
    /// Stored = given.
    Equal,
    /// Stored ≠ given.
    NotEqual,
    /// Stored > given.
    Greater,
    /// Stored < given.
    Less,
}

/// One condition on one key. Of a key that doesn't exist, both revisions and the lease are 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    key: Vec<u8>,
    is: Is,
    target: Target,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    ModRevision(i64),
    CreateRevision(i64),
    Value(Vec<u8>),
    Lease(i64),
}

impl Compare {
    /// The revision of the key's last change.
    pub fn mod_revision(key: impl Into<Vec<u8>>, is: Is, revision: i64) -> Compare {
        Compare { key: key.into(), is, target: Target::ModRevision(revision) }
    }

    /// The revision that created the key.
    pub fn create_revision(key: impl Into<Vec<u8>>, is: Is, revision: i64) -> Compare {
        Compare { key: key.into(), is, target: Target::CreateRevision(revision) }
    }

    /// The value, by bytes. Never holds for a key that doesn't exist, not even with [`Is::NotEqual`].
    pub fn value(key: impl Into<Vec<u8>>, is: Is, value: impl Into<Vec<u8>>) -> Compare {
        Compare { key: key.into(), is, target: Target::Value(value.into()) }
    }

    /// The lease the key hangs on; `None` for no lease.
    pub fn lease(key: impl Into<Vec<u8>>, is: Is, lease: Option<LeaseId>) -> Compare {
        Compare { key: key.into(), is, target: Target::Lease(LeaseId::or_zero(lease)) }
    }

    /// The key doesn't exist.
    pub fn absent(key: impl Into<Vec<u8>>) -> Compare {
        Compare::create_revision(key, Is::Equal, 0)
    }

    pub(crate) fn into_request(self) -> pb::Compare {
        let (target, union) = match self.target {
            Target::ModRevision(revision) => (CompareTarget::Mod, TargetUnion::ModRevision(revision)),
            Target::CreateRevision(revision) => {
                (CompareTarget::Create, TargetUnion::CreateRevision(revision))
            }
            Target::Value(value) => (CompareTarget::Value, TargetUnion::Value(value)),
            Target::Lease(lease) => (CompareTarget::Lease, TargetUnion::Lease(lease)),
        };
        pb::Compare {
            result: self.is.into_result().into(),
            target: target.into(),
            key: self.key,
            range_end: Vec::new(),
            target_union: Some(union),
        }
    }
}

impl Is {
    fn into_result(self) -> CompareResult {
        match self {
            Is::Equal => CompareResult::Equal,
            Is::NotEqual => CompareResult::NotEqual,
            Is::Greater => CompareResult::Greater,
            Is::Less => CompareResult::Less,
        }
    }
}
