//! Asking, answering, using and taking back, over real policies and a real store.

pub(super) mod scene;

use std::{sync::Arc, time::Duration};

use http::Method;

use self::scene::{POLICIES, Scene, Sent, ann, bob, caller, compiled, join_all, write};
use super::{
    request::{State, Unmoved},
    *,
};
use crate::{
    azureml::Kind,
    gates::Gates,
    identity::{Groups, PrincipalKind},
    policy::DenialCode,
    store::{Revocation, RevocationKind, Revocations, StoreAddress},
    time::{Clock as _, ManualClock},
};

#[tokio::test]
async fn a_call_is_asked_for_approved_by_another_and_goes_once() {
    let scene = Scene::new();
    let (code, said, held) = scene.refused(&write()).await;
    assert_eq!(code, DenialCode::ApprovalRequired);
    let decision = held.permit.decision().to_string();
    assert!(said.contains("entry `once` demands the approval of 1 of `platform`"), "{said}");
    assert!(said.contains(&format!("amlgate request create {decision}")), "{said}");
    assert!(said.contains(&format!("https://console/requests/new?decision={decision}")), "{said}");
    let request = scene.ask(&ann(), decision.clone(), Some("to retrain")).await.unwrap();
    assert_eq!((request.state, request.asked.reason.as_deref()), (State::Pending, Some("to retrain")));
    let (code, said, held) = scene.refused(&write()).await;
    assert_eq!((code, held.denial.request.as_deref()), (DenialCode::ApprovalPending, Some(&*request.id)));
    assert!(!said.contains("request create"), "{said}");
    let again = scene.ask(&ann(), decision, Some("other words")).await.unwrap();
    assert_eq!(again.id, request.id, "the same is not asked twice");
    let grant = scene.answer(&bob(), &request.id, Answer::Approve(None)).await.unwrap().grant.unwrap();
    let cleared = scene.send(&write()).await.unwrap();
    assert_eq!(cleared.grants()[0].id, grant.id);
    assert_eq!(scene.refused(&write()).await.0, DenialCode::AlreadySent, "nobody knows yet what came of it");
    cleared.came(Came::Known);
    drop(cleared);
    scene.noted(&write(), Some("known")).await;
    assert_eq!(scene.refused(&write()).await.0, DenialCode::ApprovalRequired, "it is a new call");
    assert_eq!(scene.used(&grant).await, 1);
}

#[tokio::test]
async fn of_many_who_send_the_approved_call_at_once_one_passes() {
    let scene = Scene::new();
    scene.granted(&write()).await;
    let replicas = [scene.replica(), scene.replica()];
    let calls = (0..12).map(|n| {
        let id: &'static str = format!("call-{n}").leak();
        let permit = scene.permit(&Sent { client_id: (n % 3 > 0).then_some(id), ..write() });
        let (replicas, revoked) = (&replicas, &scene.revoked);
        async move { replicas[n % 2].clear_approved(permit, BodyKnown::Whole, revoked).await }
    });
    let came = join_all(calls.map(Box::pin).collect()).await;
    assert_eq!(came.iter().filter(|came| came.is_ok()).count(), 1);
    for held in came.iter().filter_map(|came| came.as_ref().err()) {
        assert!(
            matches!(held.denial.code, DenialCode::ApprovalRequired | DenialCode::AlreadySent),
            "{:?}",
            held.denial
        );
    }
}

#[tokio::test]
async fn approving_one_call_approves_no_other() {
    let scene = Scene::new();
    scene.granted(&write()).await;
    let other =
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/a/jobs/k";
    for (what, sent) in [
        ("body", Sent { body: Some("{\"a\":2}"), ..write() }),
        ("no body", Sent { body: None, ..write() }),
        ("method", Sent { method: Method::PATCH, ..write() }),
        ("path", Sent { path: other, ..write() }),
        (
            "query",
            Sent {
                path: "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/a/jobs/j?x=1",
                ..write()
            },
        ),
        ("person", Sent { caller: caller("eve", &["team"]), ..write() }),
    ] {
        assert_eq!(scene.refused(&sent).await.0, DenialCode::ApprovalRequired, "{what}");
    }
    assert!(scene.send(&write()).await.is_ok());
}

