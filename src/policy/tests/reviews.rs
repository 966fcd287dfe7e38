//! Entries that demand reviewed code, and that everything that explains a decision says the same.

use std::time::Duration;

use super::*;
use crate::{
    azureml::Effect,
    policy::{
        Cut, DenialCode, EntryRef, Hypothesis, Lease, Obligation, OpenGlass, StreamLimits, cases, decide,
        described::{Described, DescribedAct, Door},
        explained::Explained,
        flip,
        may::Answer,
        replay::{Replayed, replay},
        review::{
            Accepted, Authors, CodeHost, CommitFrom, Contributor, Requirements, Review, Reviewers,
            Unreachable,
        },
    },
};

const FREE: &str = "version: 1
subjects: {team: [{issuer: corp, group: g}], boss: [{issuer: corp, group: boss}]}
allow: [{name: team works, who: [team, boss], kinds: [read, write]}]
";
/// What is in an entry besides its name and `review`.
const SELECTS: &str = "effects: [register_model]";
const SHORT: &str = "{gerrit: main, project: ml/vision, branch: main, by: [{gerrit_group: risk-reviewers}]}";
const DEMAND: &str = "entry `models come from reviewed code` demands a change merged to `main` of `ml/vision` \
                      at Gerrit `main`, reviewed with Code-Review 2 by 1 of `risk-reviewers`, none of them its \
                      owner, uploader, author or committer";

fn demanding(more: &str, review: &str) -> String {
    format!("{FREE}require: [{{name: models come from reviewed code, {more}, review: {review}}}]\n")
}

fn registers() -> Operation {
    Operation {
        effects: Effects::NONE.with(Effect::RegisterModel),
        ..operation(Kind::Write, vec![act("models/versions/write", WS_A)])
    }
}

fn wanted(judgement: &Judgement) -> Vec<&Review> {
    assert_eq!(judgement.denial, None, "{judgement:?}");
    judgement.reviews().map(|review| &**review).collect()
}

fn judged_in(set: &PolicySet, groups: &[&str], request: &RequestFacts) -> Judgement {
    judge_at(set, &caller(groups), &registers(), request, noon())
}

fn put() -> RequestFacts {
    request(Method::PUT, "/x")
}

#[test]
fn what_an_entry_matches_is_allowed_once_the_code_behind_it_is_reviewed() {
    let set = set(&demanding(SELECTS, SHORT));
    let judgement = judged_in(&set, &["g"], &put());
    assert_eq!((verdict(&judgement), judgement.asks()), ("allow", true));
    let [Obligation::Review(review)] = &judgement.obligations[..] else { panic!("{judgement:?}") };
    assert_eq!(
        **review,
        Review {
            entry: EntryRef { name: "models come from reviewed code".into(), file: "p.yaml".into(), line: 4 },
            host: CodeHost::Gerrit("main".into()),
            project: "ml/vision".into(),
            branch: "main".into(),
            labels: [("Code-Review".into(), 2)].into(),
            approvals: 0,
            by: [Reviewers { group: "risk-reviewers".into(), count: 1 }].into(),
            not_by: Authors::ALL,
            commit: CommitFrom::Job,
            requirements: Requirements::All,
            accept: Accepted::default(),
            max_age: None,
            merge_commits: false,
            statement: false,
            on_unreachable: Unreachable::Refuse,
            hold: Duration::ZERO,
        }
    );
    assert_eq!(Obligation::Review(Arc::clone(review)).entry(), &review.entry);
    assert_eq!(review.demand(), DEMAND);
    assert_eq!(set.reviews().collect::<Vec<_>>(), [review]);
    // What does something else needs none, and whoever may not anyhow is not told of one.
    assert_eq!(wanted(&judged(&set, &caller(&["g"]), &list_jobs())), Vec::<&Review>::new());
    let stranger = judged_in(&set, &[], &put());
    assert_eq!((verdict(&stranger), stranger.asks()), ("AuthorizationFailed", false));
}

