//! Handles: what they say, and what makes them worthless.

use std::time::Duration;

use handle::{MAX_LIFE, PREFIX};

use super::*;
use crate::secrets::{Seal, SecretString};

const ENDPOINT: &str = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w/onlineEndpoints/churn";

async fn person(world: &World) -> Principal {
    world.verifier.authenticate(&Signer::rsa(0).token("k1", &entra_v2())).await.unwrap()
}

fn handles(world: &World, keys: &[[u8; 32]]) -> Handles {
    let texts: Vec<_> = keys
        .iter()
        .map(|key| SecretString::from(base64::engine::general_purpose::STANDARD.encode(key)))
        .collect();
    Handles::new(&Seal::new(&texts).unwrap(), Arc::clone(&world.verifier))
}

#[tokio::test]
async fn a_handle_is_its_holder_at_one_endpoint_and_holds_no_claims() {
    let world = World::usual().await;
    let (person, handles) = (person(&world).await, handles(&world, &[[7; 32]]));
    let subjects: Vec<Arc<str>> = vec!["team-a".into(), "everybody".into()];
    let handle = handles.issue(&person, subjects.clone(), ENDPOINT, Slot::Secondary, world.now()).unwrap();
    assert!(Handles::is_handle(&handle) && handle.starts_with(PREFIX));
    assert!(bearer::token(&http::HeaderValue::from_str(&format!("Bearer {handle}")).unwrap()).is_ok());

    world.clock.advance(Duration::from_secs(60));
    let redeemed = handles.redeem(&handle, world.now()).unwrap();
    assert_eq!((&*redeemed.endpoint, redeemed.slot), (ENDPOINT, Slot::Secondary));
    assert_eq!(redeemed.issued, Timestamp::from_secs(START));
    let holder = redeemed.principal;
    assert_eq!((&holder.id, holder.kind, &holder.tenant), (&person.id, person.kind, &person.tenant));
    assert_eq!((&holder.client, &holder.display), (&person.client, &person.display));
    assert_eq!(holder.subjects_at_issue.as_deref(), Some(&subjects[..]));
    assert_eq!(holder.groups, Groups::Overage);
    assert!(holder.claims.is_empty() && holder.roles.is_empty());
    assert_ne!(holder.token_digest, person.token_digest);
}

#[tokio::test]
async fn a_handle_keeps_that_its_holder_is_a_pull_requests_run_and_which_human_is_meant() {
    let world = World::usual().await;
    let (person, handles) = (person(&world).await, handles(&world, &[[7; 32]]));
    let human = PrincipalId { issuer: "corp".into(), subject: "tenant/object".into() };
    let marked = Caller { from_pull_request: true, human: Some(human.clone()), ..Caller::clone(&person) };
    for (caller, wanted) in
        [(Caller::clone(&person), (false, person.human.clone())), (marked, (true, Some(human)))]
    {
        let holder = Principal::for_tests(caller);
        let handle = handles.issue(&holder, vec![], ENDPOINT, Slot::Primary, world.now()).unwrap();
        let redeemed = handles.redeem(&handle, world.now()).unwrap().principal;
        assert_eq!((redeemed.from_pull_request, redeemed.human.clone()), wanted);
    }
}

#[tokio::test]
async fn a_handle_ends_within_the_hour_and_never_after_the_token_that_asked() {
    let world = World::usual().await;
    let (long, handles) = (person(&world).await, handles(&world, &[[7; 32]]));
    let short = Signer::rsa(0).token("k1", &patched(entra_v2(), &json!({"exp": START + 600})));
    let short = world.verifier.authenticate(&short).await.unwrap();
    for (principal, life) in [(&long, MAX_LIFE), (&short, Duration::from_secs(600))] {
        let issued = world.now();
        let handle = handles.issue(principal, vec![], ENDPOINT, Slot::Primary, issued).unwrap();
        let last = issued.plus(life).minus(Duration::from_millis(1));
        assert_eq!(handles.redeem(&handle, last).unwrap().principal.expires, issued.plus(life));
        assert_eq!(handles.redeem(&handle, issued.plus(life)).unwrap_err(), HandleError::Expired);
    }
    let late = Timestamp::from_secs(START + 600);
    assert_eq!(
        handles.issue(&short, vec![], ENDPOINT, Slot::Primary, late).unwrap_err(),
        HandleError::Unissuable
    );
}

