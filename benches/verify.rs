//! What it costs to know who is calling, on each rung: the connection's memo, the process's memory
//! (one identity, ten thousand, a million), the signature. And what a million remembered identities
//! hold of memory, with room for them all and within the bounds that the gate has unless it is told
//! otherwise.
//!
//! `cargo bench --bench verify`; `AMLGATE_BENCH_IDENTITIES` says how many a million are. Figures that
//! were seen stand in `benches/README.md`.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a bench that cannot go on should say so and stop"
)]

use std::{fs, hint::black_box, sync::Arc, thread};

use amlgate::{
    identity::{
        ConnectionMemo, Fetching, IssuerSettings, KeySource, RememberedSettings, SourceError, Verifier,
        bearer,
    },
    time::{Clock, SystemClock},
};
use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http::{HeaderValue, Uri};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// As the program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ISSUER: &str = "https://issuer.example";

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// One key pair of each kind.
struct Signers {
    rsa: RsaKeyPair,
    p256: EcdsaKeyPair,
    ed: Ed25519KeyPair,
}

impl Signers {
    fn generate() -> Self {
        Self {
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).expect("a key"),
            p256: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key"),
            ed: Ed25519KeyPair::generate().expect("a key"),
        }
    }

    fn published(&self) -> Value {
        let (n, e) = (self.rsa.public_key().modulus(), self.rsa.public_key().exponent());
        let (x, y) = self.p256.public_key().as_ref()[1..].split_at(32);
        json!({"keys": [
            {"kty": "RSA", "kid": "RS256", "n": b64(n.big_endian_without_leading_zero()),
             "e": b64(e.big_endian_without_leading_zero())},
            {"kty": "EC", "crv": "P-256", "kid": "ES256", "x": b64(x), "y": b64(y)},
            {"kty": "OKP", "crv": "Ed25519", "kid": "EdDSA", "x": b64(self.ed.public_key())},
        ]})
    }

    fn token(&self, alg: &str, claims: &Value) -> String {
        let header = json!({"typ": "JWT", "alg": alg, "kid": alg});
        let signed = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        let random = SystemRandom::new();
        let signature = match alg {
            "RS256" => {
                let mut out = vec![0; self.rsa.public_modulus_len()];
                self.rsa.sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut out).expect("a signature");
                out
            }
            "ES256" => self.p256.sign(&random, signed.as_bytes()).expect("a signature").as_ref().to_vec(),
            _ => self.ed.sign(signed.as_bytes()).as_ref().to_vec(),
        };
        format!("{signed}.{}", b64(signature))
    }
}

/// About the claims of an Entra v2 token, 1.3 KB as a token.
fn claims(subject: u64, groups: usize) -> Value {
    let now = SystemClock.now().as_secs();
    let groups: Vec<String> =
        (0..groups).map(|i| format!("6f9619ff-8b86-d011-b42d-00cf4fc9{i:04}")).collect();
    json!({
        "iss": ISSUER, "aud": "amlgate", "sub": format!("person-{subject:08}"), "iat": now, "nbf": now,
        "exp": now + 7_200, "tid": "aaaaaaaa-0000-4000-8000-000000000001", "ver": "2.0", "scp": "access",
        "oid": "bbbbbbbb-0000-4000-8000-000000000002", "azp": "22222222-2222-4222-8222-222222222222",
        "preferred_username": "ada.lovelace@example.com", "name": "Ada Lovelace", "uti": "zKpvZx2nUkSUnPwq4Z4aAA",
        "rh": "0.AXwAqqqqqqqqqqqqqqqqqqqqqgAAAAAAAAAAwAAAAAAAAAB8AAA.", "azpacr": "0", "groups": groups,
    })
}

/// The key set, whatever is asked.
#[derive(Debug)]
struct Published(Value);

impl KeySource for Published {
    fn get<'a>(&'a self, uri: &'a Uri, _: &'a IssuerSettings) -> Fetching<'a> {
        let document = if uri.path().ends_with("openid-configuration") {
            json!({"issuer": ISSUER, "jwks_uri": format!("{ISSUER}/keys")})
        } else {
            self.0.clone()
        };
        Box::pin(async move { Ok::<_, SourceError>(document.to_string().into()) })
    }
}

