//! From a name to addresses that may be dialled.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use super::{Destination, Reach, address::forbidden};

/// More addresses than this are not tried.
const MAX_CANDIDATES: usize = 8;

/// Every address of the name, the two families by turns; none is used if one of them is forbidden,
/// because a name that leads inside and outside at once is a trick.
pub(super) async fn resolve(to: &Destination) -> io::Result<Vec<SocketAddr>> {
    let found: Vec<SocketAddr> = match literal(to) {
        Some(ip) => vec![SocketAddr::new(ip, to.port)],
        None => tokio::net::lookup_host((&*to.host, to.port)).await?.collect(),
    };
    for address in &found {
        check(to, address.ip())?;
    }
    Ok(by_turns(found))
}

/// Whether a destination that is not resolved here may be asked of an egress proxy: an address
/// written as a number is checked, a name is the proxy's to resolve.
pub(super) fn check_literal(to: &Destination) -> io::Result<()> {
    literal(to).map_or(Ok(()), |ip| check(to, ip))
}

fn literal(to: &Destination) -> Option<IpAddr> {
    to.host.parse().ok()
}

fn check(to: &Destination, ip: IpAddr) -> io::Result<()> {
    let Some(why) = refused(ip, to.reach) else { return Ok(()) };
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!(
            "`{}` leads to {ip}, which is {why}: name the address itself with `address` if this is meant",
            to.host
        ),
    ))
}

fn refused(ip: IpAddr, reach: Reach) -> Option<&'static str> {
    match reach {
        Reach::Public => forbidden(ip),
        Reach::Private => {
            forbidden(ip).filter(|why| !matches!(*why, "private" | "unique local" | "shared address space"))
        }
        Reach::Loopback => (!ip.is_loopback()).then_some("not loopback"),
    }
}

/// The resolver's order within each family, the families alternating (RFC 8305, section 4), so that
/// a family without a route costs one head start and not one timeout for each of its addresses.
fn by_turns(found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = found.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = found.into_iter().partition(|a| a.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut turns = Vec::new();
    while turns.len() < MAX_CANDIDATES {
        match (first.next(), second.next()) {
            (None, None) => break,
            (one, other) => turns.extend(one.into_iter().chain(other)),
        }
    }
    turns.truncate(MAX_CANDIDATES);
    turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_endpoint_may_be_private_but_not_loopback() {
        assert_eq!(refused("10.0.0.4".parse().unwrap(), Reach::Private), None);
        assert!(refused("127.0.0.1".parse().unwrap(), Reach::Private).is_some());
        assert!(refused("10.0.0.4".parse().unwrap(), Reach::Public).is_some());
        assert!(refused("20.50.2.1".parse().unwrap(), Reach::Loopback).is_some());
    }

    #[test]
    fn the_families_take_turns_and_their_number_is_bounded() {
        let parse = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let found = parse(&["[2603::1]:443", "[2603::2]:443", "20.0.0.1:443"]);
        assert_eq!(by_turns(found), parse(&["[2603::1]:443", "20.0.0.1:443", "[2603::2]:443"]));
        let many = (0..40).map(|n| SocketAddr::from(([20, 0, 0, n], 443))).collect();
        assert_eq!(by_turns(many).len(), MAX_CANDIDATES);
    }
}
