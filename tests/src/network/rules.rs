//! What happens to a packet: a list of rules per directed link, the first that fits decides.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Host;
use super::packet::Packet;

/// One side of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Peer {
    /// Every host.
    Any,
    /// This one.
    Only(Host),
}

/// What a rule does to a packet it fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Act {
    /// Loses it.
    Drop,
    /// Delivers it so much later.
    Delay {
        /// Milliseconds.
        millis: u64,
    },
}

/// One rule of a directed link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Who sends.
    pub from: Peer,
    /// Who receives.
    pub to: Peer,
    /// Only packets from or to one of these ports; all if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
    /// What to do.
    pub act: Act,
}

/// The switch's answer for one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Deliver it now.
    Pass,
    /// Lose it.
    Drop,
    /// Deliver it after this time.
    Delay(Duration),
}

impl Rule {
    /// Both directions between a host and everybody else, cut.
    pub fn isolate(host: Host) -> Vec<Rule> {
        let (only, any) = (Peer::Only(host), Peer::Any);
        vec![
            Rule { from: only, to: any, ports: Vec::new(), act: Act::Drop },
            Rule { from: any, to: only, ports: Vec::new(), act: Act::Drop },
        ]
    }

    fn fits(&self, packet: &Packet) -> bool {
        let port_fits = || match packet.ports {
            Some((source, destination)) => self.ports.iter().any(|port| [source, destination].contains(port)),
            None => false,
        };
        self.from.fits(packet.from) && self.to.fits(packet.to) && (self.ports.is_empty() || port_fits())
    }
}

impl Peer {
    fn fits(self, host: Host) -> bool {
        match self {
            Peer::Any => true,
            Peer::Only(only) => only == host,
        }
    }
}

/// What these rules say about a packet.
pub fn verdict(rules: &[Rule], packet: &Packet) -> Verdict {
    match rules.iter().find(|rule| rule.fits(packet)).map(|rule| rule.act) {
        None => Verdict::Pass,
        Some(Act::Drop) => Verdict::Drop,
        Some(Act::Delay { millis }) => Verdict::Delay(Duration::from_millis(millis)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(from: u8, to: u8, ports: (u16, u16)) -> Packet {
        Packet { from: Host(from), to: Host(to), ports: Some(ports) }
    }

    #[test]
    fn an_isolated_host_neither_sends_nor_receives() {
        let rules = Rule::isolate(Host(1));
        assert_eq!(verdict(&rules, &packet(1, 2, (1, 2))), Verdict::Drop);
        assert_eq!(verdict(&rules, &packet(3, 1, (1, 2))), Verdict::Drop);
        assert_eq!(verdict(&rules, &packet(3, 2, (1, 2))), Verdict::Pass);
    }

    #[test]
    fn a_rule_may_hold_for_one_direction_and_some_ports() {
        let (from, to) = (Peer::Only(Host(1)), Peer::Only(Host(2)));
        let rules = [Rule { from, to, ports: vec![2379, 2380], act: Act::Delay { millis: 600 } }];
        let late = Verdict::Delay(Duration::from_millis(600));
        assert_eq!(verdict(&rules, &packet(1, 2, (40_000, 2379))), late);
        assert_eq!(verdict(&rules, &packet(1, 2, (2380, 40_000))), late);
        assert_eq!(verdict(&rules, &packet(1, 2, (40_000, 5432))), Verdict::Pass);
        assert_eq!(verdict(&rules, &packet(2, 1, (40_000, 2379))), Verdict::Pass);
    }
}