#[test]
fn every_key_is_kept_as_it_is_written() {
    let written = "{gerrit: main, project: ml/vision, branch: release/1, labels: {Code-Review: 1, Risk: 3}, \
                   by: [{gerrit_group: Risk Reviewers, count: 2}, {gerrit_group: owners}], not_by: [author, owner], \
                   commit: caller.sha, requirements: [Code-Review, Risk], accept: [overridden, forced], \
                   max_age: 30d, merge_commits: true, on_unreachable: hold, hold: 60s}";
    let set = set(&demanding(SELECTS, written));
    let judgement = judged_in(&set, &["g"], &put());
    let [review] = wanted(&judgement)[..] else { panic!("{judgement:?}") };
    assert_eq!(*review.labels, [("Code-Review".into(), 1), ("Risk".into(), 3)]);
    let owners = Reviewers { group: "owners".into(), count: 1 };
    assert_eq!(*review.by, [Reviewers { group: "Risk Reviewers".into(), count: 2 }, owners]);
    let not_by: Vec<_> = review.not_by.iter().collect();
    assert_eq!(not_by, [Contributor::Owner, Contributor::Author]);
    assert!(review.not_by.has(Contributor::Author) && !review.not_by.has(Contributor::Uploader));
    assert_eq!(review.commit, CommitFrom::Claim("sha".into()));
    assert_eq!(review.requirements, Requirements::Named(["Code-Review".into(), "Risk".into()].into()));
    assert_eq!(review.accept, Accepted { overridden: true, not_applicable: false, forced: true });
    assert_eq!(review.max_age, Some(Duration::from_secs(30 * 86_400)));
    assert_eq!((review.merge_commits, review.on_unreachable), (true, Unreachable::Hold));
    assert_eq!(review.hold, Duration::from_secs(60));
    assert_eq!(
        review.words(),
        "a change merged to `release/1` of `ml/vision` at Gerrit `main`, at most 30d ago, reviewed with \
         Code-Review 1 and Risk 3 by 2 of `Risk Reviewers` and 1 of `owners`, none of them its owner or author"
    );
    let view = format!("{:?}", set.views().last().unwrap().keys);
    for said in [
        "Gerrit `main`",
        "branch `release/1`",
        "Risk 3 or more",
        "by 2 of `Risk Reviewers`",
        "not by its author",
        "of the commit in the caller's claim `sha`",
        "submit requirement `Risk`",
        "accepts overridden ones",
        "accepts forced ones",
        "merged at most 30d ago",
        "merge commits, too",
        "holds while the host does not answer",
    ] {
        assert!(view.contains(said), "{said}: {view}");
    }
}

#[test]
fn without_groups_anybody_counts_who_had_no_hand_in_it() {
    let set = set(&demanding(SELECTS, "{gerrit: main, project: p, branch: main, not_by: uploader}"));
    let judgement = judged_in(&set, &["g"], &put());
    assert_eq!(
        wanted(&judgement)[0].words(),
        "a change merged to `main` of `p` at Gerrit `main`, reviewed with Code-Review 2 by somebody who is not \
         its uploader"
    );
}

#[test]
fn an_entry_that_cannot_be_evaluated_demands_its_review_and_one_of_any_act_is_enough() {
    let unsure = Operation { effects: Effects::NONE, unclear_effects: registers().effects, ..registers() };
    let of = |more: &str, groups: &[&str], operation: &Operation| {
        let set = set(&demanding(more, SHORT));
        wanted(&judged(&set, &caller(groups), operation)).len()
    };
    assert_eq!(of(SELECTS, &["g"], &unsure), 1, "whether it registers cannot be told");
    let scoped = format!("scope: {WS_A}");
    let nowhere =
        Operation { acts: vec![Act { resource: None, ..act("models/versions/write", WS_A) }], ..registers() };
    assert_eq!(of(&scoped, &["g"], &nowhere), 1, "where it is done is not told");
    let elsewhere = act("models/versions/write", &WS_A.replace("workspaces/a", "workspaces/b"));
    let two = Operation { acts: vec![elsewhere.clone(), act("jobs/read", WS_A)], ..registers() };
    assert_eq!(of(&scoped, &["g"], &two), 1, "one of two acts");
    assert_eq!(of(&scoped, &["g"], &Operation { acts: vec![elsewhere], ..registers() }), 0);
}

