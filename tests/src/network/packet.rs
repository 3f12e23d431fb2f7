//! What the switch reads of an IP packet.

use super::Host;

/// Where a packet comes from and goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The sending host.
    pub from: Host,
    /// The receiving host.
    pub to: Host,
    /// Source and destination port, of TCP and UDP.
    pub ports: Option<(u16, u16)>,
}

impl Packet {
    /// Reads the headers; `None` for anything but IPv4 inside the lab's network.
    pub fn read(bytes: &[u8]) -> Option<Packet> {
        if bytes.len() < 20
            || bytes[0] >> 4 != 4
            || bytes[12..15] != [192, 0, 2]
            || bytes[16..19] != [192, 0, 2]
        {
            return None;
        }
        Some(Packet { from: Host(bytes[15]), to: Host(bytes[19]), ports: ports(bytes) })
    }
}

fn ports(bytes: &[u8]) -> Option<(u16, u16)> {
    let later_fragment = (u16::from_be_bytes([bytes[6], bytes[7]]) & 0x1fff) != 0;
    if !matches!(bytes[9], 6 | 17) || later_fragment {
        return None;
    }
    let header = usize::from(bytes[0] & 0xf) * 4;
    let [a, b, c, d] = *bytes.get(header..header + 4)? else { return None };
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(from: u8, to: u8) -> Vec<u8> {
        let mut bytes = vec![0; 40];
        bytes[0] = 0x45;
        bytes[9] = 6;
        bytes[12..16].copy_from_slice(&[192, 0, 2, from]);
        bytes[16..20].copy_from_slice(&[192, 0, 2, to]);
        bytes[20..24].copy_from_slice(&[0x90, 0x01, 0x09, 0x4b]);
        bytes
    }

    #[test]
    fn a_tcp_packet_tells_hosts_and_ports() {
        let packet = Packet::read(&tcp(1, 2)).expect("a packet");
        assert_eq!(packet, Packet { from: Host(1), to: Host(2), ports: Some((36865, 2379)) });
    }

    #[test]
    fn a_later_fragment_has_no_ports() {
        let mut bytes = tcp(1, 2);
        bytes[7] = 1;
        assert_eq!(Packet::read(&bytes).expect("a packet").ports, None);
    }

    #[test]
    fn what_is_not_of_this_network_is_no_packet() {
        let mut foreign = tcp(1, 2);
        foreign[16] = 10;
        let mut six = tcp(1, 2);
        six[0] = 0x60;
        assert_eq!((Packet::read(&foreign), Packet::read(&six), Packet::read(&[0x45])), (None, None, None));
    }
}
