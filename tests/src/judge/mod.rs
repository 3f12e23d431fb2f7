//! What the clients' record means: outage, loss, two writers. Pure functions over acknowledgements and samples.

mod loss;
mod outage;
mod primaries;
mod tails;
mod writers;

pub use loss::{Loss, loss};
pub use outage::{Gap, NOTICED, Outage, outage, outages, silent_until};
pub use primaries::{Overlap, Reign, overlaps, reigns, unhealthy_since};
pub use tails::{Tail, Taking, tails};
pub use writers::{TwoWriters, Violation, two_writers};

#[cfg(test)]
mod example {
    use crate::client::{Ack, Writer};
    use crate::network::Host;
    use crate::time::Moment;

    /// An acknowledgement at a millisecond, sent one millisecond before.
    pub fn ack(writer: Writer, host: u8, timeline: u32, millis: i64) -> Ack {
        let acked = Moment(millis * 1_000);
        let (host, sent) = (Host(host), Moment(acked.0 - 1_000));
        Ack { id: millis, writer, host, timeline, position: millis as u64, sent, acked }
    }

    /// One acknowledgement each 25 ms from the first to before the last millisecond.
    pub fn acks(writer: Writer, host: u8, timeline: u32, millis: std::ops::Range<i64>) -> Vec<Ack> {
        millis.step_by(25).map(|at| ack(writer, host, timeline, at)).collect()
    }
}
