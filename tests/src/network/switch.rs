//! The switch: one thread that moves packets between the hosts' cables.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::packet::Packet;
use super::{Host, Rule, Verdict, verdict};

/// A running switch; it ends with its process.
#[derive(Clone, Debug)]
pub struct Switch {
    rules: Arc<Mutex<Vec<Rule>>>,
}

impl Switch {
    /// Starts forwarding between these cables.
    pub fn start(cables: Vec<(Host, OwnedFd)>) -> Switch {
        let rules = Arc::<Mutex<Vec<Rule>>>::default();
        let fabric = Fabric { cables, rules: rules.clone(), late: BinaryHeap::new(), sequence: 0 };
        thread::Builder::new()
            .name("switch".into())
            .spawn(|| fabric.run())
            .expect("start the switch's thread");
        Switch { rules }
    }

    /// Puts these rules in place of all others, from the next packet on.
    pub fn set_rules(&self, rules: Vec<Rule>) {
        *self.rules.lock().expect("rules") = rules;
    }

    /// The rules in force.
    pub fn rules(&self) -> Vec<Rule> {
        self.rules.lock().expect("rules").clone()
    }
}

struct Fabric {
    cables: Vec<(Host, OwnedFd)>,
    rules: Arc<Mutex<Vec<Rule>>>,
    late: BinaryHeap<Reverse<Late>>,
    sequence: u64,
}

/// A packet on its way. Order by time, then by arrival, so that a constant delay keeps the order.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Late {
    due: Instant,
    sequence: u64,
    to: Host,
    bytes: Vec<u8>,
}

impl Fabric {
    fn run(mut self) {
        let mut buffer = vec![0; 65_536];
        loop {
            for index in self.wait() {
                self.drain(index, &mut buffer);
            }
            self.deliver_due();
        }
    }

    /// Which cables have something to read, at the latest when a late packet is due.
    fn wait(&self) -> Vec<usize> {
        let mut polled: Vec<PollFd> =
            self.cables.iter().map(|(_, cable)| PollFd::new(cable, PollFlags::IN)).collect();
        let timeout =
            self.late.peek().map(|Reverse(next)| next.due.saturating_duration_since(Instant::now()));
        let timeout = timeout.map(|left| Timespec::try_from(left).expect("a short delay"));
        if poll(&mut polled, timeout.as_ref()).is_err() {
            return Vec::new();
        }
        (0..polled.len()).filter(|index| polled[*index].revents().contains(PollFlags::IN)).collect()
    }

    /// Forwards what one cable holds, but not so much that the others starve.
    fn drain(&mut self, index: usize, buffer: &mut [u8]) {
        for _ in 0..64 {
            let Ok(length) = rustix::io::read(&self.cables[index].1, &mut *buffer) else { return };
            let bytes = &buffer[..length];
            let Some(packet) = Packet::read(bytes) else { continue };
            // Asked for each packet after it was read, so that rules hold from the moment they are set.
            let verdict = verdict(&self.rules.lock().expect("rules"), &packet);
            match verdict {
                Verdict::Pass => self.deliver(packet.to, bytes),
                Verdict::Drop => {}
                Verdict::Delay(delay) => self.postpone(packet.to, bytes, delay),
            }
        }
    }

    fn postpone(&mut self, to: Host, bytes: &[u8], delay: Duration) {
        self.sequence += 1;
        let late = Late { due: Instant::now() + delay, sequence: self.sequence, to, bytes: bytes.to_vec() };
        self.late.push(Reverse(late));
    }

    fn deliver_due(&mut self) {
        let now = Instant::now();
        while self.late.peek().is_some_and(|Reverse(next)| next.due <= now) {
            let Reverse(packet) = self.late.pop().expect("peeked");
            self.deliver(packet.to, &packet.bytes);
        }
    }

    /// A packet the receiver can't take is lost, as on any network.
    fn deliver(&self, to: Host, bytes: &[u8]) {
        if let Some((_, cable)) = self.cables.iter().find(|(host, _)| *host == to) {
            let _ = rustix::io::write(cable, bytes);
        }
    }
}
