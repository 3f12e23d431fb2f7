//! The small words of the protocol: names, epochs, positions, nonces.

use alloc::sync::Arc;
use core::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($int:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
        pub struct $name(pub $int);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

number! {
    /// The number of a reign, and at the same time the PostgreSQL timeline its holder writes. 0 is "none yet".
    Epoch(u32)
}
number! {
    /// The store's revision at which a key was last written (`mod_revision` of etcd). 0 means the key is absent.
    Revision(u64)
}
number! {
    /// Tells two reigns apart that carry the same number (after a store was restored, say), and two promotions that
    /// forked at the same place.
    Nonce(u64)
}
number! {
    /// One life of an agent process, random. Two agents that call themselves the same differ in it (hazard A28).
    Boot(u64)
}
number! {
    /// Where an agent runs: equal numbers mean that whatever an earlier life of it has started would be seen from here.
    /// Another boot of the host, another container or another run directory have another one.
    MachineId(u64)
}
number! {
    /// One copy of the data directory. Made anew by every clone, so that a re-cloned member can't pass for the old one.
    CopyId(u64)
}
number! {
    /// PostgreSQL's system identifier.
    SystemId(u64)
}
number! {
    /// Names an effect that will be answered; never used twice in the life of an agent.
    OpId(u32)
}
number! {
    /// Names an operator's request that awaits its answer.
    RequestId(u64)
}

impl Epoch {
    /// The epoch after this one.
    ///
    /// # Panics
    /// After the last number that PostgreSQL has for a timeline.
    pub fn next(self) -> Epoch {
        Epoch(self.0.checked_add(1).expect("timelines left"))
    }
}

/// A place in the WAL, in bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How far a copy of the data goes: the timeline, and the end of the last complete WAL record held durably.
///
/// Positions compare like a pair, the timeline first: as each timeline belongs to one epoch, a higher one is a later
/// history, however many bytes the other holds (hazard B32).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Position {
    /// The timeline, which is the epoch that wrote it.
    pub epoch: Epoch,
    /// The end of the last complete record.
    pub lsn: Lsn,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t{} {}", self.epoch, self.lsn)
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A member's name, unique in its cluster.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct Name(Arc<str>);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Name {
        Name(text.into())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
