//! The rooms and who may know whom: read from the sources, so that the map stays true.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot read the sources should say so and stop"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// May be imported by every room.
const GROUND: &[&str] = &["time", "secrets", "telemetry", "http", "net", "placeholder", "yaml", "cloud"];

/// Each room and what it may import besides the ground.
const ROOMS: &[(&str, &[&str])] = &[
    ("client", &[]),
    ("azureml", &[]),
    ("store", &[]),
    ("identity", &["store"]),
    ("policy", &["identity", "azureml"]),
    ("gates", &["policy", "identity", "azureml", "store"]),
    ("audit", &["gates", "policy", "identity", "azureml"]),
    // A channel is a sink of the record that says more of approvals than the record does.
    ("notify", &["audit", "gates", "policy"]),
    ("credentials", &["audit", "gates", "identity", "azureml", "policy"]),
    ("upstream", &["credentials", "azureml", "audit", "identity"]),
    ("listen", &[]),
    ("lineage", &["gates", "audit", "credentials", "identity", "azureml", "store"]),
    // The forward proxy hands the tunnels that it accepts back to `listen`, which ends their TLS.
    (
        "proxy",
        &[
            "upstream",
            "credentials",
            "audit",
            "gates",
            "policy",
            "identity",
            "azureml",
            "listen",
            "store",
            "lineage",
        ],
    ),
    // A run is a call like any other, and what came of it is recorded by whoever works on it.
    ("triggers", &["proxy", "gates", "audit", "policy", "identity", "azureml", "store"]),
    // A call to the API is an operation like any other: named, judged and recorded as one.
    ("admin", &["lineage", "gates", "audit", "policy", "identity", "azureml", "store"]),
    (
        "config",
        &[
            "listen",
            "identity",
            "azureml",
            "policy",
            "gates",
            "audit",
            "credentials",
            "upstream",
            "proxy",
            "admin",
            "lineage",
            "notify",
        ],
    ),
];

/// What the sandbox judges, and so may not share code with (DECISIONS 32).
const NOT_IN_SANDBOX: &[&str] = &["azureml", "upstream", "credentials"];

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found
}

/// The rooms that a source names through `crate::`, tests left out.
fn imports(text: &str) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]").next().unwrap_or(text);
    let code: String =
        code.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let word = |s: &str| s.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        if let Some(list) = rest.strip_prefix('{') {
            let mut depth = 0_u32;
            let mut start = true;
            for (i, c) in list.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => start = true,
                    c if c.is_alphabetic() && start && depth == 0 => {
                        found.insert(word(&list[i..]));
                        start = false;
                    }
                    _ => {}
                }
            }
        } else {
            found.insert(word(rest));
        }
    }
    found
}

fn room_of(path: &Path) -> String {
    let below = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let first = below.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// Whether a source is compiled for tests only: like the tests inside a source, it may know what its
/// room may not (the sandbox, above all).
fn is_test(path: &Path) -> bool {
    let below = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap();
    below.components().any(|c| matches!(c.as_os_str().to_str(), Some("tests" | "tests.rs")))
}

fn all_imports() -> BTreeMap<String, BTreeMap<PathBuf, BTreeSet<String>>> {
    let mut rooms: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for path in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let text = fs::read_to_string(&path).unwrap();
        rooms.entry(room_of(&path)).or_default().insert(path, imports(&text));
    }
    rooms
}