#[test]
fn an_entry_that_is_watched_or_lifted_demands_nothing() {
    let watched = set(&demanding(&format!("{SELECTS}, dry_run_until: 2026-12-01T09:00:00Z"), SHORT));
    let judgement = judged_in(&watched, &["g"], &put());
    assert_eq!((wanted(&judgement).len(), judgement.asks(), judgement.would_deny.len()), (0, false, 1));
    let later = Timestamp::from_secs(noon().as_secs() + 30 * 86_400);
    let enforced = judge_at(&watched, &caller(&["g"]), &registers(), &put(), later);
    assert_eq!((wanted(&enforced).len(), enforced.would_deny.len()), (1, 0));
    let lifted = set(&demanding(&format!("{SELECTS}, unless: {{break_glass: true}}"), SHORT));
    assert_eq!(wanted(&judged_in(&lifted, &["g"], &put())).len(), 1);
    let broken = RequestFacts { glass: Some(Arc::new(OpenGlass { id: "b".into() })), ..put() };
    let judgement = judged_in(&lifted, &["g"], &broken);
    assert_eq!((wanted(&judgement).len(), judgement.lifted.len()), (0, 1));
    let exempt = set(&demanding(&format!("{SELECTS}, unless: {{who: [boss]}}"), SHORT));
    let of = |groups: &[&str]| wanted(&judged_in(&exempt, groups, &put())).len();
    assert_eq!((of(&["g"]), of(&["boss"])), (1, 0));
}

#[test]
fn an_entry_can_demand_more_than_a_review() {
    let more = format!("{SELECTS}, approval: {{by: [{{subject: boss}}]}}, limit: {{requests: 1, every: 1s}}");
    let set = set(&demanding(&more, SHORT));
    let judgement = judged_in(&set, &["g"], &put());
    let kinds: Vec<_> = judgement
        .obligations
        .iter()
        .map(|obligation| match obligation {
            Obligation::Limit { .. } => "limit",
            Obligation::Approval(_) => "approval",
            Obligation::Opinion { .. } => "opinion",
            Obligation::Review(_) => "review",
        })
        .collect();
    assert_eq!(kinds, ["limit", "review", "approval"]);
    // People are asked about what was reviewed.
    let wanted = judgement.wanted().unwrap();
    assert_eq!(wanted.code, DenialCode::ReviewRequired);
    assert!(wanted.words.contains("risk-reviewers") && wanted.words.contains("1 of `boss`"), "{wanted:?}");
    assert_eq!(judgement.told().decision, "needs_review");
    let unmet = super::set(&demanding(&format!("{SELECTS}, step_up: {{acrs: c1}}"), SHORT));
    let denied = judged_in(&unmet, &["g"], &put());
    assert_eq!((verdict(&denied), denied.obligations.len()), ("StepUpRequired", 0));
}

#[test]
fn to_ask_people_and_to_answer_them_needs_no_review() {
    let set = set(&demanding("who: [team]", SHORT));
    let of = |action: &str| {
        let act = Act { action: Action::new(action), resource: ResourceId::parse(WS_A) };
        wanted(&judged(&set, &caller(&["g"]), &operation(Kind::Write, vec![act]))).len()
    };
    assert_eq!((of("amlgate/requests/write"), of("amlgate/grants/write")), (0, 0));
    assert_eq!((of("amlgate/policies/read"), of("Microsoft.Resources/tags/write")), (1, 1));
}

fn opened(set: &PolicySet) -> Lease {
    let principal = crate::identity::Principal::for_tests(caller(&["g"]));
    let azure = crate::policy::Azure::default();
    let permit = decide(set, principal, registers(), put(), Standing::Entries, azure, noon()).unwrap();
    permit.lease(StreamLimits::default())
}

