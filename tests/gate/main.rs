//! The gate through its public surfaces: real sockets, real TLS, the sandbox as the other side.

mod identity;
