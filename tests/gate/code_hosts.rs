//! Only from reviewed code: what GitHub says of a pull request.

pub mod stand_in;

use std::{sync::Arc, time::Duration};

use amlgate::{
    sandbox::azure::names,
    time::{Clock as _, ManualClock, SystemClock},
};
use http::StatusCode;
use serde_json::{Value, json};

use self::stand_in::{Answers, CodeHost, Mood};
use crate::{
    reviews::built,
    world::{Answer, Changes, VERSION, World, job, workspace},
};

const TOKEN: &str = "github-token-canary";
const HEAD: &str = "b2b5f7c8fb8f96312d629d4d4f379f34f5b9b651";
const BASE: &str = "00b5f7c8fb8f96312d629d4d4f379f34f5b9b651";
const LANDED: &str = "c3b5f7c8fb8f96312d629d4d4f379f34f5b9b651";
const TIP: &str = "d4b5f7c8fb8f96312d629d4d4f379f34f5b9b651";
const ANA: u64 = 583_231;
const BO: u64 = 583_232;

const POLICIES: &str = "version: 1
subjects:
  everybody: [{issuer: sandbox, group: data-science}, {issuer: sandbox, kind: machine}]
allow:
  - {name: they work, who: [everybody], actions: [Microsoft.MachineLearningServices/*]}
require:
  - name: jobs come from reviewed code
    actions: [Microsoft.MachineLearningServices/workspaces/jobs/write]
    review: {github: main, project: corp/vision, branch: release/1, commit: caller.sha, by: [{github_team: risk, count: 1}]}
";

fn oid(account: u64) -> String {
    format!("00000000-0000-4000-8000-{account:012}")
}

fn user(id: u64) -> Value {
    let login = if id == ANA { "ana" } else { "bo" };
    json!({"login": login, "id": id, "type": "User", "site_admin": false})
}

const REPOSITORY: &str = "/api/v3/repos/corp/vision";

/// The path of what became of a branch.
fn activity(branch: &str, more: &str) -> String {
    let branch = branch.replace('-', "%2D").replace('/', "%2F");
    format!("{REPOSITORY}/activity?ref=refs%2Fheads%2F{branch}&per_page=100{more}")
}

fn moved(kind: &str, by: u64, branch: &str, before: &str, after: &str) -> Value {
    json!({"id": 1, "node_id": "x", "before": before, "after": after, "ref": format!("refs/heads/{branch}"),
        "timestamp": "2026-11-01T10:30:00Z", "activity_type": kind, "actor": user(by)})
}

/// A pull request that was reviewed, merged and is on the branch.
fn github() -> Answers {
    let repo = |name: &str| json!({"id": 9, "full_name": name});
    let pull = json!({
        "number": 42, "html_url": "https://github.corp/corp/vision/pull/42", "state": "closed", "user": user(ANA),
        "merged_at": "2026-11-01T12:00:00Z", "merge_commit_sha": LANDED, "commits": 1, "merged_by": user(BO),
        "head": {"ref": "train-v3", "sha": HEAD, "repo": repo("corp/vision")},
        "base": {"ref": "release/1", "sha": BASE, "repo": repo("Corp/Vision")},
    });
    let commit = json!({
        "sha": HEAD, "author": user(ANA), "committer": user(ANA), "parents": [{"sha": BASE}],
        "commit": {"author": {"name": "Ana", "email": "ana@x.example"}, "committer": {"name": "Ana", "email": "ana@x.example"},
            "message": "Train", "verification": {"verified": false}},
    });
    let review = json!({"id": 80, "user": user(BO), "state": "APPROVED", "commit_id": HEAD, "submitted_at": "2026-11-01T11:00:00Z"});
    let comparison = |sha: &str| json!({"status": "ahead", "merge_base_commit": {"sha": sha}, "commits": []});
    let bare = |sha: &str, tree: &str| json!({"sha": sha, "tree": {"sha": tree}, "parents": [{"sha": BASE}]});
    let of = |path: &str| format!("{REPOSITORY}{path}");
    [
        (of(&format!("/commits/{HEAD}/pulls?per_page=100&page=1")), json!([pull])),
        (of(&format!("/commits/{LANDED}/pulls?per_page=100&page=1")), json!([pull])),
        (of("/branches/release%2F1"), json!({"name": "release/1", "commit": {"sha": TIP}})),
        (of(&format!("/compare/{HEAD}...{TIP}?per_page=1&page=2")), comparison(HEAD)),
        (of(&format!("/compare/{LANDED}...{TIP}?per_page=1&page=2")), comparison(LANDED)),
        (of("/pulls/42"), pull),
        (of("/pulls/42/commits?per_page=100&page=1"), json!([commit])),
        (of("/pulls/42/reviews?per_page=100&page=1"), json!([review])),
        (
            of("/issues/42/events?per_page=100&page=1"),
            json!([{"event": "labeled", "created_at": "2026-11-01T11:30:00Z"}]),
        ),
        (activity("train-v3", ""), json!([moved("push", ANA, "train-v3", BASE, HEAD)])),
        (activity("release/1", "&activity_type=pr_merge"), json!([moved("pr_merge", BO, "release/1", BASE, LANDED)])),
        (of(&format!("/git/commits/{HEAD}")), bare(HEAD, "t1")),
        (of(&format!("/git/commits/{LANDED}")), bare(LANDED, "t2")),
        (
            of(&format!("/commits/{HEAD}/check-runs?per_page=100&page=1")),
            json!({"total_count": 1, "check_runs": [{"name": "build", "status": "completed", "conclusion": "success"}]}),
        ),
        (of(&format!("/commits/{HEAD}/status?per_page=100")), json!({"state": "pending", "total_count": 0, "statuses": []})),
        (of("/collaborators/bo/permission"), json!({"permission": "write", "role_name": "maintain", "user": user(BO)})),
        ("/api/v3/orgs/corp/teams/risk/memberships/bo".to_owned(), json!({"state": "active", "role": "member"})),
        ("/api/v3/user".to_owned(), json!({"login": "amlgate-reader", "id": 7, "type": "User"})),
    ]
    .into()
}

async fn world(host: &CodeHost, policies: &str) -> (World, ManualClock) {
    let clock = ManualClock::starting_at(SystemClock.now());
    let block = format!(
        "github:\n  - {{name: main, url: \"http://{}/api/v3\", token: {{file: github.token}}, accounts: [{{id: {BO}, person: {}}}]}}\npeople: {{canonical: entra, links: []}}\npolicies: policies/",
        host.address,
        oid(BO)
    );
    let configuration = &[("policies: policies/", block.as_str())];
    let changes = Changes { policies: Some(policies), configuration };
    (World::having_at(&[("github.token", TOKEN)], changes, Arc::new(clock.clone())).await, clock)
}

async fn submits(world: &World, sha: &str, name: &str) -> Answer {
    world.bearing(&built(world, sha)).put(&workspace(&format!("/jobs/{name}?{VERSION}")), &job()).await
}

/// A refusal for want of a review; its cause.
fn refused(answer: &Answer) -> String {
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
    let error = &answer.json()["error"];
    assert_eq!(error["code"], "ReviewRequired", "{answer:?}");
    let message = error["message"].as_str().unwrap().to_owned();
    assert!(message.contains("`jobs come from reviewed code`"), "{message}");
    assert!(!message.contains(TOKEN) && !message.contains("ana@"), "{message}");
    message
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_of_an_approved_pull_request_goes_on_and_the_record_says_who_approved_it() {
    let host = CodeHost::start(github()).await;
    let (world, _) = world(&host, POLICIES).await;
    let answer = submits(&world, HEAD, "reviewed").await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    let asked = host.asked();
    assert!(asked.len() > 8, "{asked:?}");
    for (headers, path) in asked {
        assert_eq!(headers["authorization"], format!("Bearer {TOKEN}"), "{path}");
        assert_eq!(headers["user-agent"], "amlgate", "GitHub refuses whoever does not say what they are");
        assert_eq!(headers["x-github-api-version"], "2022-11-28");
        assert_eq!(headers["accept"], "application/vnd.github+json");
    }
    // What GitHub made of it when it merged, too.
    assert_eq!(submits(&world, LANDED, "squashed").await.status, StatusCode::CREATED);
    let log = world.stop().await;
    assert!(!format!("{:?}", log.records).contains(TOKEN), "the record holds the token");
    let own = |record: &&Value| record["unmapped"]["amlgate"].clone();
    let written: Vec<_> = log.requests().iter().map(own).filter(|own| own["phase"] == "intent").collect();
    let of: Vec<_> = written.iter().map(|own| &own["reviews"][0]).collect();
    let seen: Vec<_> = of.iter().map(|one| (one["sha"].as_str(), one["submit_type"].as_str())).collect();
    assert_eq!(seen, [(Some(HEAD), Some("MERGE")), (Some(LANDED), Some("SQUASH_OR_REBASE"))]);
    for review in of {
        assert_eq!((review["change"].as_u64(), review["revision"].as_str()), (Some(42), Some(HEAD)));
        assert_eq!(review["url"], "https://github.corp/corp/vision/pull/42");
        assert_eq!((&review["server"], &review["project"]), (&json!("main"), &json!("corp/vision")));
        let person = format!("entra:{}/{}", names::TENANT, oid(BO));
        assert_eq!(review["approvers"], json!([{"account": BO, "person": person}]));
        assert_eq!(review["requirements"], json!([{"name": "build", "status": "PASSED"}]));
    }
}

/// What is changed at the GitHub.
type Edit = fn(&mut Answers);

/// What it answers at a path.
fn at<'a>(answers: &'a mut Answers, path: &str) -> &'a mut Value {
    answers.get_mut(&format!("{REPOSITORY}{path}")).unwrap_or_else(|| panic!("{path}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_thing_that_is_wrong_with_a_pull_request_is_refused_and_said() {
    let host = CodeHost::start(github()).await;
    let (world, _) = world(&host, POLICIES).await;
    let cases: [(&str, Edit, &str); 18] = [
        (
            HEAD,
            |g| *at(g, &format!("/commits/{HEAD}/pulls?per_page=100&page=1")) = json!([]),
            "pushed around review",
        ),
        (
            HEAD,
            |g| at(g, &format!("/commits/{HEAD}/pulls?per_page=100&page=1"))[0]["merged_at"] = Value::Null,
            "pull request 42 is not merged",
        ),
        (
            HEAD,
            |g| at(g, "/pulls/42")["base"]["ref"] = "main".into(),
            "pushed around review, or is of another branch",
        ),
        (
            HEAD,
            |g| at(g, &format!("/compare/{HEAD}...{TIP}?per_page=1&page=2"))["status"] = "diverged".into(),
            "branch `release/1` does not hold the commit",
        ),
        (
            HEAD,
            |g| drop(g.remove(&format!("{REPOSITORY}/branches/release%2F1"))),
            "knows nothing of the branch",
        ),
        (
            HEAD,
            |g| at(g, "/pulls/42/reviews?per_page=100&page=1")[0]["state"] = "DISMISSED".into(),
            "nobody whose vote counts",
        ),
        (
            HEAD,
            |g| at(g, "/pulls/42/reviews?per_page=100&page=1")[0]["commit_id"] = BASE.into(),
            "nobody whose vote counts",
        ),
        (
            HEAD,
            |g| at(g, "/pulls/42/reviews?per_page=100&page=1")[0]["state"] = "CHANGES_REQUESTED".into(),
            "somebody asked for changes",
        ),
        (
            HEAD,
            |g| at(g, "/issues/42/events?per_page=100&page=1")[0]["event"] = "base_ref_changed".into(),
            "nobody whose vote counts",
        ),
        (
            HEAD,
            |g| at(g, "/collaborators/bo/permission")["permission"] = "read".into(),
            "nobody whose vote counts",
        ),
        (
            HEAD,
            |g| drop(g.remove(&format!("{REPOSITORY}/collaborators/bo/permission"))),
            "nobody whose vote counts",
        ),
        (
            HEAD,
            |g| at(g, "/pulls/42/commits?per_page=100&page=1")[0]["author"] = user(BO),
            "nobody whose vote counts",
        ),
        (
            HEAD,
            |g| at(g, "/pulls/42/commits?per_page=100&page=1")[0]["author"] = Value::Null,
            "is no account's",
        ),
        (
            HEAD,
            |g| g.get_mut(&activity("train-v3", "")).unwrap()[0]["actor"] = user(BO),
            "nobody whose vote counts",
        ),
        (HEAD, |g| drop(g.remove(&activity("train-v3", ""))), "does not say who pushed it"),
        (
            HEAD,
            |g| drop(g.remove("/api/v3/orgs/corp/teams/risk/memberships/bo")),
            "not enough members of `risk`",
        ),
        (
            HEAD,
            |g| {
                at(g, &format!("/commits/{HEAD}/check-runs?per_page=100&page=1"))["check_runs"][0]["conclusion"] =
                    "failure".into();
            },
            "check `build` is FAILED",
        ),
        (
            LANDED,
            |g| {
                let path = activity("release/1", "&activity_type=pr_merge");
                g.get_mut(&path).unwrap()[0]["activity_type"] = "push".into();
                g.insert(activity("release/1", "&activity_type=merge_queue_merge"), json!([]));
            },
            "GitHub does not say that it made it by merging",
        ),
    ];
    for (number, (sha, edit, expected)) in cases.into_iter().enumerate() {
        let mut changed = github();
        edit(&mut changed);
        host.answers(changed);
        let message = refused(&submits(&world, sha, &format!("no-{number}")).await);
        assert!(message.contains(expected), "{expected}: {message}");
    }
    assert_eq!(world.sandbox.azure.observer().seen_at("/jobs/").len(), 0, "nothing was sent");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_answer_of_github_is_a_no_and_a_long_list_is_read_to_its_end() {
    let host = CodeHost::start(github()).await;
    let (world, clock) = world(&host, POLICIES).await;
    for (mood, expected) in [
        (Mood::Status(401), "does not let the gate read"),
        (Mood::Status(403), "does not let the gate read"),
        (Mood::TooOften, "GitHub `main` does not answer"),
        (Mood::Status(429), "GitHub `main` does not answer"),
        (Mood::Status(502), "GitHub `main` does not answer"),
        (Mood::Status(301), "gave no answer that can be read"),
        (Mood::Body("<html></html>"), "gave no answer that can be read"),
        (Mood::Body("{}"), "gave no answer that can be read"),
        (Mood::FailsAt("/check-runs", 403), "does not let the gate read checks"),
        (Mood::FailsAt("/memberships/", 403), "does not let the gate read teams"),
        (Mood::FailsAt("/permission", 500), "does not answer"),
        (Mood::FailsAt("/reviews", 404), "knows nothing of reviews"),
    ] {
        host.is(mood);
        let message = refused(&submits(&world, HEAD, "odd").await);
        assert!(message.contains(expected), "{mood:?}: {message}");
    }
    host.is(Mood::Well);
    // Whoever pushed last stands on the second page.
    let mut paged = github();
    let first = activity("train-v3", "");
    let pushes = paged.insert(first.clone(), json!([moved("push", BO, "other", BASE, TIP)])).unwrap();
    paged.insert(format!("{first}&after=Y3Vy"), pushes);
    host.goes_on(&first, "Y3Vy");
    host.answers(paged);
    assert_eq!(submits(&world, HEAD, "paged").await.status, StatusCode::CREATED);
    // Another token is used without a restart, and what was found counts no longer.
    host.asked();
    std::fs::write(world.dir.path().join("github.token"), "renewed").unwrap();
    world.server.reload().await;
    assert_eq!(submits(&world, HEAD, "renewed").await.status, StatusCode::CREATED);
    assert_eq!(host.asked()[0].0["authorization"], "Bearer renewed");
    clock.advance(Duration::from_secs(5));
    host.answers(Answers::new());
    assert!(refused(&submits(&world, HEAD, "gone").await).contains("knows nothing of the branch"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_says_whom_github_knows_and_what_is_wrong_with_the_token() {
    let host = CodeHost::start(github()).await;
    let (world, _) = world(&host, POLICIES).await;
    let doctor = || {
        let settings = amlgate::config::load(&world.sandbox.configuration()).unwrap();
        let clock: amlgate::time::SharedClock = Arc::new(SystemClock);
        async move {
            let found = amlgate::server::checkup::check_up(&settings, &clock, None).await.unwrap();
            serde_json::to_value(found.into_iter().find(|finding| finding.part == "github main").unwrap())
                .unwrap()
        }
    };
    let found = doctor().await;
    assert_eq!(found["state"], "fine", "{found}");
    assert!(found["seen"].as_str().unwrap().contains("`amlgate-reader`"), "{found}");
    host.is(Mood::Status(401));
    let found = doctor().await;
    assert_eq!(found["state"], "broken", "{found}");
    assert!(found["mend"].as_str().unwrap().contains("has not ended"), "{found}");
    world.stop().await;
}