#[test]
fn a_stream_goes_on_with_the_review_that_it_had_and_ends_when_another_is_demanded() {
    let (free, asks) = (set(FREE), set(&demanding(SELECTS, SHORT)));
    assert_eq!(asks.renew(&opened(&asks), noon()), Ok(()));
    assert_eq!(free.renew(&opened(&asks), noon()), Ok(()));
    let unreviewed = || Err(Cut::Unreviewed("models come from reviewed code".into()));
    assert_eq!(asks.renew(&opened(&free), noon()), unreviewed());
    // Where the entry stands is not what it demands.
    let moved = set(&demanding(SELECTS, SHORT).replace("require:", "# moved\n\nrequire:"));
    assert_eq!(moved.renew(&opened(&asks), noon()), Ok(()));
    let stricter = set(&demanding(SELECTS, &SHORT.replace("reviewers}", "reviewers, count: 2}")));
    assert_eq!(stricter.renew(&opened(&asks), noon()), unreviewed());
}

fn case(set: &PolicySet, expect: &str) -> (Option<String>, Vec<String>) {
    let url = format!("https://management.azure.com{WS_A}/models/m/versions/1?api-version=1");
    let text = format!(
        "version: 1\ncases:\n  - {{name: c, as: {{issuer: corp, groups: [g]}}, request: {{method: PUT, url: '{url}', body: {{properties: {{modelUri: 'azureml://jobs/j/outputs/artifacts/paths/model'}}}}}}, expect: {expect}}}\n"
    );
    let outcome = cases::run(set, &"p.test.yaml".into(), &text, &Door::of_azure).unwrap().remove(0);
    (outcome.failure.map(|problem| problem.message), outcome.decided_by)
}

#[test]
fn a_case_expects_a_review_and_says_which_was_demanded_instead() {
    let set = set(&demanding(SELECTS, SHORT));
    let entry = "models come from reviewed code";
    let (failure, decided_by) =
        case(&set, &format!("{{decision: needs_review, entry: {entry}, code: ReviewRequired}}"));
    assert_eq!((failure, decided_by.last().unwrap().as_str()), (None, entry));
    for expect in [
        "{decision: allow}",
        "{decision: deny}",
        "{decision: needs_approval}",
        "{decision: needs_review, code: ApprovalRequired}",
        "{decision: needs_review, entry: another}",
    ] {
        let failure = case(&set, expect).0.unwrap();
        assert!(failure.contains("it needs a change merged to `main` of `ml/vision`"), "{failure}");
        assert!(failure.contains(&format!("(entry `{entry}`)")), "{failure}");
    }
    let free = super::set(FREE);
    let failure = case(&free, "{decision: needs_review}").0.unwrap();
    assert!(failure.contains("`needs_review` is expected, but it is allowed by `team works`"), "{failure}");
    // With both, each is true.
    let both = format!("{SELECTS}, approval: {{by: [{{subject: boss}}]}}");
    let both = super::set(&demanding(&both, SHORT));
    assert_eq!(case(&both, "{decision: needs_review, code: ReviewRequired}").0, None);
    assert_eq!(case(&both, "{decision: needs_approval, code: ApprovalRequired}").0, None);
    let failure = case(&both, "{decision: allow}").0.unwrap();
    assert!(failure.contains("and the approval of 1 of `boss`"), "{failure}");
}

