//! Where an entry wants it, nothing serves of which no statement holds: what is kept is checked again each
//! time.

use amlgate::sandbox::azure::names;
use http::StatusCode;
use serde_json::json;

use super::{
    Gerrit, POLICIES, SHA, VERSION, World, built, doors, job, sent, stated, trained, workspace, world,
};
use crate::world::{Answer, keep};

/// Changes the gate's store behind its back.
async fn meddles(world: &World, sql: &str) {
    sqlx::any::install_default_drivers();
    let path = world.directory().join("var/amlgate.db");
    let pool = sqlx::AnyPool::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    let done = sqlx::query(sqlx::AssertSqlSafe(sql.to_owned())).execute(&pool).await.unwrap();
    assert!(done.rows_affected() > 0 || sql.starts_with("CREATE"), "{sql}");
    pool.close().await;
}

async fn deploys(world: &World) -> Answer {
    let model = workspace("/models/by-arm/versions/1");
    let body = json!({"location": names::REGION, "sku": {"name": "Default", "capacity": 1},
        "properties": {"endpointComputeType": "Managed", "model": model, "instanceType": "Standard_DS3_v2"}});
    let path = workspace(&format!("/onlineEndpoints/churn/deployments/fresh?{VERSION}"));
    world.caller("sam").put(&path, &body).await
}

/// Why it is refused, with its cure.
fn refused(answer: &Answer) -> String {
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
    let error = &answer.json()["error"];
    assert_eq!(error["code"], "ReviewRequired", "{answer:?}");
    let said = error["message"].as_str().unwrap().to_owned();
    assert!(said.contains("register the model again, from its job"), "{said}");
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_serves_only_while_its_statement_holds() {
    let gerrit = Gerrit::start().await;
    let policies = POLICIES.replace("branch: main}", "branch: main, statement: required}");
    let (world, _) = world(&gerrit, &policies).await;
    let sam = world.caller("sam");
    trained(&world, &world.bearing(&built(&world, SHA)), "train", &job()).await;
    for door in &doors("train")[..2] {
        assert!(sent(&world, &sam, door).await.status.is_success(), "{}", door.name);
    }
    for name in ["by-arm/versions/1", "by-mferp/versions/1"] {
        stated(&world, name).await;
    }
    let deployed = deploys(&world).await;
    assert!(deployed.status.is_success(), "{deployed:?}");
    meddles(&world, "CREATE TABLE kept AS SELECT * FROM statements").await;
    let ours = "model LIKE '%/by-arm/versions/1'";
    // A byte of what was signed.
    let flipped = format!(
        "UPDATE statements SET provenance = replace(provenance, substr(provenance, 60, 4), 'AAAA') WHERE {ours}"
    );
    meddles(&world, &flipped).await;
    assert!(refused(&deploys(&world).await).contains("the signature is not good"));
    // What serves already gets no more traffic.
    let body =
        json!({"location": names::REGION, "properties": {"authMode": "Key", "traffic": {"fresh": 100}}});
    let traffic = sam.put(&workspace(&format!("/onlineEndpoints/churn?{VERSION}")), &body).await;
    assert!(refused(&traffic).contains("the signature is not good"), "{traffic:?}");
    // A good statement of another model.
    let others = "SELECT provenance FROM kept WHERE model LIKE '%/by-mferp/versions/1'";
    let replayed = format!("UPDATE statements SET provenance = ({others}) WHERE {ours}");
    meddles(&world, &replayed).await;
    assert!(refused(&deploys(&world).await).contains("its id is not the digest of its envelope"));
    let moved = format!(
        "UPDATE statements SET model = (SELECT model FROM kept WHERE {ours}) WHERE model LIKE '%/by-mferp/versions/1'"
    );
    meddles(&world, &format!("DELETE FROM statements WHERE {ours}")).await;
    meddles(&world, &moved).await;
    assert!(refused(&deploys(&world).await).contains("it is about another model"));
    // None.
    meddles(&world, &format!("DELETE FROM statements WHERE {ours}")).await;
    assert!(refused(&deploys(&world).await).contains("no statement of"));
    meddles(&world, &format!("INSERT INTO statements SELECT * FROM kept WHERE {ours}")).await;
    let again = deploys(&world).await;
    assert!(again.status.is_success(), "{again:?}");
    // A key that nobody believes any more.
    let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    keep(&world.directory().join("certs/evidence.key"), &other.serialize_pem());
    world.server.reload().await;
    assert!(refused(&deploys(&world).await).contains("no signature is of a key that is trusted"));
    let log = world.stop().await;
    let refusals = log.requests().iter().filter(|r| r.to_string().contains("ReviewRequired")).count();
    assert_eq!(refusals, 6, "each refusal is recorded");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_never_stated_is_not_deployed_however_well_its_code_was_reviewed() {
    let gerrit = Gerrit::start().await;
    let policies = POLICIES
        .replace("effects: [register_model, deploy_model]", "effects: [deploy_model]")
        .replace("branch: main}", "branch: main, statement: required}");
    let (world, _) = world(&gerrit, &policies).await;
    trained(&world, &world.bearing(&built(&world, SHA)), "train", &job()).await;
    // Nobody demands a review of what is registered, so that nothing is stated of it.
    assert!(sent(&world, &world.caller("sam"), &doors("train")[0]).await.status.is_success());
    assert!(refused(&deploys(&world).await).contains("no statement of"));
    let shown =
        world.caller("sam").get(&workspace(&format!("/onlineEndpoints/churn/deployments?{VERSION}"))).await;
    assert!(!shown.text().contains("\"fresh\""), "{shown:?}");
}
