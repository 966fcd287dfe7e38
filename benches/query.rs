//! How long a search in a large log takes: one person's day among ten million records.
//!
//! `AMLGATE_BENCH_RECORDS` says how many (10,000,000 by default, about 5 GB below the temporary
//! folder); the log is written once and thrown away.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench that cannot go on should say so and stop"
)]

use std::{
    fs,
    io::{BufWriter, Write},
    path::Path,
    time::{Duration, Instant},
};

use amlgate::{
    audit::{
        merkle::{self, Range},
        note::{Signer, VerifierKeys},
        query::{Bounds, Filter, Look, refresh, search},
    },
    time::Timestamp,
};

const START: u64 = 1_764_547_200_000;
/// A hundred days.
const SPAN: u64 = 100 * 86_400_000;
const PEOPLE: u64 = 500;
const SEGMENT: u64 = 64 << 20;
/// Of the older heads of a log one stays for so many records.
const HEADS: u64 = 1_024;

/// A record, as short as one may be and still be found by everything that is asked for.
fn record(number: u64, time: u64) -> String {
    let (person, job) = (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % PEOPLE, number % 9_973);
    format!(
        r#"{{"action_id":1,"activity_id":3,"actor":{{"idp":{{"name":"corp"}},"user":{{"uid":"corp:person-{person}"}}}},"api":{{"operation":"Microsoft.MachineLearningServices/workspaces/jobs/write"}},"class_uid":6003,"resources":[{{"name":"job-{job}","uid":"/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w/jobs/job-{job}"}}],"time":{time},"unmapped":{{"amlgate":{{"decision":"01a229f0-0000-7000-8000-{number:012}","phase":"outcome"}}}}}}"#
    )
}

fn write(directory: &Path, signer: &Signer, records: u64) {
    let hex = |hash: &[u8; 32]| hash.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let mut range = Range::default();
    let mut heads = BufWriter::new(fs::File::create(directory.join("heads")).unwrap());
    let mut number = 0;
    while number < records {
        let name = format!("{number:020}");
        let mut segment = BufWriter::new(fs::File::create(directory.join(format!("{name}.log"))).unwrap());
        let mut index = BufWriter::new(fs::File::create(directory.join(format!("{name}.idx"))).unwrap());
        let stack: Vec<String> = range.stack().iter().map(hex).collect();
        let header = format!(
            "{{\"amlgate_segment\":1,\"origin\":\"bench\",\"first\":{number},\"range\":{}}}\n",
            serde_json::to_string(&stack).unwrap()
        );
        segment.write_all(header.as_bytes()).unwrap();
        let mut offset = header.len() as u64;
        while number < records && offset < SEGMENT {
            let line = record(number, START + number * SPAN / records);
            let leaf = merkle::leaf(line.as_bytes());
            index.write_all(&offset.to_le_bytes()).unwrap();
            index.write_all(&leaf).unwrap();
            segment.write_all(line.as_bytes()).unwrap();
            segment.write_all(b"\n").unwrap();
            offset += line.len() as u64 + 1;
            range.push(leaf);
            number += 1;
            // As many heads as stay of a log that is signed every ten seconds.
            if number.is_multiple_of(HEADS) && number < records && offset < SEGMENT {
                writeln!(heads, "{}", signer.sign(range.size(), &range.root())).unwrap();
            }
        }
        segment.flush().unwrap();
        index.flush().unwrap();
        writeln!(heads, "{}", signer.sign(range.size(), &range.root())).unwrap();
    }
    heads.flush().unwrap();
}

fn main() {
    // `cargo test --benches` asks for a short run.
    let short = std::env::args().any(|argument| argument == "--test");
    let records = std::env::var("AMLGATE_BENCH_RECORDS").ok().and_then(|n| n.parse().ok());
    let records: u64 = records.unwrap_or(if short { 20_000 } else { 10_000_000 });
    let directory = tempfile::tempdir().unwrap();
    let pem = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
    let signer = Signer::from_pem("bench", pem.as_bytes()).unwrap();
    let keys = VerifierKeys::from(signer.verifier());
    let begun = Instant::now();
    write(directory.path(), &signer, records);
    let heads = fs::metadata(directory.path().join("heads")).unwrap().len() >> 10;
    println!(
        "{records} records written in {:.1} s, their heads are {heads} KiB",
        begun.elapsed().as_secs_f64()
    );
    let begun = Instant::now();
    refresh(directory.path()).unwrap();
    println!("index made in {:.1} s", begun.elapsed().as_secs_f64());
    let day = Timestamp::from_millis(START + SPAN / 2);
    let filter = Filter {
        caller: Some("corp:person-7".to_owned()),
        since: Some(day),
        until: Some(day.plus(Duration::from_secs(86_400))),
        ..Filter::default()
    };
    let mut times = Vec::new();
    for _ in 0..20 {
        let begun = Instant::now();
        let page =
            search(directory.path(), &keys, &filter, Look::Indexed, 0, Bounds::records(usize::MAX)).unwrap();
        times.push(begun.elapsed());
        assert!(!page.found.is_empty() && page.found.iter().all(|found| found.vouched));
    }
    times.sort();
    let page =
        search(directory.path(), &keys, &filter, Look::Indexed, 0, Bounds::records(usize::MAX)).unwrap();
    println!(
        "one person's day: {} records, median {:.1} ms, slowest {:.1} ms",
        page.found.len(),
        times[times.len() / 2].as_secs_f64() * 1e3,
        times[times.len() - 1].as_secs_f64() * 1e3
    );
}