#[test]
fn explanations_traces_flips_and_replays_say_the_same() {
    let set = set(&demanding(SELECTS, SHORT));
    let (operation, request, who) = (registers(), put(), caller(&["g"]));
    let question = Question {
        caller: &who,
        operation: &operation,
        request: &request,
        now: noon(),
        standing: Standing::Entries,
        azure: &crate::policy::rights::UNREAD,
    };
    assert!(flip::flips(&set, &question).sets.is_empty(), "nothing is denied");
    let judgement = set.judge(&question);
    let entry = judgement.wanted().unwrap().entries.remove(0);
    let met = Hypothesis { satisfied: vec![entry], ..Hypothesis::default() };
    assert_eq!(set.judge_if(&question, &met).obligations, [], "a demand that is met is none");
    let traced = set.trace(&question);
    let review = |name: &str| traced.iter().find(|t| *t.entry.name == *name).unwrap().review.clone();
    assert_eq!(review("models come from reviewed code").unwrap().demand(), DEMAND);
    assert_eq!(review("team works"), None);
    let Replayed::Decided(replayed) = replay(&set, &question, true) else { panic!() };
    assert_eq!(replayed.wanted().unwrap().words, DEMAND);
    let described = Described::of(who, operation, request, Standing::Entries);
    let explained = serde_json::to_value(Explained::of(&set, &described)).unwrap();
    let told = ["decision", "code", "cause", "cure"].map(|key| explained[key].as_str());
    assert_eq!(told, [Some("needs_review"), Some("ReviewRequired"), Some(DEMAND), None]);
    let entries = explained["entries"].as_array().unwrap();
    let held = entries.iter().find(|one| one["entry"]["name"] == "models come from reviewed code").unwrap();
    assert!(held["review"].as_str().unwrap().starts_with("a change merged to `main`"), "{held}");
    let answer = Answer::of(&set, &described);
    assert_eq!((answer.decision.as_str(), answer.cause.as_deref()), ("needs_review", Some(DEMAND)));
}

#[test]
fn what_only_some_requests_of_an_action_must_have_reviewed_is_told_where_it_is_asked_about() {
    let of = |selects: &str, action: &str| {
        let set = set(&demanding(selects, SHORT));
        let words = DescribedAct {
            action,
            resource: WS_A,
            route: "arm",
            from: "10.1.2.3:1".parse().unwrap(),
            at: noon(),
        };
        Answer::of(&set, &Described::act(caller(&["g"]), &words).unwrap())
    };
    let jobs = of(SELECTS, &format!("{ML}/workspaces/jobs/write"));
    assert_eq!(jobs.decision, "allow");
    let but: Vec<_> = jobs.but.iter().map(|but| [&*but.effect, &*but.code, &*but.cause]).collect();
    assert_eq!(but, [["register_model", "ReviewRequired", DEMAND]]);
    // What needs one whatever else it does is told once.
    let always = of("kinds: [write]", &format!("{ML}/workspaces/jobs/write"));
    assert_eq!((always.decision.as_str(), always.but), ("needs_review", vec![]));
}

#[test]
fn an_entry_names_a_gerrit_that_the_configuration_has() {
    let said = |gerrits: &[&str]| {
        let around = Surroundings {
            gerrits: Some(gerrits.iter().map(ToString::to_string).collect()),
            ..Surroundings::default()
        };
        let text = demanding(SELECTS, SHORT);
        let files = FileSet::from_texts([("p.yaml", &*text)]);
        let compiled = PolicySet::compile(&files, &around).map(drop);
        compiled.map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    };
    assert_eq!(said(&["other", "main"]), Ok(()));
    let none = said(&[]).unwrap_err();
    let at = demanding(SELECTS, SHORT).lines().last().unwrap().find("main,").unwrap() + 1;
    assert!(none.starts_with(&format!("p.yaml:4:{at}: ")), "{none}");
    assert!(none.contains("no `gerrit` named `main` in amlgate.yaml"), "{none}");
    assert!(none.contains("it names no server"), "{none}");
    assert!(said(&["mian"]).unwrap_err().contains("did you mean `mian`?"));
    assert!(said(&["production", "staging"]).unwrap_err().contains("it names `production`, `staging`"));
}

