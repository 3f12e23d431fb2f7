//! The network of a lab: one namespace per host, joined by a switch in user space.
//!
//! Each host has a TUN device, so what travels are bare IP packets: no address resolution, nothing to learn. The
//! switch reads a packet, asks the rules for a [`Verdict`] and writes it to the device of the host it is for, now,
//! later or never. That needs no kernel module beyond `tun`, works the same everywhere, and the verdict can depend on
//! anything: direction, port, time. Packet filters would need one tool for cuts and another for delays.
//!
//! Namespaces and devices have no names outside the keeper: they are open files of it, and end with it.

pub mod check;
mod namespace;
mod packet;
mod rules;
mod switch;

pub use namespace::{Namespace, enter};
pub use rules::{Act, Peer, Rule, Verdict, verdict};
pub use switch::Switch;

use std::fmt;

use serde::{Deserialize, Serialize};

/// A host of the lab, by the last number of its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Host(pub u8);

/// The hosts with etcd, an agent and PostgreSQL.
pub const NODES: [Host; 3] = [Host(1), Host(2), Host(3)];

/// Where the clients run.
pub const CLIENT: Host = Host(9);

/// The network all hosts are in: reserved for documentation, so it can't be anybody's.
pub const SUBNET: &str = "192.0.2.0/24";

impl Host {
    /// Its address.
    pub fn address(self) -> String {
        format!("192.0.2.{}", self.0)
    }

    /// The host with this name.
    pub fn named(name: &str) -> Option<Host> {
        NODES.into_iter().chain([CLIENT]).find(|host| host.to_string() == name)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            CLIENT => f.pad("client"),
            Host(number) => f.pad(&format!("h{number}")),
        }
    }
}

impl From<Host> for String {
    fn from(host: Host) -> String {
        host.to_string()
    }
}

impl TryFrom<String> for Host {
    type Error = String;

    fn try_from(name: String) -> Result<Host, String> {
        Host::named(&name).ok_or_else(|| format!("no host is called {name}"))
    }
}