fn verifier(runtime: &Runtime, signers: &Signers, remembered: RememberedSettings) -> Verifier {
    let issuer = IssuerSettings::oidc("idp", ISSUER, &["amlgate"]).expect("a URL");
    let source = Arc::new(Published(signers.published()));
    let verifier = Verifier::new(vec![issuer], remembered, source, Arc::new(SystemClock));
    runtime.block_on(verifier.refresh_once());
    verifier
}

/// Tokens of so many people, each verified once. Ten thousand of them are given back, to ask for.
fn remember(verifier: &Verifier, signers: &Signers, identities: u64) -> Vec<String> {
    let threads = thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let every = (identities / 10_000).max(1);
    let one = |first: u64| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let mut kept = Vec::new();
        for identity in (first..identities).step_by(usize::try_from(threads).expect("few")) {
            let token = signers.token("EdDSA", &claims(identity, 8));
            runtime.block_on(verifier.authenticate(&token)).expect("accepted");
            if identity % every == 0 {
                kept.push(token);
            }
        }
        kept
    };
    thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|first| scope.spawn(move || one(first))).collect();
        all.into_iter().flat_map(|thread| thread.join().expect("a thread")).collect()
    })
}

/// What this process holds of memory, in bytes.
fn held() -> u64 {
    let text = fs::read_to_string("/proc/self/smaps_rollup").expect("Linux");
    let line = text.lines().find(|line| line.starts_with("Pss:")).expect("a line");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number");
    kib * 1_024
}

fn verify(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let signers = Signers::generate();

    // `cargo test --benches` only asks whether it works.
    let million = if std::env::args().any(|a| a == "--bench") { 1_000_000 } else { 2_000 };
    let many = std::env::var("AMLGATE_BENCH_IDENTITIES").ok().and_then(|n| n.parse().ok()).unwrap_or(million);

    // First, because the allocator keeps what was freed.
    let bounds = RememberedSettings::default();
    let bounded = verifier(&runtime, &signers, bounds);
    let before = held();
    let tokens = remember(&bounded, &signers, many);
    println!(
        "{many} identities, room for {} tokens and {} MiB: {} remembered, {} MiB more",
        bounds.tokens,
        bounds.bytes >> 20,
        bounded.remembered_count(),
        held().saturating_sub(before) >> 20
    );
    drop((bounded, tokens));

    let mut group = criterion.benchmark_group("verify");
    let forgetful = verifier(&runtime, &signers, RememberedSettings { tokens: 0, bytes: 0 });
    for (name, token) in [
        ("cold/RS256", signers.token("RS256", &claims(0, 8))),
        ("cold/ES256", signers.token("ES256", &claims(0, 8))),
        ("cold/EdDSA", signers.token("EdDSA", &claims(0, 8))),
        ("cold/RS256_32KiB", signers.token("RS256", &claims(0, 620))),
    ] {
        group.throughput(Throughput::Bytes(token.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| runtime.block_on(forgetful.authenticate(black_box(&token))).expect("accepted"));
        });
    }

    for identities in [1, 10_000.min(many), many] {
        let room = RememberedSettings { tokens: identities * 2, bytes: identities * 16_384 + (1 << 20) };
        let verifier = verifier(&runtime, &signers, room);
        let before = held();
        let tokens = remember(&verifier, &signers, identities);
        if identities == many {
            let sample: u64 = tokens.iter().map(|token| token.capacity() as u64).sum();
            let each = held().saturating_sub(before + sample) / many;
            println!("{many} identities, {} remembered: {each} bytes each", verifier.remembered_count());
        }
        // A stride that visits all and never neighbours, so that the processor's caches are cold.
        let mut at = 0;
        group.bench_function(format!("process/{identities}"), |b| {
            b.iter(|| {
                at = (at + 7_919) % tokens.len();
                verifier.remembered(black_box(&tokens[at])).expect("remembered")
            });
        });
    }
    let verifier = verifier(&runtime, &signers, RememberedSettings::default());
    for (name, groups) in [("connection/1.3KB", 8), ("process/32KiB", 620)] {
        let header = format!("Bearer {}", signers.token("RS256", &claims(0, groups)));
        let header = HeaderValue::from_str(&header).expect("a header");
        let token = bearer::token(&header).expect("a token");
        runtime.block_on(verifier.authenticate(token)).expect("accepted");
        let mut memo = ConnectionMemo::default();
        group.bench_function(name, |b| {
            b.iter(|| verifier.recall(&mut memo, black_box(&header)).expect("recalled"));
        });
    }
    group.finish();
}

criterion_group!(benches, verify);
criterion_main!(benches);
