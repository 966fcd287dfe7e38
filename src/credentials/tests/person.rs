//! On behalf of people: what is had for one of them is never given to another.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use http::HeaderValue;
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::Value;

use super::azure::World;
use crate::{
    azureml::Audience,
    credentials::{ActsFor, CallerToken, CredentialError, Proof, person::Caused},
    identity::{Caller, Groups, PrincipalId, PrincipalKind},
    sandbox::{
        Person,
        azure::{UserToken, names},
    },
    time::Clock as _,
};

const PEOPLE: [&str; 4] = ["sam", "rita", "pat", "alex"];

/// A caller who came with a token of the simulated Entra, and the header that they sent.
fn caller(world: &World, name: &str, expires_in: Duration) -> (Caller, CallerToken) {
    let person = Person::named(name).unwrap();
    let wanted = UserToken { lifetime: expires_in, ..UserToken::default() };
    let token = world.azure.user_token(person, &wanted).unwrap();
    let claims: serde_json::Map<String, Value> =
        jsonwebtoken::dangerous::insecure_decode(&token).unwrap().claims;
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    let caller = Caller {
        id: PrincipalId { issuer: "entra".into(), subject: person.object_id.into() },
        kind: PrincipalKind::Person,
        tenant: Some(names::TENANT.into()),
        client: None,
        display: None,
        groups: Groups::Known([].into()),
        roles: Arc::new([]),
        claims: Arc::new(claims),
        expires: world.clock.now().plus(expires_in),
        from_pull_request: false,
        subjects_at_issue: None,
        human: None,
        token_digest: hash,
    };
    (caller, CallerToken::new(&HeaderValue::try_from(format!("Bearer {token}")).unwrap()))
}

fn claims(header: &HeaderValue) -> Value {
    let token = header.to_str().unwrap().trim_start_matches("Bearer ");
    jsonwebtoken::dangerous::insecure_decode(token).unwrap().claims
}

/// Whoever asks, in whatever order, with whichever of their tokens and at once with whomever, and
/// whatever the time: the token is theirs, for what they asked, and ends with their own.
#[tokio::test(flavor = "multi_thread")]
async fn no_order_of_requests_gives_one_person_what_is_anothers() {
    let world = World::new().await;
    let credentials = world.acting(Proof::Secret(names::GATE_SECRET.into()), ActsFor::Caller);
    let lives = [Duration::from_secs(900), Duration::from_secs(3_600)];
    let step = (0..PEOPLE.len(), 0..lives.len(), any::<bool>());
    let runtime = tokio::runtime::Handle::current();
    tokio::task::block_in_place(|| {
        let mut runner =
            TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
        let all = vec((0_u64..500, vec(step, 1..5)), 1..8);
        runner.run(&all, |rounds| {
            let callers: Vec<Vec<_>> =
                PEOPLE.map(|name| lives.map(|life| caller(&world, name, life)).into()).into();
            for (pause, round) in rounds {
                world.clock.advance(Duration::from_secs(pause));
                let together: Vec<_> = round
                    .iter()
                    .map(|(who, which, arm)| {
                        let (who, credentials) = (*who, credentials.clone());
                        let (caller, token) = callers[who][*which].clone();
                        let audience = if *arm { Audience::Arm } else { Audience::MachineLearning };
                        let now = world.clock.now();
                        runtime.spawn(async move {
                            let caused = Some(Caused::by(&caller, &token));
                            let got = credentials.bearer_for("gate", audience, None, caused).await;
                            (PEOPLE[who], audience, caller.expires, now, got)
                        })
                    })
                    .collect();
                for asked in together {
                    let (name, audience, ends, asked, got) = runtime.block_on(asked).unwrap();
                    match got {
                        Ok(header) => {
                            let claims = claims(&header.unwrap());
                            let own = Person::named(name).unwrap().object_id;
                            prop_assert_eq!(&claims["oid"], own);
                            let resource = claims["aud"].as_str().unwrap().contains("management");
                            prop_assert_eq!(resource, audience == Audience::Arm);
                            prop_assert!(asked < ends);
                        }
                        // Entra takes no token that has ended, and neither does the gate.
                        Err(CredentialError::CallerTokenOver(_)) => prop_assert!(world.clock.now() >= ends),
                        Err(error) => prop_assert!(false, "{error}"),
                    }
                }
            }
            Ok(())
        })
    })
    .unwrap();
}