#[tokio::test]
async fn another_gate_s_handle_is_worth_nothing_and_rotation_keeps_the_old_ones() {
    let world = World::usual().await;
    let person = person(&world).await;
    let (old, new) = ([1; 32], [2; 32]);
    let handle =
        handles(&world, &[old]).issue(&person, vec![], ENDPOINT, Slot::Primary, world.now()).unwrap();
    assert!(handles(&world, &[new, old]).redeem(&handle, world.now()).is_ok());
    assert_eq!(handles(&world, &[new]).redeem(&handle, world.now()).unwrap_err(), HandleError::Sealed);
    let fresh =
        handles(&world, &[new, old]).issue(&person, vec![], ENDPOINT, Slot::Primary, world.now()).unwrap();
    assert!(handles(&world, &[new]).redeem(&fresh, world.now()).is_ok(), "the first key seals");
}

#[tokio::test]
async fn a_handle_falls_with_its_issuer() {
    let world = World::usual().await;
    let (person, handles) = (person(&world).await, handles(&world, &[[7; 32]]));
    let handle = handles.issue(&person, vec![], ENDPOINT, Slot::Token, world.now()).unwrap();
    world.verifier.reconfigure(vec![oidc()]);
    assert_eq!(handles.redeem(&handle, world.now()).unwrap_err(), HandleError::Issuer);
}

#[tokio::test]
async fn a_handle_shows_nothing_and_two_are_never_alike() {
    let world = World::usual().await;
    let (person, handles) = (person(&world).await, handles(&world, &[[7; 32]]));
    let issue =
        || handles.issue(&person, vec!["team-a".into()], ENDPOINT, Slot::Primary, world.now()).unwrap();
    let (a, b) = (issue(), issue());
    assert_ne!(a, b);
    let bytes = URL_SAFE_NO_PAD.decode(a.strip_prefix(PREFIX).unwrap()).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(!text.contains("team-a") && !text.contains("churn") && !text.contains(PERSON));
    assert!(world.verifier.authenticate(&a).await.is_err(), "a handle is no token");
    assert_eq!(handles.redeem("eyJ.a.b", world.now()).unwrap_err(), HandleError::NotAHandle);
    let many = (0..2_000).map(|i| format!("subject-{i}").into()).collect();
    assert_eq!(
        handles.issue(&person, many, ENDPOINT, Slot::Primary, world.now()).unwrap_err(),
        HandleError::Unissuable
    );
}

proptest::proptest! {
    #[test]
    fn what_is_issued_is_redeemed_and_any_changed_character_is_refused(
        subjects in proptest::collection::vec("\\PC{0,20}", 0..8),
        endpoint in "\\PC{1,120}",
        key in proptest::array::uniform32(proptest::num::u8::ANY),
        at in 0_usize..10_000,
        to in "[A-Za-z0-9_.-]",
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (world, person) = runtime.block_on(async {
            let world = World::usual().await;
            let person = person(&world).await;
            (world, person)
        });
        let handles = handles(&world, &[key]);
        let subjects: Vec<Arc<str>> = subjects.into_iter().map(Into::into).collect();
        let handle = handles.issue(&person, subjects.clone(), &endpoint, Slot::Primary, world.now()).unwrap();
        let redeemed = handles.redeem(&handle, world.now()).unwrap();
        proptest::prop_assert_eq!(&*redeemed.endpoint, &*endpoint);
        proptest::prop_assert_eq!(redeemed.principal.subjects_at_issue.as_deref(), Some(&subjects[..]));
        let at = at % handle.len();
        let mut changed = handle.clone();
        changed.replace_range(at..=at, &to);
        proptest::prop_assume!(changed != handle);
        proptest::prop_assert!(handles.redeem(&changed, world.now()).is_err());
    }

    #[test]
    fn arbitrary_text_is_never_redeemed(text in "[A-Za-z0-9_-]{0,200}") {
        let world = World::of(vec![]);
        let handles = handles(&world, &[[7; 32]]);
        let forged = format!("{PREFIX}{text}");
        proptest::prop_assert!(handles.redeem(&forged, world.now()).is_err());
    }
}
