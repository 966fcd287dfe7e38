//! What is stated is what was decided by, whoever changes a byte of it is found out, and stock readers
//! would find what the specifications ask for (`tests/interop/lineage` asks them).

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::time::Timestamp;

mod golden;
mod hostile;
mod kept;
mod keys;
mod made;

pub const GATE: &str = "https://amlgate.example.com";
pub const MODEL: &str = "azureml://subscriptions/s/resourceGroups/g/workspaces/w/models/churn/versions/3";

/// The same key each time, so that the same statement is the same envelope.
pub fn ed25519() -> SigningKey {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let der = pair.to_pkcs8().unwrap();
    SigningKey::from_pem(pem::encode(&pem::Pem::new("PRIVATE KEY", der.as_ref())).as_bytes()).unwrap()
}

pub fn p256() -> SigningKey {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    SigningKey::from_pem(key.serialize_pem().as_bytes()).unwrap()
}

fn dependency(name: &str, id: &str, basis: Basis) -> Dependency {
    Dependency { name: name.to_owned(), id: id.to_owned(), content: None, basis }
}

pub fn custody() -> Custody {
    let at = |secs: u64| Timestamp::from_secs(1_800_000_000 + secs);
    let workspace = "azureml://subscriptions/s/resourceGroups/g/workspaces/w";
    Custody {
        model: Asset { id: ModelId::parse(MODEL).unwrap(), content: None },
        job: Job {
            id: format!("{workspace}/jobs/olive_tree_1"),
            started: Some(at(0)),
            finished: Some(at(3_600)),
            code: Some(Dependency {
                content: Some([0xc0; 32]),
                ..dependency("code", &format!("{workspace}/codes/c/versions/1"), Basis::Read)
            }),
            environment: Some(dependency(
                "environment",
                &format!("{workspace}/environments/sklearn/versions/5"),
                Basis::Read,
            )),
            data: vec![
                dependency("test", &format!("{workspace}/data/churn-test/versions/2"), Basis::Read),
                dependency("train", &format!("{workspace}/data/churn/versions/7"), Basis::Claimed),
            ],
            metrics: vec![
                Metric { name: "accuracy".to_owned(), value: "0.93".to_owned() },
                Metric { name: "loss \"val\"".to_owned(), value: "1e-3".to_owned() },
            ],
        },
        source: Source {
            repository: "https://gerrit.example.com/ml/vision".to_owned(),
            project: "ml/vision".to_owned(),
            branch: "main".to_owned(),
            commit: "b2b5f7c8fb8f96312d629d4d4f379f34f5b9b651".to_owned(),
            basis: Basis::Witnessed,
        },
        change: Change {
            number: "42".to_owned(),
            url: "https://gerrit.example.com/c/ml/vision/+/42".to_owned(),
            meta_revision: Some("9f0c".repeat(10)),
            owner: Some("ana@example.com".to_owned()),
            merged: Some(at(0)),
            approvers: vec![
                Approver {
                    account: "1000002".to_owned(),
                    person: Some("corp:bo".to_owned()),
                    label: Some("Code-Review".to_owned()),
                    value: Some(2),
                },
                Approver { account: "1000003".to_owned(), person: None, label: None, value: None },
            ],
        },
        decided: Decided {
            decision: "01890000-0000-7000-8000-000000000001".to_owned(),
            policy: [0xab; 32],
            entry: "models come from reviewed code".to_owned(),
            caller: "github:repo:ml/vision".to_owned(),
            at: at(3_700),
        },
    }
}

pub fn opened(statement: &[u8], key: &SigningKey) -> Statement {
    let envelope = Envelope::parse(&seal(statement, key).unwrap()).unwrap();
    envelope.open(&[key.public().clone()]).unwrap().statement
}

#[test]
fn a_chain_is_read_back_as_it_was_stated() {
    let custody = custody();
    let statement = opened(&provenance(&custody, GATE).unwrap(), &p256());
    assert_eq!(statement.predicate_type(), PROVENANCE);
    let chain = Chain::of(&statement).unwrap();
    assert_eq!((&*chain.model, &*chain.job), (MODEL, &*custody.job.id));
    assert_eq!((&*chain.commit.id, chain.commit.basis), (&*custody.source.commit, Basis::Witnessed));
    assert_eq!(chain.approvers, ["1000002 (corp:bo): Code-Review +2", "1000003"]);
    assert_eq!((&*chain.change, &*chain.change_url), ("42", &*custody.change.url));
    assert_eq!(chain.data["train"].basis, Basis::Claimed);
    assert_eq!(chain.metrics["loss \"val\""], "1e-3");
    assert_eq!(chain.code.unwrap().digest, Some(format!("sha256:{}", "c0".repeat(32))));
    assert_eq!(chain.policies, "ab".repeat(32));
    assert_eq!((&*chain.gate, &*chain.decided), (GATE, "2027-01-15T09:01:40.000Z"));
    let summary = opened(&summary(&custody, GATE, &[1; 32]).unwrap(), &p256());
    assert_eq!(Chain::of(&summary), None, "a summary tells of no chain");
}