#[tokio::test]
async fn an_approval_of_an_entry_covers_its_workspace_until_its_time_is_over() {
    let scene = Scene::new();
    let delete = |path| Sent { kind: Kind::Delete, method: Method::DELETE, body: None, path, ..write() };
    const A: &str =
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/a/jobs/j";
    const ALSO_A: &str =
        "/subscriptions/S/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/A/models/m";
    const B: &str =
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/b/jobs/j";
    let grant = scene.granted(&delete(A)).await;
    for _ in 0..3 {
        let cleared = scene.send(&delete(ALSO_A)).await.unwrap();
        assert!(!cleared.grants()[0].counted);
    }
    assert_eq!(scene.used(&grant).await, 0, "it is used as often as it holds");
    assert_eq!(scene.refused(&delete(B)).await.0, DenialCode::ApprovalRequired);
    assert_eq!(scene.refused(&write()).await.0, DenialCode::ApprovalRequired, "another entry's");
    let permit = scene.permit(&delete(A));
    assert!(scene.gates.clear_approved(permit, BodyKnown::Streams, &scene.revoked).await.is_ok());
    scene.clock.advance(Duration::from_secs(4 * 3_600 - 1));
    assert!(scene.send(&delete(A)).await.is_ok());
    scene.clock.advance(Duration::from_secs(1));
    assert_eq!(scene.refused(&delete(A)).await.0, DenialCode::ApprovalRequired);
}

#[tokio::test]
async fn a_group_that_is_called_as_workspaces_are_makes_one_workspace_of_no_two() {
    let scene = Scene::new();
    let delete = |path| Sent { kind: Kind::Delete, method: Method::DELETE, body: None, path, ..write() };
    for group in ["workspaces", "registries"] {
        let of = |workspace: &str| -> &'static str {
            let path = format!(
                "/subscriptions/s/resourceGroups/{group}/providers/Microsoft.MachineLearningServices/workspaces/{workspace}/jobs/j"
            );
            path.leak()
        };
        scene.granted(&delete(of("a"))).await;
        assert!(scene.send(&delete(of("a"))).await.is_ok());
        assert_eq!(scene.refused(&delete(of("b"))).await.0, DenialCode::ApprovalRequired, "{group}");
    }
}

#[tokio::test]
async fn whoever_asks_and_takes_it_back_in_a_loop_is_told_to_stop() {
    let scene = Scene::new();
    let decision = scene.refused(&write()).await.2.permit.decision().to_string();
    scene.gates.approvals().bound_by(Bounds { daily_each: 3, ..Bounds::default() });
    for _ in 0..3 {
        let request = scene.ask(&ann(), decision.clone(), None).await.unwrap();
        scene.answer(&ann(), &request.id, Answer::Withdraw(None)).await.unwrap();
    }
    assert_eq!(scene.ask(&ann(), decision, None).await, Err(AskError::TooOften(3)));
    let bobs = scene.refused(&Sent { caller: caller("eve", &["team"]), ..write() }).await.2;
    assert!(scene.ask(&caller("eve", &["team"]), bobs.permit.decision().to_string(), None).await.is_ok());
}

#[tokio::test]
async fn nobody_approves_their_own_call_under_any_identity_nor_does_software() {
    let scene = Scene::new();
    let held = scene.refused(&write()).await.2;
    let request = scene.ask(&ann(), held.permit.decision().to_string(), None).await.unwrap();
    let human = Some(ann().id);
    let elsewhere = Caller { human, ..caller("ann-of-portal", &["platform"]) };
    for (who, by) in [
        ("herself, of the subject by now", caller("ann", &["team", "platform"])),
        ("herself elsewhere", elsewhere),
        ("software of bob's", bob().as_agent()),
        ("a machine", Caller { kind: PrincipalKind::Machine, ..bob() }),
        ("a client that the policies name as an agent", Caller { client: Some("copilot".into()), ..bob() }),
        ("a stranger", caller("eve", &["team"])),
        ("one whose groups nobody knows", Caller { groups: Groups::Overage, ..bob() }),
    ] {
        let error = scene.answer(&by, &request.id, Answer::Approve(None)).await.unwrap_err();
        assert!(matches!(error, AnswerError::Unmoved(Unmoved::NoVoice(_))), "{who}: {error}");
        let error = scene.answer(&by, &request.id, Answer::Deny(None)).await.unwrap_err();
        assert!(matches!(error, AnswerError::Unmoved(Unmoved::NoVoice(_))), "{who}: {error}");
    }
    assert!(scene.answer(&bob(), &request.id, Answer::Withdraw(None)).await.is_err());
    assert!(scene.answer(&bob(), &request.id, Answer::Approve(None)).await.is_ok());
}

