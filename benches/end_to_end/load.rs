//! A load maker and an upstream that cost as little as sockets allow, and CPU time by thread.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

/// What one round measured.
#[derive(Debug, Clone)]
pub struct Round {
    /// CPU per request of the threads under test, in microseconds.
    pub cpu_us: f64,
    /// Requests per second: company, not the judge.
    pub per_second: f64,
    /// Latency, sorted, in microseconds.
    pub latency_us: Vec<f64>,
}

impl Round {
    /// The latency at a quantile in 0..=1.
    pub fn quantile(&self, q: f64) -> f64 {
        let last = self.latency_us.len().saturating_sub(1);
        self.latency_us[((last as f64) * q) as usize]
    }
}

/// An upstream that answers every request head with the same bytes; one thread a connection.
pub fn upstream(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    spawn("upstream", move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            socket.set_nodelay(true).unwrap();
            spawn("upstream", move || {
                let mut buffer = vec![0; 64 << 10];
                let mut filled = 0;
                while let Ok(read @ 1..) = socket.read(&mut buffer[filled..]) {
                    filled += read;
                    if buffer[..filled].ends_with(b"\r\n\r\n") {
                        filled = 0;
                        if socket.write_all(answer).is_err() {
                            break;
                        }
                    }
                }
            });
        }
    });
    address
}

/// Sends `request` again and again over `connections`, for so long; measures the CPU of threads
/// whose name starts with one of `under_test`.
pub fn round(
    address: SocketAddr,
    request: &[u8],
    connections: usize,
    lasting: Duration,
    under_test: &[&str],
) -> Round {
    let before = cpu_ns(under_test);
    let start = Instant::now();
    let clients: Vec<_> = (0..connections)
        .map(|_| {
            let request = request.to_vec();
            thread::Builder::new()
                .name("load".into())
                .spawn(move || client(address, &request, start + lasting))
                .unwrap()
        })
        .collect();
    let mut latency_us: Vec<f64> = clients.into_iter().flat_map(|c| c.join().unwrap()).collect();
    let took = start.elapsed().as_secs_f64();
    let cpu = cpu_ns(under_test) - before;
    latency_us.sort_by(f64::total_cmp);
    let requests = latency_us.len() as f64;
    Round { cpu_us: cpu as f64 / 1_000.0 / requests, per_second: requests / took, latency_us }
}

fn client(address: SocketAddr, request: &[u8], until: Instant) -> Vec<f64> {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_nodelay(true).unwrap();
    let mut buffer = vec![0; 64 << 10];
    let mut latencies = Vec::with_capacity(100_000);
    while Instant::now() < until {
        let sent = Instant::now();
        socket.write_all(request).unwrap();
        let mut filled = 0;
        let mut whole = None;
        while whole.is_none_or(|whole| filled < whole) {
            let read = socket.read(&mut buffer[filled..]).unwrap();
            assert!(read > 0, "the connection was closed: {}", String::from_utf8_lossy(&buffer[..filled]));
            filled += read;
            if whole.is_none() {
                whole = length(&buffer[..filled]);
            }
        }
        assert!(buffer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer[..filled]));
        latencies.push(sent.elapsed().as_secs_f64() * 1e6);
    }
    latencies
}

/// Head and `content-length` together, once the head is whole.
pub fn length(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..head]).unwrap().to_ascii_lowercase();
    let (_, rest) = text.split_once("content-length:").expect("a length");
    Some(head + rest.split("\r\n").next().unwrap().trim().parse::<usize>().unwrap())
}

/// CPU time in nanoseconds of this process's threads whose name starts with one of these.
pub fn cpu_ns(prefixes: &[&str]) -> u64 {
    let mut sum = 0;
    for task in fs::read_dir("/proc/self/task").unwrap().flatten() {
        let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        if prefixes.iter().any(|prefix| name.starts_with(prefix)) {
            let stat = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            sum += stat.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    sum
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) {
    drop(thread::Builder::new().name(name.to_owned()).spawn(run).unwrap());
}