#[test]
fn a_digest_of_an_id_is_never_taken_for_one_of_content() {
    let mut custody = custody();
    let subject =
        |custody: &Custody| opened(&provenance(custody, GATE).unwrap(), &ed25519()).subjects()[0].clone();
    let by_id = subject(&custody);
    assert_eq!(by_id.digest_of.as_deref(), Some("id"));
    let [(algorithm, value)] = &*by_id.digest else { panic!("{by_id:?}") };
    assert_eq!(algorithm, "azuremlAssetId");
    // However the id is spelled, it is the same digest.
    custody.model.id = ModelId::parse(&MODEL.to_uppercase()).unwrap();
    assert_eq!(&subject(&custody).digest[0].1, value);
    custody.model.content = Some([5; 32]);
    let by_content = subject(&custody);
    assert_eq!(by_content.digest, [("sha256".to_owned(), "05".repeat(32))]);
    assert_eq!(by_content.digest_of.as_deref(), Some("content"));
}

#[test]
fn what_would_be_cut_or_rewritten_is_not_stated() {
    let refused = |change: &dyn Fn(&mut Custody)| {
        let mut facts = custody();
        change(&mut facts);
        let error = provenance(&facts, GATE).unwrap_err();
        assert_eq!(summary(&facts, GATE, &[0; 32]).unwrap_err(), error);
        error
    };
    assert!(matches!(refused(&|c| c.change.url = "u".repeat(3_000)), CustodyError::Text(_)));
    assert!(matches!(refused(&|c| c.decided.caller = "corp:\u{202e}ann".to_owned()), CustodyError::Text(_)));
    assert!(matches!(refused(&|c| c.source.branch = String::new()), CustodyError::Text(_)));
    assert!(matches!(refused(&|c| c.job.data[0].id = "a\nb".to_owned()), CustodyError::Text(_)));
    assert_eq!(refused(&|c| c.source.commit = "main".to_owned()), CustodyError::Commit);
    assert_eq!(refused(&|c| c.source.commit = "B2B5".repeat(10)), CustodyError::Commit);
    assert_eq!(refused(&|c| c.change.approvers.clear()), CustodyError::NoApprover);
    let many = vec![Metric { name: "m".to_owned(), value: "1".to_owned() }; 257];
    assert!(matches!(refused(&|c| c.job.metrics.clone_from(&many)), CustodyError::Many("metrics")));
}

#[test]
fn two_models_differ_in_what_went_into_them() {
    let chain =
        |custody: &Custody| Chain::of(&opened(&provenance(custody, GATE).unwrap(), &ed25519())).unwrap();
    let first = chain(&custody());
    assert_eq!(differences(&first, &first), []);
    let mut other = custody();
    other.model.id = ModelId::parse("azureml://registries/r/models/churn/versions/4").unwrap();
    other.source.commit = "0".repeat(40);
    other.job.environment = None;
    other.job.data[0].content = Some([1; 32]);
    other.job.metrics[0].value = "0.95".to_owned();
    other.job.metrics.push(Metric { name: "auc".to_owned(), value: "0.5".to_owned() });
    let found = differences(&first, &chain(&other));
    let whats: Vec<&str> = found.iter().map(|one| &*one.what).collect();
    assert_eq!(whats, ["commit", "environment", "data test", "metric accuracy", "metric auc"]);
    assert_eq!((found[1].second.as_deref(), found[4].first.as_deref()), (None, None));
    assert_eq!(found[3].second.as_deref(), Some("0.95"));
}

prop_compose! {
    fn words()(text in "[ -~é漢\u{1f512}]{1,60}") -> String { text }
}

proptest! {
    #[test]
    fn any_facts_are_canonical_and_read_back(
        (project, branch, entry) in (words(), words(), words()),
        (account, number) in (words(), words()),
        (metric, value) in (words(), words()),
        data in prop::collection::btree_map(words(), words(), 0..4),
    ) {
        let mut facts = custody();
        facts.source.project.clone_from(&project);
        facts.source.branch.clone_from(&branch);
        facts.decided.entry.clone_from(&entry);
        facts.change.number.clone_from(&number);
        facts.change.approvers.truncate(1);
        facts.change.approvers[0] =
            Approver { account: account.clone(), person: None, label: None, value: None };
        facts.job.metrics = vec![Metric { name: metric.clone(), value: value.clone() }];
        facts.job.data = data.iter().map(|(name, id)| dependency(name, id, Basis::Read)).collect();
        let bytes = provenance(&facts, GATE).unwrap();
        // Another library's members in order, and its escapes.
        let value_of: Value = serde_json::from_slice(&bytes).unwrap();
        prop_assert_eq!(&serde_json::to_vec(&value_of).unwrap(), &bytes);
        let chain = Chain::of(&Statement::parse(&bytes).unwrap()).unwrap();
        prop_assert_eq!((chain.project, chain.branch, chain.entry), (project, branch, entry));
        prop_assert_eq!((chain.approvers, chain.change), (vec![account], number));
        prop_assert_eq!(chain.metrics.get(&metric), Some(&value));
        let read: std::collections::BTreeMap<_, _> =
            chain.data.into_iter().map(|(name, link)| (name, link.id)).collect();
        prop_assert_eq!(read, data);
    }
}