#[tokio::test]
async fn the_human_of_an_agent_approves_each_of_its_calls_and_nobody_else_does() {
    let scene = Scene::new();
    let agent = Caller { client: Some("copilot".into()), ..caller("ann", &[]) }.as_agent();
    let sent = Sent { caller: agent.clone(), ..write() };
    let held = scene.refused(&sent).await.2;
    let decision = held.permit.decision().to_string();
    let other = Caller { client: Some("elsewhere".into()), ..agent.clone() };
    assert_eq!(scene.ask(&other, decision.clone(), None).await, Err(AskError::Unknown), "another agent");
    assert_eq!(scene.ask(&bob(), decision.clone(), None).await, Err(AskError::Unknown));
    let request = scene.ask(&agent, decision, None).await.unwrap();
    for by in [bob(), agent.clone()] {
        assert!(scene.answer(&by, &request.id, Answer::Approve(None)).await.is_err());
    }
    scene.answer(&caller("ann", &[]), &request.id, Answer::Approve(None)).await.unwrap();
    assert!(scene.send(&Sent { body: Some("{\"a\":2}"), ..sent.clone() }).await.is_err(), "another call");
    assert!(scene.send(&sent).await.is_ok());
    // Whoever acts for nobody is told that nobody can, and gets no link.
    let alone = Caller { kind: PrincipalKind::AutonomousAgent, ..agent };
    let (code, said, held) = scene.refused(&Sent { caller: alone, ..write() }).await;
    assert_eq!(code, DenialCode::ApprovalRequired);
    assert!(said.contains("nobody can give it") && !said.contains("request create"), "{said}");
    assert!(held.waits.is_none() && !said.contains("https://"), "{said}");
}

#[tokio::test]
async fn reason_and_ticket_are_as_the_entry_wants_them() {
    let scene = Scene::new();
    let sent = Sent { kind: Kind::Action, method: Method::POST, ..write() };
    let (_, said, held) = scene.refused(&sent).await;
    assert!(said.ends_with("; give a reason and a ticket"), "{said}");
    let decision = held.permit.decision().to_string();
    let ask = async |reason: Option<&str>, ticket: Option<&str>| {
        let wanted = Wanted {
            decision: decision.clone(),
            reason: reason.map(Into::into),
            ticket: ticket.map(Into::into),
            claimed: None,
        };
        scene.gates.approvals().ask(&scene.policies, &ann(), wanted).await.map(|all| all.len())
    };
    let wants = |what: &str| Err(AskError::Wants { entry: "words".into(), what: what.into() });
    assert_eq!(ask(None, Some("CHG1")).await, wants("a reason"));
    assert_eq!(ask(Some("  "), Some("CHG1")).await, wants("a reason"));
    assert_eq!(ask(Some("why"), None).await, wants("a ticket of the form `CHG[0-9]+`"));
    assert_eq!(ask(Some("why"), Some("CHGx")).await, wants("a ticket of the form `CHG[0-9]+`"));
    for deceptive in ["a\u{1b}[31m", "a\u{202e}b", "a\u{200b}b", "a\u{0}b", "a\u{2028}b"] {
        assert_eq!(ask(Some(deceptive), Some("CHG1")).await, Err(AskError::Text), "{deceptive:?}");
    }
    assert_eq!(ask(Some(&"x".repeat(MAX_REASON + 1)), Some("CHG1")).await, Err(AskError::Text));
    assert_eq!(ask(Some("why"), Some("CHG1")).await, Ok(1));
}

