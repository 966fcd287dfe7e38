//! What a whole request costs through real sockets, beside a bare hyper pass-through.
//!
//! `cargo bench --bench end_to_end`. Both run in this process and are judged by the CPU time of
//! their own threads, round by round, so that whatever else the machine does falls on both. The gate
//! does everything that it does in earnest: identity, naming, a decision by 100 entries, the swap of
//! the token, the answer's rewriting, the record of the read.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a bench that cannot go on should say so and stop"
)]

mod floor;
mod interceptor;
mod load;
mod tunnels;

use std::{fmt::Write as _, fs, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use amlgate::{
    config,
    sandbox::{
        Person,
        azure::names,
        home::{Sandbox, SandboxSettings},
    },
    server::{Cores, Server},
    time::SystemClock,
};

/// As the program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 7;
const LASTING: Duration = Duration::from_secs(2);
/// Enough to keep a core busy.
const CONNECTIONS: usize = 16;
const ENTRIES: usize = 100;
/// Threads whose work is a request's.
const GATE: &[&str] = &["gate-", "journal"];

/// A list of one small job, as Azure answers it.
const ANSWER: &str = r#"{"value":[{"id":"/subscriptions/11111111-2222-4333-8444-555555555555/resourceGroups/rg-vision/providers/Microsoft.MachineLearningServices/workspaces/vision/jobs/j","name":"j","type":"Microsoft.MachineLearningServices/workspaces/jobs","properties":{"jobType":"Command","status":"Completed","command":"python train.py","experimentName":"churn"}}]}"#;

struct World {
    _sandbox: Sandbox,
    server: Server,
    _dir: tempfile::TempDir,
    token: String,
}

async fn world(upstream: SocketAddr) -> World {
    let dir = tempfile::tempdir().unwrap();
    let settings = SandboxSettings::new(dir.path().to_owned(), Arc::new(SystemClock));
    let sandbox = Sandbox::start(settings).await.unwrap();
    let file = sandbox.configuration();
    let text = fs::read_to_string(&file).unwrap();
    // Plain HTTP on both sides: the listener's certificate goes, and the upstream is a stub. The
    // forward listener vouches for names, not for the stub's address: it goes with its own route.
    let mut within = false;
    let text = text.lines().fold(String::new(), |mut all, line| {
        let begins = ["  forward:", "  - name: storage"].iter().any(|block| line.starts_with(block));
        within = begins || (within && line.starts_with("    "));
        if !within && !line.trim_start().starts_with("tls: ") {
            let _ = writeln!(all, "{line}");
        }
        all
    });
    let azure = sandbox.layout.azure_address;
    let before = format!(
        "upstream: https://management.azure.com\n    paths: [/subscriptions, /providers, /tenants]\n    protocol: arm\n    credential: gate\n    address: \"{azure}\"\n    trust: {{ca: certs/ca.pem}}"
    );
    assert!(text.contains(&before), "{text}");
    let after = format!(
        "upstream: http://{upstream}\n    paths: [/subscriptions, /providers, /tenants]\n    protocol: arm\n    credential: gate"
    );
    let text = text
        .replace(&before, &after)
        .replace(&sandbox.layout.gate, &sandbox.layout.gate.replace("https", "http"));
    fs::write(&file, text).unwrap();
    fs::write(dir.path().join("policies/sandbox.yaml"), policies()).unwrap();
    let settings = config::load(&file).unwrap_or_else(|problems| panic!("{problems:#?}"));
    let server = Server::start(settings, Arc::new(SystemClock), Cores::Fixed(1)).await.unwrap();
    let token = sandbox.issuer.mint().token(Person::named("sam").unwrap()).unwrap();
    World { _sandbox: sandbox, server, _dir: dir, token }
}

fn policies() -> String {
    let mut text = String::from("version: 1\nsubjects:\n  mine: [{issuer: sandbox, group: data-science}]\n");
    for n in 1..ENTRIES {
        let _ = writeln!(text, "  t{n}: [{{issuer: sandbox, group: g{n}}}]");
    }
    let scope = names::workspace_id(names::WORKSPACE);
    let _ = writeln!(
        text,
        "allow:\n  - {{name: mine, who: [mine], role: AzureML Data Scientist, scope: {scope}}}"
    );
    for n in 1..ENTRIES {
        let _ = writeln!(
            text,
            "  - {{name: e{n}, who: [t{n}], role: AzureML Data Scientist, scope: {scope}{n}}}"
        );
    }
    text
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    // `cargo test --benches` only asks whether it builds and starts.
    if std::env::args().any(|a| a == "--test") {
        return;
    }
    // `--floor LISTEN UPSTREAM`: the pass-through alone, for `peers/meter.py`.
    let arguments: Vec<String> = std::env::args().collect();
    if let Some([_, listen, upstream, ..]) =
        arguments.iter().position(|a| a == "--floor").and_then(|at| arguments.get(at..))
    {
        return floor::run(std::net::TcpListener::bind(listen).unwrap(), upstream.parse().unwrap());
    }
    // For `peers/forward.py`: `--interceptor LISTEN UPSTREAM CA KEY TRUST`, and `--tunnels ...`.
    if let Some([_, listen, upstream, authority, key, trust, ..]) =
        arguments.iter().position(|a| a == "--interceptor").and_then(|at| arguments.get(at..))
    {
        let (upstream, path) = (upstream.parse().unwrap(), Path::new);
        return interceptor::run(listen, upstream, path(authority), path(key), path(trust));
    }
    if let Some([_, asked @ ..]) =
        arguments.iter().position(|a| a == "--tunnels").and_then(|at| arguments.get(at..))
    {
        return tunnels::run(asked);
    }
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json; charset=utf-8\r\nx-ms-request-id: 1\r\ncontent-length: {}\r\n\r\n{ANSWER}",
        ANSWER.len()
    );
    let upstream = load::upstream(Box::leak(answer.into_bytes().into_boxed_slice()));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let world = runtime.block_on(world(upstream));
    let gate = world.server.reverse().unwrap();
    let floor = floor::start(upstream);
    let request = format!(
        "GET {}/jobs?api-version=2025-12-01 HTTP/1.1\r\nhost: {gate}\r\nauthorization: Bearer {}\r\naccept: application/json\r\nuser-agent: azsdk-python-mgmt/1.0\r\nx-ms-client-request-id: 0b1f6471-1bf0-4dda-aec3-000000000001\r\n\r\n",
        names::workspace_id(names::WORKSPACE),
        world.token
    );
    let (mut ratios, mut of_floor, mut of_gate, mut p99) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let bare = load::round(floor, request.as_bytes(), CONNECTIONS, LASTING, &["floor"]);
        let gate = load::round(gate, request.as_bytes(), CONNECTIONS, LASTING, GATE);
        // The first round warms up.
        if round == 0 {
            continue;
        }
        println!(
            "round {round}: floor {:.1} us, gate {:.1} us, ratio {:.2}; {:.0} and {:.0} requests/s; p99 {:.0} and {:.0} us",
            bare.cpu_us,
            gate.cpu_us,
            gate.cpu_us / bare.cpu_us,
            bare.per_second,
            gate.per_second,
            bare.quantile(0.99),
            gate.quantile(0.99)
        );
        ratios.push(gate.cpu_us / bare.cpu_us);
        of_floor.push(bare.cpu_us);
        of_gate.push(gate.cpu_us);
        p99.push(gate.quantile(0.99) - bare.quantile(0.99));
    }
    println!(
        "median of {ROUNDS} rounds: floor {:.1} us, gate {:.1} us of CPU per request, ratio {:.2}; added p99 {:.0} us",
        median(of_floor),
        median(of_gate),
        median(ratios),
        median(p99)
    );
    runtime.block_on(world.server.stop());
}
