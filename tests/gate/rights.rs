//! `rights: azure`: callers may do at the gate what Azure lets them do, and nothing else.

use std::{sync::Arc, time::Duration};

use amlgate::{
    sandbox::{
        Fault, Person,
        azure::{Assignment, DenyAssignment, Role, UserToken, names},
    },
    time::{Clock as _, ManualClock, SystemClock},
};
use http::StatusCode;

use crate::world::{Answer, Caller, Changes, VERSION, World, workspace};

const POLICIES: &str = "
version: 1
scopes: {workspace: WORKSPACE}
allow:
  - {name: as azure says, who: [authenticated], rights: azure, scope: workspace}
";
const JOBS: &str = "Microsoft.MachineLearningServices/workspaces/jobs/read";

struct Scene {
    world: World,
    clock: ManualClock,
}

impl Scene {
    async fn new() -> Self {
        let clock = ManualClock::starting_at(SystemClock.now());
        let policies = POLICIES.replace("WORKSPACE", &workspace(""));
        let changes = Changes { policies: Some(&policies), ..Changes::default() };
        let world = World::at(changes, Arc::new(clock.clone())).await;
        Self { world, clock }
    }

    fn caller(&self, name: &str) -> Caller<'_> {
        let person = Person::named(name).unwrap();
        let token = self.world.sandbox.azure.user_token(person, &UserToken::default()).unwrap();
        self.world.bearing(&token)
    }

    async fn lists_jobs(&self, name: &str) -> Answer {
        self.caller(name).get(&workspace(&format!("/jobs?{VERSION}"))).await
    }

    /// How often Azure was asked for a list of this kind.
    fn asked(&self, kind: &str) -> usize {
        self.world.sandbox.azure.observer().seen_at(&format!("Microsoft.Authorization/{kind}")).len()
    }

    fn give(&self, name: &str, role: &'static Role, scope: &str, condition: Option<&str>) {
        self.world.sandbox.azure.assign_as(Assignment {
            id: uuid(),
            principal: Person::named(name).unwrap().object_id.to_owned(),
            principal_type: "User",
            role,
            scope: scope.to_owned(),
            condition: condition.map(ToOwned::to_owned),
        });
    }

    fn take(&self, name: &str) {
        let person = Person::named(name).unwrap();
        self.world.sandbox.azure.unassign(person.object_id);
        for group in person.group_ids {
            self.world.sandbox.azure.unassign(group);
        }
    }
}