#[tokio::test]
async fn a_denied_withdrawn_or_expired_request_grants_nothing_and_may_be_asked_again() {
    let scene = Scene::new();
    for answer in [Some(Answer::Deny(Some("not now".into()))), Some(Answer::Withdraw(None)), None] {
        let held = scene.refused(&write()).await.2;
        let request = scene.ask(&ann(), held.permit.decision().to_string(), None).await.unwrap();
        match answer {
            Some(withdraw @ Answer::Withdraw(_)) => {
                let long = Answer::Withdraw(Some("x".repeat(MAX_REASON + 1)));
                assert_eq!(scene.answer(&ann(), &request.id, long).await.unwrap_err(), AnswerError::Text);
                drop(scene.answer(&ann(), &request.id, withdraw).await.unwrap())
            }
            Some(answer) => drop(scene.answer(&bob(), &request.id, answer).await.unwrap()),
            None => scene.clock.advance(PENDING_FOR),
        }
        let error = scene.answer(&bob(), &request.id, Answer::Approve(None)).await.unwrap_err();
        assert!(matches!(error, AnswerError::Unmoved(Unmoved::Over(_))), "{error}");
        assert_eq!(scene.refused(&write()).await.0, DenialCode::ApprovalRequired);
    }
    let (requests, grants) = scene.gates.approvals().expire().await.unwrap();
    assert_eq!((requests.len(), grants.len()), (1, 0));
}

#[tokio::test]
async fn an_entry_that_changed_voids_what_was_asked_and_granted_for_it() {
    let mut scene = Scene::new();
    let held = scene.refused(&write()).await.2;
    let decision = held.permit.decision().to_string();
    let request = scene.ask(&ann(), decision.clone(), None).await.unwrap();
    let unrelated = POLICIES.replace("name: while", "name: as long as");
    scene.policies = compiled(&unrelated);
    assert_eq!(scene.refused(&write()).await.0, DenialCode::ApprovalPending, "another entry's change");
    let wider = unrelated.replace("group: platform", "group: everybody");
    scene.policies = compiled(&wider);
    let error = scene.answer(&caller("joe", &["everybody"]), &request.id, Answer::Approve(None)).await;
    assert_eq!(error.unwrap_err(), AnswerError::Changed("once".into()));
    assert_eq!(scene.ask(&ann(), decision, None).await, Err(AskError::Changed));
    scene.policies = compiled(&unrelated);
    scene.answer(&bob(), &request.id, Answer::Approve(None)).await.unwrap();
    scene.policies = compiled(&wider);
    assert_eq!(scene.refused(&write()).await.0, DenialCode::ApprovalRequired);
    scene.policies = compiled(&unrelated);
    assert!(scene.send(&write()).await.is_ok());
}

#[tokio::test]
async fn a_grant_that_was_taken_back_or_whose_approver_was_revoked_is_used_no_more() {
    let scene = Scene::new();
    let grant = scene.granted(&write()).await;
    let revocation = Revocation {
        id: "r".to_owned(),
        kind: RevocationKind::Principal,
        issuer: "corp".to_owned(),
        value: "bob".to_owned(),
        issued_before: Some(scene.clock.now()),
        made: scene.clock.now(),
        expires: scene.clock.now().plus(Duration::from_secs(60)),
        by: "corp:operator".to_owned(),
        reason: "a stolen session".to_owned(),
    };
    let all = Revocations { version: 1, list: vec![revocation] };
    scene.revoked.follow(Some(all), scene.clock.now());
    assert_eq!(scene.refused(&write()).await.0, DenialCode::ApprovalRequired);
    scene.revoked.follow(Some(Revocations { version: 2, list: vec![] }), scene.clock.now());
    let cleared = scene.send(&write()).await.unwrap();
    let by = cleared.grants()[0].clone();
    assert_eq!(scene.gates.approvals().stands(&by, scene.clock.now()), Ok(()));
    assert!(scene.gates.approvals().revoke(&grant.id).await.unwrap());
    assert!(!scene.gates.approvals().revoke(&grant.id).await.unwrap());
    let why = scene.gates.approvals().stands(&by, scene.clock.now()).unwrap_err();
    assert_eq!(why, "the approval of entry `once` was taken back");
    let replica = scene.replica();
    replica.approvals().look().await.unwrap();
    assert!(replica.approvals().stands(&by, scene.clock.now()).is_err(), "there, too");
    drop(cleared);
    scene.noted(&write(), None).await;
    assert_eq!(
        scene.refused(&write()).await.0,
        DenialCode::ApprovalRequired,
        "a use that is given back is of no grant"
    );
}

