//! Listening sockets: one for each core where the system balances them, else one for all.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1_024;

/// What cores accept from.
#[derive(Debug)]
pub struct Sockets {
    listeners: Vec<TcpListener>,
    address: SocketAddr,
}

impl Sockets {
    /// Binds `address` once for each of `cores` where the system spreads connections over sockets
    /// that share a port, else once. `[::]` takes IPv4 as well.
    ///
    /// # Errors
    /// What the system says.
    pub fn bind(address: SocketAddr, cores: usize) -> io::Result<Self> {
        let balanced = cfg!(target_os = "linux") && cores > 1;
        let first = bind(address, balanced)?;
        let address = first.local_addr()?;
        let mut listeners = vec![first];
        if balanced {
            for _ in 1..cores {
                listeners.push(bind(address, true)?);
            }
        }
        Ok(Self { listeners, address })
    }

    /// A socket that somebody else bound: systemd, or the process before this one.
    ///
    /// # Errors
    /// What the system says.
    pub fn inherited(listener: TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self { listeners: vec![listener], address })
    }

    /// What listens at an address: a socket of `handed` that is bound there, else a new one.
    ///
    /// # Errors
    /// What the system says.
    pub fn at(address: SocketAddr, cores: usize, handed: &mut Vec<TcpListener>) -> io::Result<Self> {
        let serves = |listener: &TcpListener| listener.local_addr().is_ok_and(|own| own == address);
        match handed.iter().position(serves) {
            Some(at) => Self::inherited(handed.swap_remove(at)),
            None => Self::bind(address, cores),
        }
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn into_listeners(self) -> Vec<TcpListener> {
        self.listeners
    }
}

/// The sockets that systemd listens on for this process (`LISTEN_FDS`): while the gate is started
/// anew connections wait in them, and none is refused. They can be asked for once.
#[must_use]
pub fn handed_over() -> Vec<TcpListener> {
    let mut handed = listenfd::ListenFd::from_env();
    (0..handed.len()).filter_map(|at| handed.take_tcp_listener(at).ok().flatten()).collect()
}

/// Listens on an address; `shared` lets several sockets share the port. `[::]` takes IPv4 as well.
///
/// # Errors
/// What the system says.
pub fn bind(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    #[cfg(unix)]
    {
        // So that a restart finds its port free; elsewhere the option means something else.
        socket.set_reuse_address(true)?;
        if shared {
            socket.set_reuse_port(true)?;
        }
    }
    #[cfg(not(unix))]
    let _ = shared;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