#[test]
fn every_room_imports_only_what_it_may_know() {
    let rooms = all_imports();
    let names: BTreeSet<&str> = rooms.keys().map(String::as_str).collect();
    let mut wrong = Vec::new();
    for (room, may) in ROOMS {
        for (path, imports) in rooms[*room].iter().filter(|(path, _)| !is_test(path)) {
            for import in imports.iter().map(String::as_str).filter(|i| names.contains(i) && i != room) {
                if !may.contains(&import) && !GROUND.contains(&import) {
                    wrong.push(format!("{} imports `{import}`, which `{room}` may not know", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_ground_imports_nothing_but_the_ground() {
    let rooms = all_imports();
    for room in GROUND {
        for (path, imports) in rooms[*room].iter().filter(|(path, _)| !is_test(path)) {
            for import in imports.iter().filter(|i| rooms.contains_key(*i) && i != room) {
                assert!(GROUND.contains(&import.as_str()), "{} imports `{import}`", path.display());
            }
        }
    }
}

#[test]
fn the_sandbox_shares_no_code_with_the_rooms_that_it_judges() {
    for (path, imports) in &all_imports()["sandbox"] {
        for import in imports {
            assert!(!NOT_IN_SANDBOX.contains(&import.as_str()), "{} imports `{import}`", path.display());
        }
    }
}

#[test]
fn every_room_is_on_the_map() {
    let open: BTreeSet<&str> = ["main", "lib", "server", "cli", "sandbox"].into();
    let known: BTreeSet<&str> =
        ROOMS.iter().map(|(r, _)| *r).chain(GROUND.iter().copied()).chain(open).collect();
    for room in all_imports().keys() {
        assert!(known.contains(room.as_str()), "`{room}` is not on the map of tests/architecture.rs");
    }
}

/// Names of metrics in a text.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let name =
        |rest: &str| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>();
    text.match_indices("amlgate_")
        .map(|(at, _)| name(&text[at..]))
        .map(|name| name.trim_end_matches("_bucket").to_owned())
        .collect()
}

#[test]
fn dashboards_and_alerts_name_only_metrics_that_the_gate_has() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let counted: BTreeSet<String> = sources(&root.join("src"))
        .iter()
        .flat_map(|path| {
            let text = fs::read_to_string(path).unwrap();
            let quoted = text.split('"').filter(|t| t.starts_with("amlgate_")).map(ToOwned::to_owned);
            quoted.collect::<Vec<_>>()
        })
        .collect();
    for file in ["integrations/grafana/amlgate.json", "integrations/prometheus/alerts.yaml"] {
        let text = fs::read_to_string(root.join(file)).unwrap();
        let named = metrics_in(&text);
        assert!(named.len() >= 5, "{file}: {named:?}");
        let unknown: Vec<_> = named.difference(&counted).collect();
        assert!(unknown.is_empty(), "{file} names {unknown:?}, which nothing counts");
    }
}

/// Parts of Azure's own names, as they stand in host names and resources.
const AZURES: &[&str] = &[
    "microsoftonline",
    "sts.windows.net",
    "login.windows.net",
    "azure.com",
    "azure.us",
    "azure.cn",
    "azureml.ms",
    "core.windows.net",
    "vault.azure.net",
    "graph.microsoft",
    "graph.windows.net",
    "usgovcloudapi",
    "chinacloudapi",
    "azurecr.",
];

#[test]
fn what_azure_is_called_stands_in_one_table() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for path in sources(&src).iter().filter(|path| !is_test(path)) {
        // The sandbox plays Azure and may not believe the gate about it.
        if path.starts_with(src.join("sandbox")) || *path == src.join("cloud.rs") {
            continue;
        }
        let text = fs::read_to_string(path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or(&text);
        for (number, line) in (1..).zip(code.lines()) {
            // Comments and help explain by example; messages may too, but nothing is compared with them.
            let said = line.trim_start().starts_with("//");
            if !said && AZURES.iter().any(|name| line.contains(name)) {
                wrong.push(format!("{}:{number}: {}", path.display(), line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "take these from src/cloud.rs:\n{}", wrong.join("\n"));
}

/// The documents of a YAML file.
fn documents(file: &str) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    text.split("\n---\n").map(|one| serde_yaml::from_str(one).unwrap()).collect()
}

/// The words of the program's verbs, and the options of `serve`.
fn serve_is(words: &[&str]) {
    assert_eq!(words, ["serve", "--config", "/etc/amlgate/amlgate.yaml"]);
    let verbs = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/mod.rs")).unwrap();
    assert!(verbs.contains("Serve("), "`serve` is a verb");
}

#[test]
fn the_cluster_gives_each_replica_its_own_journal_and_few_rights() {
    let all = documents("integrations/kubernetes/amlgate.yaml");
    let set = all.iter().find(|one| one["kind"] == "StatefulSet").unwrap();
    let pod = &set["spec"]["template"]["spec"];
    let gate = &pod["containers"][0];
    let words: Vec<_> = gate["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    serve_is(&words);
    let claim = &set["spec"]["volumeClaimTemplates"][0]["metadata"]["name"];
    let mounts = gate["volumeMounts"].as_array().unwrap();
    assert!(mounts.iter().any(|mount| mount["name"] == *claim), "a volume for each replica");
    // What is mounted exists, and nothing else is written to.
    let volumes = pod["volumes"].as_array().unwrap();
    for mount in mounts.iter().filter(|mount| mount["name"] != *claim) {
        assert!(volumes.iter().any(|volume| volume["name"] == mount["name"]), "{mount}");
        assert_eq!(mount["readOnly"], true, "{mount}");
    }
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(gate["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(gate["securityContext"]["capabilities"]["drop"][0], "ALL");
    // The probes ask for what is served, on a port that is named.
    let health =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/admin/health.rs")).unwrap();
    for probe in ["readinessProbe", "livenessProbe"] {
        let get = &gate[probe]["httpGet"];
        assert!(health.contains(&format!(".route({},", get["path"])), "{probe}: {get}");
        let ports = gate["ports"].as_array().unwrap();
        assert!(ports.iter().any(|port| port["name"] == get["port"]), "{probe}: {get}");
    }
    // Whoever is drained has the time to.
    assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() > 30, "`timeouts.drain` is 30 s");
}

#[test]
fn the_unit_starts_a_verb_that_there_is() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("integrations/systemd/amlgate.service");
    let unit = fs::read_to_string(unit).unwrap();
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    serve_is(&start.split(' ').skip(1).collect::<Vec<_>>());
    assert!(unit.contains("Type=notify"), "`serve` says when it is ready");
}

/// The settings of checkers, which no build reads.
const CHECKERS: &[&str] = &["clippy.toml", "deny.toml", "rustfmt.toml"];

#[test]
fn the_image_is_built_from_everything_that_the_build_reads() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let recipe = fs::read_to_string(top.join("integrations/container/Dockerfile")).unwrap();
    let copied: BTreeSet<_> = recipe
        .lines()
        .filter_map(|line| line.strip_prefix("COPY "))
        .filter(|what| !what.starts_with("--from"))
        .flat_map(|what| what.rsplit_once(' ').unwrap().0.split(' ').map(str::to_owned))
        .collect();
    let there = fs::read_dir(top).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let read = there.filter(|name| {
        let settings = name.ends_with(".toml") || name.ends_with(".lock");
        settings && !CHECKERS.contains(&&**name) || ["src", "policies", "benches", "tests"].contains(&&**name)
    });
    let missing: Vec<_> = read.filter(|name| !copied.contains(name)).collect();
    assert!(missing.is_empty(), "the Dockerfile copies no {missing:?}");
}
