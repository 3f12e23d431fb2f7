//! A check of the network itself, on two real hosts: what the rules say is what happens.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{Act, Host, Namespace, Peer, Rule, Switch, enter};

const FROM: Host = Host(1);
const TO: Host = Host(2);
const PORT: u16 = 4_000;

/// A network of two hosts with a socket on each.
struct Bench {
    switch: Switch,
    sockets: [UdpSocket; 2],
    // Namespaces last as long as their files are open.
    _namespaces: [Namespace; 2],
}

/// A check and its name.
type Check = (&'static str, fn(&Bench) -> Result<()>);

const CHECKS: [Check; 5] = [
    ("packets pass without rules", passes),
    ("a cut link loses packets in one direction only", cuts_one_way),
    ("a rule may hold for a port only", cuts_a_port),
    ("a delay is kept, and so is the order", delays),
    ("a cleared rule has no effect", heals),
];

/// Runs all checks and prints what came of them; whether all went well.
pub fn run() -> Result<bool> {
    let bench = Bench::new()?;
    let mut failed = 0;
    for (name, check) in CHECKS {
        bench.switch.set_rules(Vec::new());
        let done = check(&bench);
        failed += usize::from(done.is_err());
        match done {
            Ok(()) => println!("test {name} ... ok"),
            Err(error) => println!("test {name} ... FAILED: {error:#}"),
        }
    }
    println!("test result: {} passed; {failed} failed", CHECKS.len() - failed);
    Ok(failed == 0)
}

impl Bench {
    fn new() -> Result<Bench> {
        let (first, first_cable) = Namespace::create(FROM)?;
        let (second, second_cable) = Namespace::create(TO)?;
        let switch = Switch::start(vec![(FROM, first_cable), (TO, second_cable)]);
        let sockets = [socket(&first, FROM)?, socket(&second, TO)?];
        Ok(Bench { switch, sockets, _namespaces: [first, second] })
    }

    /// Sends a number from one host to the other; how long it took, if it came.
    fn send(&self, from: usize, number: u8) -> Result<Option<Duration>> {
        let start = Instant::now();
        self.post(from, number)?;
        Ok(self.receive(1 - from)?.map(|_| start.elapsed()))
    }

    fn post(&self, from: usize, number: u8) -> Result<()> {
        let to = [FROM, TO][1 - from];
        self.sockets[from].send_to(&[number], (to.address(), PORT)).context("send")?;
        Ok(())
    }

    fn receive(&self, at: usize) -> Result<Option<u8>> {
        let mut buffer = [0];
        match self.sockets[at].recv(&mut buffer) {
            Ok(_) => Ok(Some(buffer[0])),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(None),
            Err(error) => Err(error).context("receive"),
        }
    }
}

/// A socket on a host; it stays there, wherever the thread that uses it is.
fn socket(namespace: &Namespace, host: Host) -> Result<UdpSocket> {
    let path = namespace.path();
    let open = move || {
        enter(&path)?;
        let socket = UdpSocket::bind((host.address(), PORT)).context("bind")?;
        socket.set_read_timeout(Some(Duration::from_millis(400)))?;
        Ok(socket)
    };
    std::thread::spawn(open).join().expect("opening a socket doesn't panic")
}

fn one_way(act: Act, ports: Vec<u16>) -> Vec<Rule> {
    vec![Rule { from: Peer::Only(FROM), to: Peer::Only(TO), ports, act }]
}

fn passes(bench: &Bench) -> Result<()> {
    ensure!(bench.send(0, 1)?.is_some() && bench.send(1, 2)?.is_some(), "a packet was lost");
    Ok(())
}

fn cuts_one_way(bench: &Bench) -> Result<()> {
    bench.switch.set_rules(one_way(Act::Drop, Vec::new()));
    ensure!(bench.send(0, 1)?.is_none(), "a packet passed the cut");
    ensure!(bench.send(1, 2)?.is_some(), "the other direction is cut, too");
    Ok(())
}

fn cuts_a_port(bench: &Bench) -> Result<()> {
    bench.switch.set_rules(one_way(Act::Drop, vec![PORT + 1]));
    ensure!(bench.send(0, 1)?.is_some(), "another port is cut, too");
    bench.switch.set_rules(one_way(Act::Drop, vec![PORT]));
    ensure!(bench.send(0, 1)?.is_none(), "a packet passed the cut");
    Ok(())
}

fn delays(bench: &Bench) -> Result<()> {
    bench.switch.set_rules(one_way(Act::Delay { millis: 200 }, Vec::new()));
    let start = Instant::now();
    for number in 1..=3 {
        bench.post(0, number)?;
    }
    for number in 1..=3 {
        ensure!(bench.receive(1)? == Some(number), "packets came in another order, or not at all");
    }
    let took = start.elapsed().as_millis();
    ensure!((200..350).contains(&took), "it took {took} ms");
    ensure!(
        bench.send(1, 4)?.is_some_and(|took| took < Duration::from_millis(100)),
        "the way back is slow, too"
    );
    Ok(())
}

fn heals(bench: &Bench) -> Result<()> {
    bench.switch.set_rules(one_way(Act::Drop, Vec::new()));
    bench.switch.set_rules(Vec::new());
    passes(bench)
}