fn uuid() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("00000000-0000-4000-9000-{:012}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn denial(
    principals: &[(&str, &'static str)],
    excluded: &[(&str, &'static str)],
    action: &str,
) -> DenyAssignment {
    let owned =
        |all: &[(&str, &'static str)]| all.iter().map(|(id, kind)| ((*id).to_owned(), *kind)).collect();
    DenyAssignment {
        id: uuid(),
        name: "locked by a managed application".to_owned(),
        actions: vec![action.to_owned()],
        not_actions: Vec::new(),
        scope: names::group_id(),
        only_there: false,
        principals: owned(principals),
        // What the gate cannot read it cannot mirror.
        excluded: owned(&[excluded, &[(names::GATE_PRINCIPAL, "ServicePrincipal")]].concat()),
    }
}

fn cause(answer: &Answer) -> String {
    answer.json()["error"]["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_caller_may_do_what_a_role_assignment_grants_wherever_it_stands() {
    let scene = Scene::new().await;
    // Through a group, at the workspace; at the group; and nothing beyond the role.
    assert_eq!(scene.lists_jobs("sam").await.status, StatusCode::OK);
    assert_eq!(scene.lists_jobs("alex").await.status, StatusCode::OK);
    let refused = scene.caller("rita").delete(&workspace(&format!("/jobs/none?{VERSION}"))).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
    assert!(cause(&refused).contains("`as azure says` would, but for its `rights`"), "{refused:?}");
    scene.take("rita");
    let subscription = format!("/subscriptions/{}", names::SUBSCRIPTION);
    scene.give("rita", Role::find("Reader").unwrap(), &subscription, None);
    scene.clock.advance(Duration::from_secs(61));
    assert_eq!(scene.lists_jobs("rita").await.status, StatusCode::OK);
    let log = scene.world.stop().await;
    let read = log.requests()[0]["unmapped"]["amlgate"]["read"].to_string();
    assert!(read.contains("rights.azure") && read.contains("AzureML Data Scientist"), "{read}");
    assert!(read.contains("through group"), "{read}");
}

#[tokio::test]
async fn a_caller_without_an_object_of_entra_has_no_rights() {
    let scene = Scene::new().await;
    let answer = scene.world.caller("sam").get(&workspace(&format!("/jobs?{VERSION}"))).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(cause(&answer).contains("no object id of Entra"), "{answer:?}");
    assert_eq!(scene.asked("roleAssignments"), 0);
}

#[tokio::test]
async fn an_assignment_that_is_taken_away_ends_with_the_next_reading() {
    let scene = Scene::new().await;
    assert_eq!(scene.lists_jobs("sam").await.status, StatusCode::OK);
    scene.take("sam");
    assert_eq!(scene.lists_jobs("sam").await.status, StatusCode::OK, "it is still fresh");
    scene.clock.advance(Duration::from_secs(61));
    assert_eq!(scene.lists_jobs("sam").await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn one_reading_serves_all_of_a_person_at_once() {
    let scene = Scene::new().await;
    let all = [(); 8].map(|()| scene.lists_jobs("sam"));
    let [a, b, c, d, e, f, g, h] = all;
    let answers = tokio::join!(a, b, c, d, e, f, g, h);
    for answer in [answers.0, answers.1, answers.2, answers.3, answers.4, answers.5, answers.6, answers.7] {
        assert_eq!(answer.status, StatusCode::OK);
    }
    assert_eq!((scene.asked("roleAssignments"), scene.asked("denyAssignments")), (1, 1));
}

#[tokio::test]
async fn what_azure_said_stands_while_it_does_not_answer_until_it_is_stale() {
    let scene = Scene::new().await;
    assert_eq!(scene.lists_jobs("sam").await.status, StatusCode::OK);
    let down = || {
        for _ in 0..100 {
            let fault = Fault::status(StatusCode::SERVICE_UNAVAILABLE, "ServerBusy");
            scene.world.sandbox.azure.observer().trap("Microsoft.Authorization/", None, fault);
        }
    };
    down();
    scene.clock.advance(Duration::from_secs(600));
    assert_eq!(scene.lists_jobs("sam").await.status, StatusCode::OK, "within 15 minutes");
    scene.clock.advance(Duration::from_secs(301));
    down();
    let answer = scene.lists_jobs("sam").await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(cause(&answer).contains("could not be read"), "{answer:?}");
    scene.world.sandbox.azure.observer().disarm();
    scene.clock.advance(Duration::from_secs(6));
    assert_eq!(scene.lists_jobs("sam").await.status, StatusCode::OK, "it is asked again");
}

#[tokio::test]
async fn a_reading_in_use_is_renewed_before_anybody_waits_for_it() {
    let scene = Scene::new().await;
    assert_eq!(scene.lists_jobs("sam").await.status, StatusCode::OK);
    let observer = scene.world.sandbox.azure.observer();
    scene.clock.advance(Duration::from_secs(40));
    let renewed = |seen: &[amlgate::sandbox::Seen]| {
        seen.iter().filter(|s| s.target.contains("Microsoft.Authorization/roleAssignments")).count() == 2
    };
    observer.wait_for(renewed).await;
}

#[tokio::test]
async fn a_list_of_many_pages_is_read_to_its_end() {
    let scene = Scene::new().await;
    scene.take("sam");
    let nothing = Role::custom(&uuid(), "Nothing of use", &["Microsoft.Storage/*/read"], &[]);
    for _ in 0..7 {
        scene.give("sam", nothing, &workspace(""), None);
    }
    assert_eq!(scene.lists_jobs("sam").await.status, StatusCode::FORBIDDEN);
    scene.give("sam", Role::find("Reader").unwrap(), &workspace(""), None);
    scene.clock.advance(Duration::from_secs(61));
    let before = scene.asked("roleAssignments");
    assert_eq!(scene.lists_jobs("sam").await.status, StatusCode::OK);
    assert_eq!(scene.asked("roleAssignments") - before, 3, "three items are on a page");
}

#[tokio::test]
async fn a_role_of_ones_own_counts_and_what_it_leaves_out_does_not() {
    let scene = Scene::new().await;
    scene.take("sam");
    let all_but_jobs = Role::custom(&uuid(), "All but jobs", &["*"], &["*/jobs/read"]);
    scene.give("sam", all_but_jobs, &workspace(""), None);
    assert_eq!(scene.lists_jobs("sam").await.status, StatusCode::FORBIDDEN);
    let own = Role::custom(&uuid(), "Own", &[JOBS], &[]);
    scene.give("sam", own, &workspace(""), None);
    scene.clock.advance(Duration::from_secs(61));
    assert_eq!(scene.lists_jobs("sam").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_condition_is_not_mirrored_and_the_answer_says_so() {
    let scene = Scene::new().await;
    scene.take("sam");
    scene.give("sam", Role::find("Owner").unwrap(), &workspace(""), Some("@Resource[x] StringEquals 'y'"));
    let answer = scene.lists_jobs("sam").await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(cause(&answer).contains("has a condition"), "{answer:?}");
}

#[tokio::test]
async fn a_deny_assignment_wins_for_whom_it_names() {
    let everybody = "00000000-0000-0000-0000-000000000000";
    let sam = Person::named("sam").unwrap();
    for (principals, excluded, status) in [
        (vec![(sam.object_id, "User")], vec![], StatusCode::FORBIDDEN),
        (vec![(sam.group_ids[0], "Group")], vec![], StatusCode::FORBIDDEN),
        (vec![(everybody, "SystemDefined")], vec![], StatusCode::FORBIDDEN),
        (vec![(everybody, "SystemDefined")], vec![(sam.object_id, "User")], StatusCode::OK),
        (vec![(Person::named("pat").unwrap().object_id, "User")], vec![], StatusCode::OK),
    ] {
        let scene = Scene::new().await;
        scene.world.sandbox.azure.deny(denial(&principals, &excluded, "*/read"));
        assert_eq!(scene.lists_jobs("sam").await.status, status, "{principals:?} {excluded:?}");
    }
}

#[tokio::test]
async fn the_gate_decides_as_azure_does_for_assignments_at_random() {
    let scene = Scene::new().await;
    let sam = Person::named("sam").unwrap();
    let scopes = [
        format!("/subscriptions/{}", names::SUBSCRIPTION),
        names::group_id(),
        workspace(""),
        workspace("/jobs/j"),
        names::workspace_id(names::OTHER_WORKSPACE),
    ];
    let patterns =
        ["*", "*/read", "Microsoft.MachineLearningServices/workspaces/*/read", JOBS, "Microsoft.Storage/*"];
    let mut seed = 7_u64;
    let mut draw = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % below
    };
    let mut allowed = 0;
    for round in 0..40 {
        scene.take("sam");
        for _ in 0..draw(4) {
            let taken = [patterns[draw(5)]];
            let role = Role::custom(&uuid(), "R", &[patterns[draw(5)]], &taken[..draw(2)]);
            scene.give("sam", role, &scopes[draw(5)], (draw(4) == 0).then_some("c"));
        }
        if round == 20 {
            scene.world.sandbox.azure.deny(DenyAssignment {
                not_actions: vec!["*/jobs/read".to_owned()],
                ..denial(&[(sam.object_id, "User")], &[], "*/read")
            });
        }
        scene.clock.advance(Duration::from_secs(61));
        for (path, action) in [("/jobs", "jobs/read"), ("/computes", "computes/read"), ("", "read")] {
            let action = format!("Microsoft.MachineLearningServices/workspaces/{action}");
            let azures = scene.world.sandbox.azure.judges(sam, &action, &workspace(""));
            let answer = scene.caller("sam").get(&workspace(&format!("{path}?{VERSION}"))).await;
            assert_eq!(answer.status == StatusCode::OK, azures, "round {round} {action}: {answer:?}");
            allowed += usize::from(azures);
        }
    }
    assert!((10..110).contains(&allowed), "{allowed} of 120 say little");
}
