//! Triggers as callers: for whom they act, and that nobody else is taken for one.

use super::*;

fn merged() -> Merged {
    Merged {
        trigger: "train".into(),
        server: "main".into(),
        project: "ml/vision".to_owned(),
        branch: "main".to_owned(),
        change: 42,
        commit: "b2b5f7c8fb8f96312d629d4d4f379f34f5b9b651".to_owned(),
        at: Timestamp::from_secs(START - 60),
    }
}

#[tokio::test]
async fn a_trigger_acts_for_a_person_of_an_entra_issuer_and_for_nobody_else() {
    let world = World::usual().await;
    let principal = world.verifier.triggered(&format!("corp:{TENANT}/{PERSON}"), &merged()).unwrap();
    assert_eq!(principal.id.to_string(), format!("corp:{TENANT}/{PERSON}"));
    assert_eq!((principal.kind, principal.trigger()), (PrincipalKind::Agent, Some("train")));
    assert_eq!(principal.groups, Groups::Overage, "nobody said which groups they are in");
    let commit = "b2b5f7c8fb8f96312d629d4d4f379f34f5b9b651";
    assert_eq!(principal.merged(), Some((commit, "main/ml/vision".to_owned())));
    let human = principal.human_served().unwrap();
    assert_eq!((human.kind, human.trigger()), (PrincipalKind::Person, None));
    assert!(human.claims.is_empty(), "what the gate knows of the merge is no word of the human's issuer");
    for nobody in [
        format!("idp:{TENANT}/{PERSON}"),
        format!("gone:{TENANT}/{PERSON}"),
        format!("corp:{PERSON}/{PERSON}"),
        format!("corp:{TENANT}/{}", PERSON.to_uppercase()),
        format!("corp:{TENANT}/ana"),
        format!("corp:{TENANT}"),
        "corp".to_owned(),
        String::new(),
    ] {
        assert!(world.verifier.triggered(&nobody, &merged()).is_err(), "{nobody}");
    }
}

#[tokio::test]
async fn no_token_makes_its_bearer_a_trigger() {
    let world = World::usual().await;
    for changes in [
        json!({"azp": "trigger:train"}),
        json!({"azp": "x", "act": {"sub": "trigger:train"}}),
        json!({"client_id": "trigger:train", "act": {"client_id": "trigger:train"}}),
    ] {
        let token = Signer::rsa(0).token("k1", &claims_with(&changes));
        let principal = world.verifier.authenticate(&token).await.unwrap();
        assert_eq!((principal.trigger(), principal.as_agent().trigger()), (None, None), "{changes}");
        assert!(principal.client.as_deref().is_none_or(|client| !client.starts_with(TRIGGER)), "{changes}");
    }
}