#[test]
fn a_statement_is_required_only_where_statements_are_made() {
    let with =
        |more: &str| demanding(SELECTS, &format!("{{gerrit: main, project: p, branch: main, {more}}}"));
    let compiled = |text: &str, states: Option<bool>| {
        let files = FileSet::from_texts([("p.yaml", text)]);
        let around = Surroundings { states, ..Surroundings::default() };
        PolicySet::compile(&files, &around)
            .map(|(set, _)| set)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    };
    let required = with("statement: required");
    for states in [None, Some(true)] {
        assert!(compiled(&required, states).unwrap().reviews().all(|review| review.statement));
    }
    let said = compiled(&required, Some(false)).unwrap_err();
    assert!(said.contains("this gate makes and checks none") && said.contains("add `evidence:"), "{said}");
    assert!(
        !compiled(&demanding(SELECTS, SHORT), Some(false)).unwrap().reviews().any(|review| review.statement)
    );
    let said = compiled(&with("statement: optional"), None).unwrap_err();
    assert!(said.contains("`statement`"), "{said}");
    let said = compiled(&with("statement: required, commit: caller.sha"), None).unwrap_err();
    assert!(said.contains("a statement is about the commit of a job"), "{said}");
}

#[test]
fn what_makes_no_review_is_refused_where_it_stands() {
    let long = "x".repeat(256);
    let with = |more: &str| format!("{{gerrit: main, project: p, branch: main, {more}}}");
    let many = |one: &str, number: usize| {
        (0..number).map(|n| one.replace('#', &n.to_string())).collect::<Vec<_>>().join(", ")
    };
    let cases = [
        ("x".to_owned(), "`review` must be a map"),
        ("{}".to_owned(), "`review` names no code host"),
        ("{project: p, branch: main}".to_owned(), "`review` names no code host"),
        (with("github: main"), "`review` names several code hosts"),
        (with("approvals: 2"), "Gerrit counts no `approvals`"),
        ("{gerrit: [main], project: p, branch: main}".to_owned(), "`gerrit` must be text"),
        ("{gerrit: a b, project: p, branch: main}".to_owned(), "`a b` is no name of a server"),
        ("{gerrit: UNSET, project: p, branch: main}".to_owned(), "write what `UNSET` stands for"),
        ("{gerrit: main, branch: main}".to_owned(), "`review` needs `project`"),
        ("{gerrit: main, project: p}".to_owned(), "`review` needs `branch`"),
        ("{gerrit: main, project: /p, branch: main}".to_owned(), "`/p` is no project"),
        ("{gerrit: main, project: a/../b, branch: main}".to_owned(), "is no project"),
        ("{gerrit: main, project: 'p\" OR \"q', branch: main}".to_owned(), "is no project"),
        ("{gerrit: main, project: 'p*', branch: main}".to_owned(), "is no project"),
        ("{gerrit: main, project: p.git, branch: main}".to_owned(), "is no project"),
        (format!("{{gerrit: main, project: {long}, branch: main}}"), "is no project"),
        ("{gerrit: main, project: p, branch: refs/heads/main}".to_owned(), "write the branch alone: `main`"),
        ("{gerrit: main, project: p, branch: refs/meta/config}".to_owned(), "is no branch"),
        ("{gerrit: main, project: p, branch: '*'}".to_owned(), "is no branch"),
        ("{gerrit: main, project: p, branch: [main, dev]}".to_owned(), "`branch` must be text"),
        ("{gerrit: main, project: p, branch: a b}".to_owned(), "is no branch"),
        ("{gerrit: main, project: p, branch: a..b}".to_owned(), "is no branch"),
        ("{gerrit: main, project: p, branch: a.lock}".to_owned(), "is no branch"),
        (with("labels: {}"), "`labels` names nothing"),
        (with("labels: [Code-Review]"), "`labels` must be a map"),
        (with("labels: {Code-Review: 0}"), "from 1 to 10"),
        (with("labels: {Code-Review: -2}"), "from 1 to 10"),
        (with("labels: {Code-Review: 11}"), "from 1 to 10"),
        (with("labels: {Code-Review: 1.5}"), "from 1 to 10"),
        (with("labels: {Code-Review: max}"), "from 1 to 10"),
        (with("labels: {'Code Review': 2}"), "`Code Review` is no label"),
        (
            format!("{{gerrit: main, project: p, branch: main, labels: {{{}}}}}", many("L#: 1", 9)),
            "more than 8",
        ),
        (with("by: []"), "`by` is an empty list"),
        (with("by: risk"), "write `{gerrit_group: risk, count: 1}`"),
        (with("by: [{count: 2}]"), "names no `gerrit_group`"),
        (with("by: [{subject: team}]"), "unknown key `subject`"),
        (with("by: [{gerrit_group: risk, count: 0}]"), "whole number"),
        (with("by: [{gerrit_group: risk, count: 17}]"), "more than 16"),
        (with("by: [{gerrit_group: risk}, {gerrit_group: risk}]"), "the same twice"),
        (with("by: [{gerrit_group: \"a\\nb\"}]"), "`a\\nb` is no group"),
        (with(&format!("by: [{}]", many("{gerrit_group: g#}", 9))), "more than 8"),
        (with("not_by: []"), "empty list"),
        (with("not_by: [reviewer]"), "`not_by` does not know `reviewer`"),
        (with("not_by: [ower]"), "did you mean `owner`?"),
        (with("commit: head"), "`commit` does not know `head`"),
        (with("commit: caller."), "`commit` does not know `caller.`"),
        (with("commit: caller.claims.sha"), "write `job`, or `caller.sha`"),
        (with("requirements: []"), "empty list"),
        (with("requirements: [all, Risk]"), "`all` stands beside names"),
        (with("requirements: [Risk, Risk]"), "names `Risk` twice"),
        (with("requirements: ['a b']"), "`a b` is no name of a submit requirement"),
        (with(&format!("requirements: [{}]", many("r#", 33))), "more than 32"),
        (with("accept: [bypassed]"), "`accept` does not know `bypassed`"),
        (with("accept: []"), "empty list"),
        (with("max_age: 30"), "must be text"),
        (with("max_age: 250ms"), "is no age"),
        (with("max_age: 1500ms"), "is no age"),
        (with("max_age: 367d"), "is no age"),
        (with("merge_commits: 'yes'"), "`merge_commits` is `true` or `false`"),
        (with("on_unreachable: allow"), "`on_unreachable` does not know `allow`"),
        (with("hold: 250ms"), "is no duration of whole seconds"),
        (with("hold: 121s"), "`hold` is longer than 120 s"),
        (with("reviewers: [x]"), "unknown key `reviewers`"),
    ];
    for (written, wanted) in cases {
        let text = format!("version: 1\nrequire:\n  - name: r\n    review: {written}\n");
        let problems =
            PolicySet::compile(&FileSet::from_texts([("p.yaml", &*text)]), &Surroundings::default());
        let said: Vec<_> = problems.expect_err(&written).iter().map(ToString::to_string).collect();
        assert!(said[0].contains(wanted) && said[0].starts_with("p.yaml:4:"), "{written}: {said:?}");
        // A missing host hides nothing else that is missing.
        let missing = if written == "{}" { 3 } else { 1 };
        assert_eq!(said.len(), missing, "{written}: {said:?}");
    }
    for list in ["deny: [{name: d", "allow: [{name: a, who: [authenticated]"] {
        let text = format!("version: 1\n{list}, kinds: [read], review: {SHORT}}}]\n");
        let problems =
            PolicySet::compile(&FileSet::from_texts([("p.yaml", &*text)]), &Surroundings::default());
        let said = problems.unwrap_err()[0].to_string();
        assert!(said.contains("has no `review`") && said.contains("an entry of `require`"), "{said}");
    }
}

