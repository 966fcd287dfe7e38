//! The floor: a bare hyper pass-through, one runtime, one connection upstream per connection
//! downstream, that checks nothing and records nothing. What the gate costs is said against it.

use std::{net::SocketAddr, thread};

use hyper::{
    Request, body::Incoming, client::conn::http1 as client, server::conn::http1 as server,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime,
    sync::Mutex,
    task::LocalSet,
};

/// Starts it on a thread of its own called `floor`.
pub fn start(upstream: SocketAddr) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::Builder::new().name("floor".into()).spawn(move || run(listener, upstream)).unwrap();
    address
}

/// Serves on this thread, for ever.
pub fn run(listener: std::net::TcpListener, upstream: SocketAddr) {
    listener.set_nonblocking(true).unwrap();
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async move {
        let listener = TcpListener::from_std(listener).unwrap();
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            tokio::task::spawn_local(serve(socket, upstream));
        }
    });
}

async fn serve(socket: TcpStream, upstream: SocketAddr) {
    socket.set_nodelay(true).unwrap();
    let onward = TcpStream::connect(upstream).await.unwrap();
    onward.set_nodelay(true).unwrap();
    let (sender, connection) = client::handshake::<_, Incoming>(TokioIo::new(onward)).await.unwrap();
    tokio::task::spawn_local(connection);
    let sender = Mutex::new(sender);
    let service = service_fn(|request: Request<Incoming>| async {
        let mut sender = sender.lock().await;
        sender.ready().await?;
        sender.send_request(request).await
    });
    let _ended = server::Builder::new().serve_connection(TokioIo::new(socket), service).await;
}
