//! What was kept is believed by its signatures alone, whatever a row says; and is found by every name.

use std::time::Duration;

use super::*;
use crate::store::{StatementRow, Store, StoreAddress};

const NOW: Timestamp = Timestamp::from_secs(1_800_010_000);

struct Bench {
    statements: Statements,
    store: Store,
    _directory: tempfile::TempDir,
}

fn bench() -> Bench {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::new(StoreAddress::Sqlite(directory.path().join("amlgate.db"))).unwrap();
    let statements = Statements::new(store.clone(), Keys::new(ed25519(), Vec::new(), GATE));
    Bench { statements, store, _directory: directory }
}

/// The facts of another model, by another decision.
fn facts(model: &str, number: u32) -> Custody {
    let mut facts = custody();
    facts.model.id = ModelId::parse(model).unwrap();
    facts.decided.decision = format!("01890000-0000-7000-8000-{number:012}");
    facts
}

async fn row_of(bench: &Bench, facts: &Custody) -> StatementRow {
    bench.statements.made(facts, NOW).await;
    bench.store.statements_of(facts.model.id.folded(), 1).await.unwrap().remove(0)
}

fn why(keys: &Keys, row: &StatementRow) -> String {
    keys.check(row).unwrap_err().to_string()
}

#[tokio::test]
async fn no_column_of_a_row_is_believed_that_its_signatures_do_not_vouch_for() {
    let bench = bench();
    let (row, other) = (row_of(&bench, &custody()).await, row_of(&bench, &facts(OTHER, 2)).await);
    let keys = bench.statements.keys();
    let verified = keys.check(&row).unwrap();
    assert_eq!((&*verified.chain.model, verified.signers.len()), (MODEL, 1));
    let changed = |change: &dyn Fn(&mut StatementRow)| {
        let mut row = row.clone();
        change(&mut row);
        why(&keys, &row)
    };
    assert!(changed(&|r| r.id = "0".repeat(64)).contains("its id"), "found by another id");
    for about in [
        changed(&|r| r.model.clone_from(&other.model)),
        changed(&|r| r.tail.clone_from(&other.tail)),
        changed(&|r| r.named.clone_from(&other.named)),
    ] {
        assert!(about.contains("about another model"), "{about}");
    }
    assert!(changed(&|r| r.decision.clone_from(&other.decision)).contains("another decision"));
    assert!(changed(&|r| r.digest = "sha256:00".to_owned()).contains("another digest"));
    assert!(changed(&|r| r.summary.clone_from(&other.summary)).contains("not of this provenance"));
    assert!(changed(&|r| r.summary.clone_from(&r.provenance.clone())).contains("not of this provenance"));
    // A whole other statement under this one's id.
    let swapped = changed(&|r| r.provenance.clone_from(&other.provenance));
    assert!(swapped.contains("its id"), "{swapped}");
    let early = changed(&|r| r.made = Timestamp::from_secs(1_800_000_000));
    assert!(early.contains("before it was decided"), "so that it is no older than it can be: {early}");
    for envelope in [
        changed(&|r| r.provenance = r.provenance.replacen("\"payload\":\"e", "\"payload\":\"f", 1)),
        changed(&|r| r.summary = r.summary.replacen("\"payload\":\"e", "\"payload\":\"f", 1)),
        changed(&|r| r.summary = String::new()),
    ] {
        assert!(envelope.contains(" is refused: "), "{envelope}");
    }
    let strangers = Keys::new(p256(), Vec::new(), GATE);
    assert!(why(&strangers, &row).contains("no signature is of a key that is trusted"));
    let rotated = Keys::new(p256(), vec![ed25519().public().clone()], GATE);
    assert!(rotated.check(&row).is_ok(), "a key that signed before is believed as long as it is named");
}

const OTHER: &str = "azureml://subscriptions/s/resourceGroups/g/workspaces/w/models/churn/versions/4";
const ELSEWHERE: &str = "azureml://subscriptions/s/resourceGroups/h/workspaces/w/models/churn/versions/3";
const SHARED: &str = "azureml://registries/r/models/churn/versions/3";