#[test]
fn the_schema_has_the_keys_of_a_review() {
    let schema: Value = serde_json::from_str(crate::policy::SCHEMA).unwrap();
    let mut known = crate::policy::raw::REVIEW_KEYS.to_vec();
    known.sort_unstable();
    let properties = schema["$defs"]["review"]["properties"].as_object().unwrap();
    let mut keys: Vec<_> = properties.keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, known);
    let contributors = Contributor::ALL.map(Contributor::name);
    assert_eq!(schema["$defs"]["review"]["properties"]["not_by"]["anyOf"][0]["enum"], json!(contributors));
}

#[test]
fn other_code_hosts_are_asked_for_people_and_checks_and_say_so() {
    let written = "{github: main, project: corp/vision, branch: main, approvals: 2, by: [{github_team: risk}], \
                   commit: caller.sha, requirements: [build], accept: not_applicable}";
    let set = set(&demanding(SELECTS, written));
    let judgement = judged_in(&set, &["g"], &put());
    let [review] = wanted(&judgement)[..] else { panic!("{judgement:?}") };
    assert_eq!(
        (&review.host, review.approvals, review.labels.len()),
        (&CodeHost::GitHub("main".into()), 2, 0)
    );
    assert_eq!(
        review.words(),
        "a pull request merged to `main` of `corp/vision` at GitHub `main`, approved by 2 people not its owner, \
         uploader, author or committer, with 1 of `risk` among them"
    );
    let view = format!("{:?}", set.views().last().unwrap().keys);
    for said in ["approved by 2 people", "by 1 of `risk`", "check `build`"] {
        assert!(view.contains(said), "{said}: {view}");
    }
    let written = "{gitlab: main, project: corp/ml/vision, branch: main, not_by: author}";
    let set = self::set(&demanding(SELECTS, written));
    let judgement = judged_in(&set, &["g"], &put());
    let [review] = wanted(&judgement)[..] else { panic!("{judgement:?}") };
    assert_eq!(
        review.words(),
        "a merge request merged to `main` of `corp/ml/vision` at GitLab `main`, approved by 1 person not its author"
    );
}

