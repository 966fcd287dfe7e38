//! What was let in is stated once, kept, and checked again when it is read.

use super::*;
use crate::{
    audit::event::{Event, Signed},
    store::{Store, StoreAddress},
};

struct Bench {
    store: Store,
    statements: Statements,
    directory: tempfile::TempDir,
}

fn bench(key: SigningKey) -> Bench {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::new(StoreAddress::Sqlite(directory.path().join("amlgate.db"))).unwrap();
    let statements = Statements::new(store.clone(), Keys::new(key, Vec::new(), GATE));
    Bench { store, statements, directory }
}

fn signed(event: &Event) -> &Signed {
    let Event::Stated { stated: Ok(signed), .. } = event else { panic!("{event:?}") };
    signed
}

const NOW: Timestamp = Timestamp::from_secs(1_800_010_000);

#[tokio::test]
async fn a_decision_states_a_model_once_and_the_event_tells_of_what_is_kept() {
    // Two signatures of ECDSA are never the same: the first stays.
    let bench = bench(p256());
    let facts = custody();
    let first = bench.statements.made(&facts, NOW).await;
    let again = bench.statements.made(&facts, NOW.plus(std::time::Duration::from_secs(5))).await;
    assert_eq!(signed(&first), signed(&again));
    let rows = bench.store.statements_of(facts.model.id.folded(), 9).await.unwrap();
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    assert_eq!((row.made, &*row.named, &*row.decision), (NOW, MODEL, &*facts.decided.decision));
    assert_eq!(row.id, crate::audit::note::hex(&signed(&first).provenance));
    assert_eq!(row.digest, facts.model.digest());
    let keys = bench.statements.keys();
    let chain = Chain::of(&checked(&row.provenance, &keys).unwrap()).unwrap();
    assert_eq!((&*chain.model, &*chain.commit.id), (MODEL, &*facts.source.commit));
    let summary = checked(&row.summary, &keys).unwrap();
    let rests_on = summary.predicate()["inputAttestations"][0]["digest"]["sha256"].as_str().unwrap();
    assert_eq!(rests_on, row.id, "the summary names the envelope that is kept");
    assert_eq!(signed(&first).key, keys.trusted()[0].id().as_str());
}

#[tokio::test]
async fn what_cannot_be_stated_or_kept_is_told_and_not_kept() {
    let bench = bench(ed25519());
    let mut facts = custody();
    facts.change.approvers.clear();
    let told = |event: Event| {
        let Event::Stated { stated: Err(problem), model, .. } = event else { panic!("{event:?}") };
        (problem, model)
    };
    let (problem, model) = told(bench.statements.made(&facts, NOW).await);
    assert_eq!((&*problem, &*model), ("nobody approved the change", MODEL));
    assert!(bench.store.statements_of(facts.model.id.folded(), 9).await.unwrap().is_empty());
    // A file that is no database.
    let path = bench.directory.path().join("other.db");
    std::fs::write(&path, vec![b'x'; 8_192]).unwrap();
    let store = Store::new(StoreAddress::Sqlite(path)).unwrap();
    let statements = Statements::new(store, Keys::new(ed25519(), Vec::new(), GATE));
    let (problem, _) = told(statements.made(&custody(), NOW).await);
    assert!(problem.starts_with("the statement could not be kept: "), "{problem}");
}

#[tokio::test]
async fn a_rotated_key_is_believed_as_long_as_it_is_named_and_a_changed_store_never() {
    let bench = bench(ed25519());
    let facts = custody();
    bench.statements.made(&facts, NOW).await;
    let row = bench.store.statements_of(facts.model.id.folded(), 1).await.unwrap().remove(0);
    bench.statements.exchange(Keys::new(p256(), vec![ed25519().public().clone()], GATE));
    assert!(checked(&row.provenance, &bench.statements.keys()).is_ok());
    bench.statements.exchange(Keys::new(p256(), Vec::new(), GATE));
    let refused = checked(&row.provenance, &bench.statements.keys()).unwrap_err();
    assert!(matches!(refused, EnvelopeError::Stranger { .. }), "{refused}");
    // Whoever can write to the store cannot state anything.
    let forged = row.provenance.replacen("\"payload\":\"", "\"payload\":\"AAAA", 1);
    let keys = Keys::new(ed25519(), Vec::new(), GATE);
    assert!(matches!(checked(&forged, &keys), Err(EnvelopeError::Signature(_))));
}
