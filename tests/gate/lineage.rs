//! Where models came from is told to those whom the policies let read it, and nothing is called
//! verified that the gate's keys do not vouch for: over the API, in a terminal and in the console.

use std::{
    fs,
    process::{Command, Output},
    time::Duration,
};

use amlgate::{
    lineage::{
        Approver, Asset, Basis, Change, Custody, Decided, Dependency, Job, Keys, Metric, ModelId, SigningKey,
        Source, Statements,
    },
    store::{StatementRow, Store, StoreAddress},
    time::Timestamp,
};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    api::{ask, call, request, token},
    sessions::Browser,
    world::{Answer, Changes, World, fed, whole, workspace},
};

const GATE: &str = "https://amlgate.example.com";
const SHA: &str = "b2b5f7c8fb8f96312d629d4d4f379f34f5b9b651";
const BEGUN: Timestamp = Timestamp::from_secs(1_790_000_000);

fn at(secs: u64) -> Timestamp {
    BEGUN.plus(Duration::from_secs(secs))
}

fn model(version: &str) -> String {
    let id = ModelId::parse(&workspace(&format!("/models/churn/versions/{version}"))).unwrap();
    id.as_str().to_owned()
}

/// The facts of a version of the model `churn`, which came from the commit that ends so.
fn facts(version: &str, number: u64, commit: &str) -> Custody {
    let home = workspace("");
    Custody {
        model: Asset { id: ModelId::parse(&model(version)).unwrap(), content: None },
        job: Job {
            id: format!("azureml:/{home}/jobs/train_{version}"),
            started: Some(at(0)),
            finished: Some(at(60)),
            code: None,
            environment: None,
            data: vec![Dependency {
                name: "train".to_owned(),
                id: format!("azureml:/{home}/data/churn/versions/7"),
                content: None,
                basis: Basis::Claimed,
            }],
            metrics: vec![Metric { name: "accuracy".to_owned(), value: format!("0.9{number}") }],
        },
        source: Source {
            repository: "https://gerrit.example.com/ml/vision".to_owned(),
            project: "ml/vision".to_owned(),
            branch: "main".to_owned(),
            commit: commit.to_owned(),
            basis: Basis::Witnessed,
        },
        change: Change {
            number: (40 + number).to_string(),
            url: format!("https://gerrit.example.com/c/ml/vision/+/{}", 40 + number),
            meta_revision: None,
            owner: Some("<b>ana</b>".to_owned()),
            merged: Some(at(0)),
            approvers: vec![Approver {
                account: "1000002".to_owned(),
                person: Some("sandbox:user-rita".to_owned()),
                label: Some("Code-Review".to_owned()),
                value: Some(2),
            }],
        },
        decided: Decided {
            decision: format!("01890000-0000-7000-8000-{number:012}"),
            policy: [7; 32],
            entry: "models come from reviewed code".to_owned(),
            caller: "sandbox:user-sam".to_owned(),
            at: at(number),
        },
    }
}

fn store(world: &World) -> Store {
    Store::new(StoreAddress::Sqlite(world.directory().join("var/amlgate.db"))).unwrap()
}

/// Whoever states with the key of the gate, beside it.
fn gates_own(world: &World) -> Statements {
    let key = fs::read(world.directory().join("certs/evidence.key")).unwrap();
    Statements::new(store(world), Keys::new(SigningKey::from_pem(&key).unwrap(), Vec::new(), GATE))
}

fn strangers(world: &World) -> Statements {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let key = SigningKey::from_pem(key.serialize_pem().as_bytes()).unwrap();
    Statements::new(store(world), Keys::new(key, Vec::new(), GATE))
}

async fn row_of(world: &World, version: &str) -> StatementRow {
    store(world).statements_of(&model(version).to_lowercase(), 1).await.unwrap().remove(0)
}