#[test]
fn what_makes_no_review_of_another_code_host_is_refused_where_it_stands() {
    let hub = |more: &str| format!("{{github: main, project: corp/vision, branch: main{more}}}");
    let lab = |more: &str| format!("{{gitlab: main, project: corp/vision, branch: main{more}}}");
    let cases = [
        (lab(", by: [{gitlab_group: '../x'}]"), "is no group"),
        (lab(", accept: overridden"), "GitLab does not say that a check was overridden"),
        (lab("").replace("corp/vision", "vision"), "`vision` is no project"),
        (lab("").replace("corp/vision", "corp/vi sion"), "is no project"),
        (hub(", gitlab: main"), "`review` names several code hosts"),
        (hub(", labels: {Code-Review: 2}"), "nobody votes by `labels` at GitHub"),
        (hub(", approvals: 0"), "whole number"),
        (hub(", approvals: 17"), "more than 16"),
        (hub(", by: [{gerrit_group: risk}]"), "unknown key `gerrit_group`"),
        (hub(", by: [{github_team: a/b/c}]"), "`a/b/c` is no group"),
        (hub(", by: risk"), "write `{github_team: risk, count: 1}`"),
        (hub(", accept: [forced]"), "GitHub does not say that a check was forced"),
        (hub("").replace("corp/vision", "vision"), "`vision` is no project"),
        (
            hub("").replace("corp/vision", "corp/ml/vision"),
            "write the project as GitHub calls it: `OWNER/REPOSITORY`",
        ),
    ];
    for (written, expected) in cases {
        let text = demanding(SELECTS, &written);
        let problems =
            PolicySet::compile(&FileSet::from_texts([("p.yaml", &*text)]), &Surroundings::default());
        let said: Vec<_> = problems.unwrap_err().iter().map(ToString::to_string).collect();
        assert!(said.iter().any(|said| said.contains(expected)), "{written}: {said:?} has no `{expected}`");
    }
    let around = Surroundings { githubs: Some(["main".to_owned()].into()), ..Surroundings::default() };
    let text = demanding(SELECTS, &hub("").replace("github: main", "github: mian"));
    let problems = PolicySet::compile(&FileSet::from_texts([("p.yaml", &*text)]), &around).unwrap_err();
    let said = problems[0].to_string();
    assert!(
        said.contains("no `github` named `mian` in amlgate.yaml") && said.contains("did you mean `main`?"),
        "{said}"
    );
}