#[tokio::test]
async fn a_model_is_found_by_every_name_and_two_of_one_name_are_told_apart() {
    let bench = bench();
    row_of(&bench, &custody()).await;
    row_of(&bench, &facts(SHARED, 2)).await;
    let of = |name: &'static str, home: Option<Home<'static>>| {
        let version = Version::parse(name, home).unwrap();
        let statements = &bench.statements;
        async move { statements.of(&version).await.map(|found| found.model) }
    };
    let w = Some(Home::Workspace("W"));
    assert_eq!(of("churn:3", w).await.unwrap(), MODEL);
    assert_eq!(of(MODEL, None).await.unwrap(), MODEL);
    assert_eq!(of("Churn:3", Some(Home::Registry("R"))).await.unwrap(), SHARED);
    let with_subscription = "azureml://subscriptions/s/resourceGroups/g/registries/r/models/churn/versions/3";
    assert_eq!(of(with_subscription, None).await.unwrap(), SHARED);
    assert!(matches!(of("churn:9", w).await, Err(ReadError::Nothing)));
    row_of(&bench, &facts(ELSEWHERE, 3)).await;
    let Err(ReadError::Several(which)) = of("churn:3", w).await else { panic!("two are called so") };
    assert_eq!(which, [MODEL.to_lowercase(), ELSEWHERE.to_lowercase()]);
    assert_eq!(of(ELSEWHERE, None).await.unwrap(), ELSEWHERE);
}

#[tokio::test]
async fn a_list_goes_on_where_it_ended_and_holds_only_what_is_asked_for() {
    let bench = bench();
    for number in 1..=7 {
        let model = MODEL.replace("/3", &format!("/{number}"));
        let at = NOW.plus(Duration::from_secs(u64::from(number)));
        bench.statements.made(&facts(&model, number), at).await;
    }
    // The fourth and the sixth are forged: right columns, another's signature.
    let stranger = Statements::new(bench.store.clone(), Keys::new(p256(), Vec::new(), GATE));
    for number in [4, 6] {
        let model = MODEL.replace("/3", &format!("/x{number}"));
        stranger.made(&facts(&model, 10 + number), NOW.plus(Duration::from_secs(u64::from(number)))).await;
    }
    let listed = |before: (Timestamp, String), of: Option<Versions>, verified: bool, most: usize| {
        let statements = &bench.statements;
        async move {
            let page = statements.listed(&Listed { before, of, verified, most }).await.unwrap();
            let short = |kept: &Kept| ModelId::parse(&kept.row.named).unwrap().short();
            (page.kept.iter().map(short).collect::<Vec<_>>(), page.next)
        }
    };
    let now = || (NOW.plus(Duration::from_secs(60)), String::new());
    let (all, next) = listed(now(), None, false, 50).await;
    assert_eq!((all.len(), next), (9, None));
    let (mut names, mut before) = (Vec::new(), now());
    loop {
        let (page, next) = listed(before, None, true, 2).await;
        assert!(page.len() <= 2);
        names.extend(page);
        match next {
            Some(next) => before = next,
            None => break,
        }
    }
    assert_eq!(names, ["churn:7", "churn:6", "churn:5", "churn:4", "churn:3", "churn:2", "churn:1"]);
    let (earlier, _) = listed((NOW.plus(Duration::from_secs(3)), String::new()), None, true, 50).await;
    assert_eq!(earlier, ["churn:2", "churn:1"], "what stood before an instant can be rolled back to");
    let third = Versions::parse(Some("churn:3"), Some(Home::Workspace("w"))).ok();
    assert_eq!(listed(now(), third, true, 50).await.0, ["churn:3"]);
}

#[tokio::test]
async fn the_newest_statement_that_holds_is_a_models_and_the_others_are_told() {
    let bench = bench();
    bench.statements.made(&custody(), NOW).await;
    let stranger = Statements::new(bench.store.clone(), Keys::new(p256(), Vec::new(), GATE));
    let mut forged = facts(MODEL, 2);
    forged.source.commit = "f".repeat(40);
    stranger.made(&forged, NOW.plus(Duration::from_secs(9))).await;
    let found = bench.statements.of(&Version::parse(MODEL, None).unwrap()).await.unwrap();
    assert_eq!(found.kept.len(), 2);
    assert!(found.kept[0].checked.is_err(), "the newest is nobody's");
    assert_eq!(found.verified().unwrap().1.chain.commit.id, custody().source.commit);
    let one = bench.statements.one(&found.kept[1].row.id).await.unwrap().unwrap();
    assert!(one.checked.is_ok());
    assert!(bench.statements.one("none").await.unwrap().is_none());
}

#[test]
fn a_chain_is_the_same_when_it_was_written_and_read_as_json() {
    let chain = Chain::of(&opened(&provenance(&custody(), GATE).unwrap(), &ed25519())).unwrap();
    let mut written = serde_json::to_value(&chain).unwrap();
    assert_eq!(serde_json::from_value::<Chain>(written.clone()).unwrap(), chain);
    written["commit"]["basis"] = json!("sworn");
    let read: Chain = serde_json::from_value(written).unwrap();
    assert_eq!(read.commit.basis, Basis::Claimed, "a word that nobody knows is only a claim");
}
