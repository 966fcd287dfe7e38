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
        reviewers: None,
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

/// Everything that tells one person from another, from a domain so small that all of it collides.
#[derive(Debug, Clone, PartialEq)]
struct Known {
    issuer: &'static str,
    tenant: &'static str,
    object: &'static str,
    token: u8,
}

const TENANTS: [&str; 2] = ["aaaaaaaa-0000-4000-8000-000000000001", "bbbbbbbb-0000-4000-8000-000000000002"];
const APPLICATION: &str = "cccccccc-0000-4000-8000-000000000003";

fn known() -> impl Strategy<Value = Known> {
    let issuer = prop::sample::select(vec!["corp", "partner"]);
    let object = prop::sample::select(vec![
        "5a000000-0000-4000-8000-000000000001",
        "5b000000-0000-4000-8000-000000000002",
    ]);
    (issuer, prop::sample::select(TENANTS.to_vec()), object, 0..2_u8)
        .prop_map(|(issuer, tenant, object, token)| Known { issuer, tenant, object, token })
}

impl Known {
    fn caller(&self) -> Caller {
        let claims = serde_json::json!({
            "tid": self.tenant, "oid": self.object, "scp": "access", "aud": APPLICATION,
        });
        Caller {
            id: PrincipalId {
                issuer: self.issuer.into(),
                subject: format!("{}/{}", self.tenant, self.object).into(),
            },
            kind: PrincipalKind::Person,
            tenant: Some(self.tenant.into()),
            client: None,
            display: None,
            groups: Groups::Known([].into()),
            roles: Arc::new([]),
            claims: Arc::new(claims.as_object().unwrap().clone()),
            expires: crate::time::Timestamp::from_secs(1_800_000_000),
            from_pull_request: false,
            subjects_at_issue: None,
            reviewers: None,
            human: None,
            token_digest: [self.token; 32],
        }
    }
}

fn acting_in(tenant: &str) -> crate::credentials::CredentialSettings {
    crate::credentials::CredentialSettings {
        name: "person".into(),
        tenant: Some(tenant.into()),
        client_id: Some(APPLICATION.into()),
        proof: Proof::Secret("s".to_owned().into()),
        acts_for: ActsFor::Caller,
        authority: crate::net::Destination::https("login.example", 443),
        digest: [0; 32],
    }
}

proptest! {
    /// The same object id in two tenants is two people, whoever vouches for them and whatever they hold.
    #[test]
    fn what_is_kept_for_one_person_is_found_by_nobody_else_and_in_no_other_tenant(
        one in known(), other in known(), home in 0..2_usize,
    ) {
        let settings = acting_in(TENANTS[home]);
        let token = CallerToken::new(&HeaderValue::from_static("Bearer x"));
        let key = |known: &Known| {
            let caller = known.caller();
            Caused::by(&caller, &token).person(&settings)
        };
        for known in [&one, &other] {
            // A credential speaks for people of its own tenant only.
            prop_assert_eq!(key(known).is_ok(), known.tenant == TENANTS[home]);
        }
        if let (Ok(a), Ok(b)) = (key(&one), key(&other)) {
            prop_assert_eq!(a == b, one == other);
        }
    }
}