#[tokio::test]
async fn a_call_that_never_reached_azure_keeps_its_use_and_one_that_may_have_is_not_sent_twice() {
    let scene = Scene::new();
    let grant = scene.granted(&write()).await;
    let post = Sent { method: Method::POST, ..write() };
    let other = scene.granted(&post).await;
    let go = async |sent: &Sent, came: Option<Came>, noted: Option<&str>| {
        let cleared = scene.send(sent).await.unwrap();
        if let Some(came) = came {
            cleared.came(came);
        }
        drop(cleared);
        scene.noted(sent, noted).await;
    };
    // Never said what came of it: it was dropped before anything was sent.
    go(&write(), None, None).await;
    go(&write(), Some(Came::NotSent), None).await;
    assert_eq!(scene.used(&grant).await, 0);
    for _ in 0..5 {
        go(&write(), Some(Came::Unknown), Some("unknown")).await;
    }
    assert_eq!(scene.used(&grant).await, 1, "a PUT goes again on the same use");
    assert_eq!(scene.refused(&write()).await.0, DenialCode::AlreadySent, "five times");
    let another = Sent { client_id: Some("another"), ..write() };
    assert_eq!(scene.refused(&another).await.0, DenialCode::ApprovalRequired, "no resend: it takes a use");
    let first = scene.permit(&post);
    let decision = first.decision().to_string();
    let cleared = scene.gates.clear_approved(first, BodyKnown::Whole, &scene.revoked).await.unwrap();
    cleared.came(Came::Unknown);
    drop(cleared);
    scene.noted(&post, Some("unknown")).await;
    let (code, said, held) = scene.refused(&post).await;
    assert_eq!(code, DenialCode::AlreadySent);
    assert!(said.contains(&decision) && held.waits.is_none(), "{said}");
    assert_eq!(scene.used(&other).await, 1);
}

#[tokio::test]
async fn without_a_store_or_without_the_body_nobody_can_approve_and_no_link_is_given() {
    let scene = Scene::new();
    let permit = scene.permit(&Sent { body: None, ..write() });
    let held = scene.gates.clear_approved(permit, BodyKnown::Streams, &scene.revoked).await.unwrap_err();
    assert!(held.denial.cure.contains("its body was not read"), "{:?}", held.denial);
    let bare = Gates::new(Arc::clone(&scene.clock) as SharedClock);
    let held =
        bare.clear_approved(scene.permit(&write()), BodyKnown::Whole, &scene.revoked).await.unwrap_err();
    assert!(held.denial.cure.contains("has no `store`"), "{:?}", held.denial);
    assert!(held.waits.is_none() && !held.denial.cure.contains("request create"));
    // Where nobody looks for approvals, nothing that needs one passes.
    assert!(scene.gates.clear(scene.permit(&write())).is_err());
}

#[tokio::test]
async fn a_store_that_does_not_answer_denies_what_needs_it_and_nothing_else() {
    let clock = Arc::new(ManualClock::starting_at(Timestamp::from_secs(1_800_000_000)));
    let address = StoreAddress::Postgres("postgres://u:p@127.0.0.1:1/x".to_owned().into());
    let scene = Scene::new();
    let dead = Gates::keeping(clock, Some(Store::new(address).unwrap()));
    let held =
        dead.clear_approved(scene.permit(&write()), BodyKnown::Whole, &scene.revoked).await.unwrap_err();
    assert_eq!(held.denial.code, DenialCode::ApprovalRequired);
    assert!(held.denial.cause.contains("cannot be looked up now"), "{:?}", held.denial);
    let read = Sent { kind: Kind::Read, method: Method::GET, body: None, ..write() };
    assert!(dead.clear_approved(scene.permit(&read), BodyKnown::Whole, &scene.revoked).await.is_ok());
}

#[tokio::test]
async fn each_person_asks_so_much_and_no_more() {
    let scene = Scene::new();
    let most = Bounds::default().pending_each;
    for n in 0..=most {
        scene.clock.advance(Duration::from_secs(1));
        let body: &'static str = format!("{{\"n\":{n}}}").leak();
        let held = scene.refused(&Sent { body: Some(body), ..write() }).await.2;
        let asked = scene.ask(&ann(), held.permit.decision().to_string(), None).await;
        assert_eq!(asked.is_ok(), n < most, "{n}");
        if n == most {
            assert_eq!(asked, Err(AskError::TooMany(most)));
        }
    }
    scene.clock.advance(REMEMBERED_FOR);
    let held = scene.refused(&Sent { caller: caller("joe", &["team"]), ..write() }).await.2;
    let decision = held.permit.decision().to_string();
    scene.clock.advance(REMEMBERED_FOR);
    assert_eq!(scene.ask(&caller("joe", &["team"]), decision, None).await, Err(AskError::Unknown));
}
