//! A load maker for forward proxies: new intercepted connections, requests on kept ones, open tunnels.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};

use super::interceptor::trusting;

/// What is asked of whom.
struct Asked {
    proxy: String,
    /// Host and port.
    target: String,
    path: String,
    authorization: String,
    tls: Arc<ClientConfig>,
}

type Tunnel = StreamOwned<ClientConnection, TcpStream>;

impl Asked {
    fn dig(&self) -> Tunnel {
        let mut socket = TcpStream::connect(&self.proxy).unwrap();
        socket.set_nodelay(true).unwrap();
        let asked = format!(
            "CONNECT {0} HTTP/1.1\r\nHost: {0}\r\nProxy-Authorization: {1}\r\n\r\n",
            self.target, self.authorization
        );
        socket.write_all(asked.as_bytes()).unwrap();
        let mut head = [0; 4_096];
        let mut filled = 0;
        while !head[..filled].ends_with(b"\r\n\r\n") {
            let read = socket.read(&mut head[filled..]).unwrap();
            assert!(read > 0, "{}", String::from_utf8_lossy(&head[..filled]));
            filled += read;
        }
        assert!(head[9..].starts_with(b"200"), "{}", String::from_utf8_lossy(&head[..filled]));
        let host = self.target.split(':').next().unwrap().to_owned();
        let connection = ClientConnection::new(Arc::clone(&self.tls), ServerName::try_from(host).unwrap());
        StreamOwned::new(connection.unwrap(), socket)
    }

    fn get(&self, tunnel: &mut Tunnel, buffer: &mut [u8]) {
        let request = format!("GET {} HTTP/1.1\r\nHost: {}\r\nAccept: */*\r\n\r\n", self.path, self.target);
        tunnel.write_all(request.as_bytes()).unwrap();
        let (mut filled, mut whole) = (0, None);
        while whole.is_none_or(|whole| filled < whole) {
            let read = tunnel.read(&mut buffer[filled..]).unwrap();
            assert!(read > 0, "{}", String::from_utf8_lossy(&buffer[..filled]));
            filled += read;
            if whole.is_none() {
                whole = super::load::length(&buffer[..filled]);
            }
        }
        assert!(buffer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer[..filled]));
    }
}

/// `new|kept|hold PROXY HOST:PORT PATH TRUST AUTHORIZATION SECONDS|TUNNELS CONNECTIONS`; prints how
/// much was done and in how many seconds. `hold` says so once all are open, and goes on until its
/// input ends.
pub fn run(arguments: &[String]) {
    let [mode, proxy, target, path, trust, authorization, amount, connections] = arguments else {
        panic!("eight arguments");
    };
    let asked = Arc::new(Asked {
        proxy: proxy.clone(),
        target: target.clone(),
        path: path.clone(),
        authorization: authorization.clone(),
        tls: Arc::new(trusting(Path::new(trust))),
    });
    let amount: u64 = amount.parse().unwrap();
    if mode == "hold" {
        return hold(&asked, amount);
    }
    let is_new = mode == "new";
    let done = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let until = start + Duration::from_secs(amount);
    let threads: Vec<_> = (0..connections.parse::<usize>().unwrap())
        .map(|_| {
            let (asked, done) = (Arc::clone(&asked), Arc::clone(&done));
            thread::spawn(move || {
                let mut buffer = vec![0; 64 << 10];
                let mut tunnel = asked.dig();
                asked.get(&mut tunnel, &mut buffer);
                while Instant::now() < until {
                    if is_new {
                        tunnel = asked.dig();
                    }
                    asked.get(&mut tunnel, &mut buffer);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    println!("{} {:.3}", done.load(Ordering::Relaxed), start.elapsed().as_secs_f64());
}

fn hold(asked: &Asked, count: u64) {
    let mut buffer = vec![0; 64 << 10];
    let start = Instant::now();
    let _held: Vec<_> = (0..count)
        .map(|_| {
            let mut tunnel = asked.dig();
            asked.get(&mut tunnel, &mut buffer);
            tunnel
        })
        .collect();
    println!("{count} {:.3}", start.elapsed().as_secs_f64());
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}
