//! Which addresses a name may lead to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Azure's host services: DHCP, DNS, health and the agent's endpoint.
const AZURE_HOST: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);

/// Why no name may lead to this address, if none may: loopback, link-local (and with it the
/// metadata service), private, shared, multicast, reserved, and every IPv6 form that hides one.
#[must_use]
pub fn forbidden(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => forbidden_v4(v4),
        IpAddr::V6(v6) => forbidden_v6(v6),
    }
}

fn forbidden_v4(v4: Ipv4Addr) -> Option<&'static str> {
    let [a, b, c, _] = v4.octets();
    match () {
        () if v4 == AZURE_HOST => Some("Azure's host service"),
        () if v4.is_loopback() => Some("loopback"),
        () if v4.is_link_local() => Some("link-local, where the metadata service is"),
        () if v4.is_private() => Some("private"),
        () if a == 100 && (64..128).contains(&b) => Some("shared address space"),
        () if v4.is_multicast() || v4.is_broadcast() || a >= 240 => Some("multicast or reserved"),
        () if a == 0 => Some("this network"),
        () if a == 198 && (18..20).contains(&b) => Some("benchmarking"),
        () if a == 192 && b == 0 && c == 0 => Some("protocol assignments"),
        () if v4.is_documentation() => Some("documentation"),
        () => None,
    }
}

fn forbidden_v6(v6: Ipv6Addr) -> Option<&'static str> {
    let s = v6.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        forbidden_v4(Ipv4Addr::new(a, b, c, d))
    };
    if v6.is_unspecified() || v6.is_loopback() {
        return Some("loopback");
    }
    match s {
        // Mapped, compatible and translated forms say which IPv4 address they mean.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => embedded(high, low),
        // NAT64 with the well-known prefix, 6to4.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => embedded(high, low),
        [0x64, 0xff9b, ..] => Some("local NAT64"),
        // Teredo hides the client's address inverted.
        [0x2001, 0, ..] => Some("Teredo"),
        [0x2001, 0xdb8, ..] => Some("documentation"),
        [first, ..] if first & 0xfe00 == 0xfc00 => Some("unique local"),
        [first, ..] if first & 0xffc0 == 0xfe80 => Some("link-local"),
        [first, ..] if first & 0xffc0 == 0xfec0 => Some("site-local"),
        [first, ..] if first & 0xff00 == 0xff00 => Some("multicast"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_form_of_the_metadata_service_or_of_a_private_address_is_reachable() {
        for text in [
            "169.254.169.254",
            "168.63.129.16",
            "127.0.0.1",
            "127.8.8.8",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "::",
            "::1",
            "::ffff:169.254.169.254",
            "::ffff:10.0.0.1",
            "::169.254.169.254",
            "::ffff:0:127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "2002:a9fe:a9fe::1",
            "2001:0:1::1",
            "fd00::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(forbidden(text.parse().unwrap()).is_some(), "{text}");
        }
    }

    proptest::proptest! {
        /// A resolver may answer with any of these: each is what the address in it is.
        #[test]
        fn an_address_in_another_is_judged_as_itself(ip: std::net::Ipv4Addr) {
            let [a, b, c, d] = ip.octets().map(u16::from);
            let (high, low) = (a << 8 | b, c << 8 | d);
            let alone = forbidden(IpAddr::V4(ip)).is_some();
            for form in [
                Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, high, low),
                Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
            ] {
                proptest::prop_assert_eq!(forbidden(IpAddr::V6(form)).is_some(), alone, "{}", form);
            }
        }
    }

    #[test]
    fn public_addresses_are_reachable_in_every_form() {
        for text in [
            "20.50.2.1",
            "172.32.0.1",
            "100.128.0.1",
            "2603:1020:201:10::10f",
            "64:ff9b::1432:201",
            "::ffff:20.50.2.1",
        ] {
            assert_eq!(forbidden(text.parse().unwrap()), None, "{text}");
        }
    }
}