/// Three versions that the gate stated: 1, 2 and 3, an hour apart.
async fn three(world: &World) {
    for number in 1..=3 {
        let commit = format!("{number}{}", &SHA[1..]);
        gates_own(world).made(&facts(&number.to_string(), number, &commit), at(3_600 * number)).await;
    }
}

async fn get(world: &World, path: &str) -> Answer {
    call(world, Method::GET, path, &token(world, "sam"), None).await
}

fn query(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

fn of(pairs: &[(&str, &str)]) -> String {
    format!("/api/v1/lineage/of?{}", query(pairs))
}

#[tokio::test]
async fn a_chain_is_read_by_every_name_of_the_model_and_that_is_recorded() {
    let world = World::new().await;
    three(&world).await;
    let nobody = request(&world, Method::GET, "/api/v1/lineage").body(whole("")).unwrap();
    assert_eq!(ask(&world, nobody).await.status, StatusCode::UNAUTHORIZED);
    let arm = workspace("/models/churn/versions/3");
    for name in [
        &[("model", &*model("3"))][..],
        &[("model", &*arm)],
        &[("model", "churn:3"), ("workspace", "VISION")],
    ] {
        let answer = get(&world, &of(name)).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let said = answer.json();
        assert_eq!((&said["model"], &said["verified"]), (&json!(model("3")), &json!(true)));
        assert_eq!(said["chain"]["commit"], json!({"id": format!("3{}", &SHA[1..]), "basis": "witnessed"}));
        assert_eq!(said["chain"]["approvers"], json!(["1000002 (sandbox:user-rita): Code-Review +2"]));
        assert_eq!(said["statements"][0]["id"], said["statement"]);
        assert_eq!(said["signers"].as_array().unwrap().len(), 1);
    }
    for (name, status) in [
        (&[("model", "churn:9"), ("workspace", "vision")][..], StatusCode::NOT_FOUND),
        (&[("model", "churn"), ("workspace", "vision")], StatusCode::BAD_REQUEST),
        (&[("model", "churn:3")], StatusCode::BAD_REQUEST),
        (&[("modell", "churn:3")], StatusCode::BAD_REQUEST),
    ] {
        let answer = get(&world, &of(name)).await;
        assert_eq!(answer.status, status, "{name:?}: {answer:?}");
    }
    // Another resource group may have a workspace of the same name.
    let mut twin = facts("3", 9, SHA);
    let elsewhere = model("3").replace("/resourceGroups/", "/resourceGroups/x");
    twin.model.id = ModelId::parse(&elsewhere).unwrap();
    gates_own(&world).made(&twin, at(9_000)).await;
    let answer = get(&world, &of(&[("model", "churn:3"), ("workspace", "vision")])).await;
    assert_eq!(answer.status, StatusCode::CONFLICT, "{answer:?}");
    assert!(answer.text().contains(&elsewhere.to_lowercase()), "{answer:?}");
    let log = world.stop().await;
    let reads: Vec<_> =
        log.records.iter().filter(|record| record["api"]["operation"] == "amlgate/lineage/read").collect();
    assert!(reads.iter().all(|record| record["actor"]["user"]["uid"] == "sandbox:user-sam"), "{reads:?}");
    assert!(reads.len() >= 8, "{}", reads.len());
}

#[tokio::test]
async fn what_no_key_of_the_gate_vouches_for_is_not_called_verified_and_nothing_of_it_is_shown() {
    let world = World::new().await;
    three(&world).await;
    // Whoever can write to the store: a stranger's statement, and a good one under another model's name.
    strangers(&world).made(&facts("4", 4, &"e".repeat(40)), at(14_400)).await;
    let good = row_of(&world, "3").await;
    let moved = StatementRow {
        id: "f".repeat(64),
        model: model("5").to_lowercase(),
        tail: good.tail.replace("/3", "/5"),
        named: model("5"),
        ..good.clone()
    };
    assert!(store(&world).keep_statement(moved).await.unwrap());
    for (version, why) in [("4", "no signature is of a key"), ("5", "its id is not the digest")] {
        let answer = get(&world, &of(&[("model", &model(version))])).await;
        let said = answer.json();
        assert_eq!((&said["verified"], &said["chain"]), (&json!(false), &Value::Null), "{answer:?}");
        let line = &said["statements"][0];
        assert!(line["problem"].as_str().unwrap().contains(why), "{line}");
        assert_eq!((&line["commit"], &line["approvers"]), (&Value::Null, &json!([])));
        let id = line["id"].as_str().unwrap();
        let taken = get(&world, &format!("/api/v1/lineage/statements/{id}")).await;
        assert_eq!(
            (taken.status, taken.header("x-amlgate-verified")),
            (StatusCode::OK, "false"),
            "{taken:?}"
        );
    }
    let all = get(&world, "/api/v1/lineage").await.json();
    assert_eq!(all["statements"].as_array().unwrap().len(), 5);
    let verified = get(&world, "/api/v1/lineage?verified=true").await.json();
    let names: Vec<_> =
        verified["statements"].as_array().unwrap().iter().map(|line| line["name"].clone()).collect();
    assert_eq!(names, ["churn:3", "churn:2", "churn:1"]);
}

#[tokio::test]
async fn the_versions_that_can_be_rolled_back_to_are_listed_page_by_page() {
    let world = World::new().await;
    three(&world).await;
    let before = at(3 * 3_600).to_rfc3339();
    let filter =
        query(&[("verified", "true"), ("before", &before), ("model", "churn"), ("workspace", "vision")]);
    let first = get(&world, &format!("/api/v1/lineage?limit=1&{filter}")).await.json();
    assert_eq!(first["statements"][0]["name"], "churn:2", "{first}");
    assert_eq!(first["statements"][0]["commit"], format!("2{}", &SHA[1..]));
    let next = first["next"].as_str().unwrap();
    let second = get(&world, &format!("/api/v1/lineage?limit=1&{filter}&cursor={next}")).await.json();
    assert_eq!(second["statements"][0]["name"], "churn:1");
    let next = second["next"].as_str().unwrap();
    let last = get(&world, &format!("/api/v1/lineage?limit=1&{filter}&cursor={next}")).await.json();
    assert_eq!((&last["statements"], &last["next"]), (&json!([]), &Value::Null));
    let others = get(&world, "/api/v1/lineage?workspace=other").await.json();
    assert_eq!(others["statements"], json!([]));
}

fn amlgate(world: &World, arguments: &[&str]) -> Output {
    let nowhere = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_amlgate"));
    command.arg("lineage").args(arguments);
    command.args(["--as", "-", "--ca"]).arg(world.sandbox.ca());
    // The gate is named as shells do: that is no argument beside a verb.
    command.env("AMLGATE_HOME", nowhere.path()).env("AMLGATE_GATE", format!("https://{}", world.host()));
    tokio::task::block_in_place(|| fed(&mut command, &token(world, "sam")))
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_draws_checks_lists_and_compares_models_by_asking_the_gate() {
    let world = World::new().await;
    three(&world).await;
    strangers(&world).made(&facts("4", 4, SHA), at(14_400)).await;
    let key = world.directory().join("certs/evidence.pub");
    let key = key.to_str().unwrap();
    let vision = ["--workspace", "vision"];
    let run = |arguments: &[&str], code: i32| {
        let output = amlgate(&world, arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", said(&output));
        said(&output)
    };
    let drawn = run(&[&["churn:3"], &vision[..]].concat(), 0);
    for part in ["churn:3", &format!("3{}", &SHA[1..]), "approved by", "sandbox:user-rita", "the gate saw it"]
    {
        assert!(drawn.contains(part), "{part}: {drawn}");
    }
    assert_eq!(drawn, run(&[&model("3"), "--key", key], 0), "the same where it is checked here");
    let refused = run(&[&["churn:4"], &vision[..]].concat(), 1);
    assert!(refused.contains("refused: the provenance is refused"), "{refused}");
    assert!(run(&[&["churn:9"], &vision[..]].concat(), 1).contains("no statement is kept"));
    assert!(run(&["churn:3", "--key", key], 3).contains("--workspace"));
    assert!(run(&["churn:3"], 2).contains("--key"));

    let verified = run(&[&["verify", "churn:3", "churn:1"], &vision[..]].concat(), 0);
    assert_eq!(verified.matches(": verified, signed by").count(), 2, "{verified}");
    let here = run(&[&["verify", "churn:3", "--key", key, "-o", "json"], &vision[..]].concat(), 0);
    let verdicts: Value = serde_json::from_str(&here).unwrap();
    assert_eq!(verdicts.as_array().unwrap().len(), 2, "the provenance and the summary: {verdicts}");
    assert_eq!(verdicts[0]["model"], model("3"));
    run(&[&["verify", "churn:3", "churn:4"], &vision[..]].concat(), 1);
    // A gate's word is nothing to whoever trusts another key.
    let other = world.directory().join("other.pub");
    let stranger = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    fs::write(&other, stranger.public_key_pem()).unwrap();
    let other = other.to_str().unwrap();
    let refused = run(&[&["verify", "churn:3", "--key", other], &vision[..]].concat(), 1);
    assert!(refused.contains("no signature is of a key that is trusted here"), "{refused}");

    let listed = run(&["list", "--verified", "--before", &at(3 * 3_600).to_rfc3339()], 0);
    let lines: Vec<_> = listed.lines().collect();
    assert_eq!(lines.len(), 2, "{listed}");
    assert!(lines[0].contains("churn:2") && lines[0].contains("verified") && lines[1].contains("churn:1"));
    assert!(run(&["list"], 0).contains("refused   the provenance is refused"));
    assert!(run(&["list", "--before", "yesterday"], 1).contains("is a time"));

    let differs = run(&[&["diff", "churn:1", "churn:3"], &vision[..]].concat(), 0);
    for line in ["- metric accuracy  0.91", "+ metric accuracy  0.93"] {
        assert!(differs.contains(line), "{line}: {differs}");
    }
    assert!(!differs.contains("data train"), "{differs}");
    run(&[&["diff", "churn:1", "churn:4"], &vision[..]].concat(), 1);

    // What is taken along stands alone: no gate is asked.
    let row = row_of(&world, "3").await;
    let taken = get(&world, &format!("/api/v1/lineage/statements/{}", row.id)).await;
    assert_eq!((taken.status, taken.header("x-amlgate-verified")), (StatusCode::OK, "true"), "{taken:?}");
    assert_eq!(taken.header("content-type"), "application/vnd.in-toto.bundle");
    assert!(taken.header("content-disposition").contains("churn-3.intoto.jsonl"), "{taken:?}");
    let file = world.directory().join("churn-3.intoto.jsonl");
    fs::write(&file, &taken.body).unwrap();
    let keys = get(&world, "/api/v1/lineage/keys").await;
    assert_eq!(keys.text(), fs::read_to_string(key).unwrap(), "the key that the gate signs with");
    let alone = Command::new(env!("CARGO_BIN_EXE_amlgate"))
        .args(["lineage", "verify", "--key", key, "--model", &model("3")])
        .arg(&file)
        .env_remove("AMLGATE_GATE")
        .output()
        .unwrap();
    assert!(alone.status.success(), "{}", said(&alone));
    for (id, status) in [("0".repeat(64), StatusCode::NOT_FOUND), ("x".to_owned(), StatusCode::BAD_REQUEST)] {
        let answer = get(&world, &format!("/api/v1/lineage/statements/{id}")).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
}

#[tokio::test]
async fn the_console_shows_what_was_stated_and_the_chain_of_a_model() {
    let world = World::new().await;
    three(&world).await;
    strangers(&world).made(&facts("4", 4, &"e".repeat(40)), at(14_400)).await;
    let mut browser = Browser::new(&world);
    browser.sign_in("sam").await;
    let list = browser.get("/lineage").await.text();
    let link = |version: &str| format!("/lineage/of?{}", query(&[("model", &model(version))]));
    for version in ["1", "2", "3", "4"] {
        assert!(list.contains(&link(version).replace('&', "&#38;")), "{version}: {list}");
    }
    assert!(list.contains("<span class=\"tag denied\">refused</span>"), "{list}");
    assert!(!list.contains(&"e".repeat(12)), "nothing is shown of what nobody vouches for: {list}");
    let some =
        browser.get("/lineage?model=churn:2&workspace=vision&registry=&before=&verified=true").await.text();
    assert!(some.contains(">churn:2<") && !some.contains(">churn:3<"), "{some}");
    let wrong = browser.get("/lineage?before=yesterday").await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    assert!(wrong.text().contains("is a time"));

    let page = browser.get(&link("3")).await.text();
    for part in [
        "<span class=\"tag allowed\">verified</span>",
        &format!("3{}", &SHA[1..]),
        "href=\"https://gerrit.example.com/c/ml/vision/+/43\"",
        "1000002 (sandbox:user-rita): Code-Review +2",
        "the gate saw it",
        "only said",
        &format!("/api/v1/lineage/statements/{}", row_of(&world, "3").await.id),
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(!page.contains("<b>ana</b>") && page.contains("ana"), "{page}");
    assert!(page.contains(">churn:1<") && page.contains(">Compare</a>"), "{page}");
    let compared = browser.get(&format!("{}&{}", link("3"), query(&[("with", &model("1"))]))).await.text();
    assert!(compared.contains("metric accuracy") && compared.contains("0.91"), "{compared}");
    let nothing = browser.get(&format!("{}&{}", link("3"), query(&[("with", &model("4"))]))).await;
    assert!(nothing.text().contains("no statement of the other model holds"), "{nothing:?}");
    let forged = browser.get(&link("4")).await.text();
    assert!(forged.contains("No statement of this model holds") && !forged.contains(&"e".repeat(12)));
    assert_eq!(browser.get(&link("9")).await.status, StatusCode::NOT_FOUND);
}

const WITHOUT: &str = "version: 1
allow:
  - {name: they ask who they are, who: [authenticated], actions: [amlgate/whoami/read]}
";

#[tokio::test]
async fn who_may_not_read_where_models_came_from_is_told_so_and_sees_nothing() {
    let world = World::changed(Changes { configuration: &[], policies: Some(WITHOUT) }).await;
    three(&world).await;
    let id = row_of(&world, "3").await.id;
    for path in [
        "/api/v1/lineage".to_owned(),
        of(&[("model", &model("3"))]),
        "/api/v1/lineage/keys".to_owned(),
        format!("/api/v1/lineage/statements/{id}"),
    ] {
        let answer = get(&world, &path).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}: {answer:?}");
    }
    let mut browser = Browser::new(&world);
    browser.sign_in("sam").await;
    for page in ["/lineage".to_owned(), format!("/lineage/of?{}", query(&[("model", &model("3"))]))] {
        let answer = browser.get(&page).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{page}");
        assert!(!answer.text().contains(&SHA[1..12]), "{answer:?}");
    }
}

#[tokio::test]
async fn a_gate_that_states_nothing_says_so() {
    let configuration = [("evidence: {signing_key: {file: certs/evidence.key}}\n", "")];
    let world = World::changed(Changes { configuration: &configuration, policies: None }).await;
    for path in ["/api/v1/lineage", "/api/v1/lineage/keys", &of(&[("model", &model("3"))])] {
        let answer = get(&world, path).await;
        assert_eq!(answer.status, StatusCode::NOT_IMPLEMENTED, "{path}: {answer:?}");
        assert!(answer.text().contains("has no `evidence`"), "{answer:?}");
    }
}
