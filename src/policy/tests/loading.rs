use super::*;
use crate::yaml::Problem;

fn problems(text: &str) -> Vec<String> {
    problems_of(&[("p.yaml", text)], &Surroundings::default())
}

fn problems_of(files: &[(&str, &str)], around: &Surroundings) -> Vec<String> {
    let files = FileSet::from_texts(files.iter().copied());
    PolicySet::compile(&files, around).unwrap_err().iter().map(Problem::to_string).collect()
}

#[test]
fn all_mistakes_of_all_files_are_told_at_once_with_their_places() {
    let one = "version: 1
subjects:
  team: [{group: g}]
allow:
  - name: a
    who: [taem]
    role: AzureML Data Scentist
    scope: ws-a
    actons: [x/y]
  - who: [authenticated]
    kinds: [raed]
";
    let two = "version: 2
require:
  - {name: a, from: [home]}
  - {name: b, kinds: [read]}
";
    let said = problems_of(&[("a.yaml", one), ("b.yaml", two)], &Surroundings::default());
    let places: Vec<_> = said.iter().map(|p| p.split(": ").next().unwrap()).collect();
    assert_eq!(
        places,
        [
            "a.yaml:3:10",
            "a.yaml:6:11",
            "a.yaml:7:11",
            "a.yaml:8:12",
            "a.yaml:9:5",
            "a.yaml:10:5",
            "a.yaml:11:13",
            "b.yaml:1:10",
            "b.yaml:3:12",
            "b.yaml:3:22",
            "b.yaml:4:5",
        ],
        "{said:#?}"
    );
    assert!(said[2].contains("did you mean `AzureML Data Scientist`?"), "{}", said[2]);
    assert!(said[4].contains("did you mean `actions`?"), "{}", said[4]);
    assert!(said[6].contains("did you mean `read`?"), "{}", said[6]);
    assert!(
        said[8].contains("the other stands at a.yaml:5:5") || said[8].contains("a.yaml:5:11"),
        "{}",
        said[8]
    );
}

#[test]
fn keys_of_later_versions_are_refused_by_name() {
    for key in ["people", "lists"] {
        let said = problems(&format!(
            "version: 1\nallow:\n  - {{name: a, who: [authenticated], kinds: [read], {key}: x}}\n"
        ));
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains(&format!("`{key}` is not in this version")), "{said:?}");
    }
}

#[test]
fn what_lifts_an_entry_is_somebody_or_break_glass_and_nothing_in_doubt() {
    let said = |unless: &str| {
        problems(&format!("version: 1\ndeny:\n  - {{name: d, kinds: [read], unless: {unless}}}\n"))
    };
    for unless in
        ["{break_glass: false}", "{break_glass: 'true'}", "{break_glass: [true]}", "{break_glass: }"]
    {
        assert!(said(unless)[0].contains("`break_glass` is `true` or not there"), "{unless}");
    }
    assert!(said("{}")[0].contains("`unless` names nobody"));
    assert!(said("{glass: true}")[0].contains("glass"));
}

#[test]
fn rights_are_azures_and_have_a_scope() {
    let said = |keys: &str| problems(&format!("version: 1\n{keys}\n"));
    let unscoped = said("allow:\n  - {name: a, who: [authenticated], rights: azure}");
    assert!(unscoped[0].contains("`rights` needs `scope`"), "{unscoped:?}");
    let unknown = said("allow:\n  - {name: a, who: [authenticated], rights: aws, scope: /subscriptions/s}");
    assert!(unknown[0].contains("`rights` does not know `aws`"), "{unknown:?}");
    let denying = said("deny:\n  - {name: a, rights: azure, scope: /subscriptions/s}");
    assert!(denying[0].contains("select with `actions`"), "{denying:?}");
}

#[test]
fn an_allow_entry_must_say_who_and_what() {
    let said =
        problems("version: 1\nallow:\n  - {name: a, kinds: [read]}\n  - {name: b, who: [authenticated]}\n");
    assert!(said[0].contains("needs `who`") && said[0].contains("authenticated"), "{said:?}");
    assert!(said[1].contains("allows every action"), "{said:?}");
}

#[test]
fn the_version_comes_first_and_an_empty_file_is_refused() {
    assert!(problems("")[0].contains("the file is empty"));
    assert!(problems("# nothing\n")[0].contains("the file is empty"));
    assert!(problems("scopes: {}\nversion: 1\n")[0].contains("`version` comes first"));
    assert!(problems("scopes: {}\n")[0].contains("`version` is missing"));
    assert!(problems("- a\n")[0].contains("must be a map, not a list"));
}

#[test]
fn names_are_unique_over_all_files() {
    let said = problems_of(
        &[
            ("a.yaml", "version: 1\nsubjects: {t: [{issuer: i}]}\nscopes: {s: /subscriptions/x}\n"),
            ("b.yaml", "version: 1\nsubjects: {t: [{issuer: i}]}\nscopes: {s: /subscriptions/y}\n"),
        ],
        &Surroundings::default(),
    );
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].starts_with("b.yaml:2:12: subject `t` is defined twice"), "{said:?}");
}

#[test]
fn a_duplicate_key_is_refused_not_overridden() {
    let said = problems("version: 1\nsubjects:\n  t: [{issuer: i, claims: {branch: main, branch: evil}}]\n");
    assert!(said[0].starts_with("p.yaml:3:42: "), "{said:?}");
}

#[test]
fn issuers_and_routes_are_those_of_the_configuration() {
    let around = Surroundings {
        issuers: Some(["corp".to_owned()].into()),
        routes: Some(["arm".to_owned()].into()),
        ..Surroundings::default()
    };
    let said = problems_of(
        &[("p.yaml", "version: 1\nsubjects: {t: [{issuer: crop}]}\ndeny:\n  - {name: d, routes: [amr]}\n")],
        &around,
    );
    assert!(said[0].contains("issuer `crop` is not defined") && said[0].contains("`corp`"), "{said:?}");
    assert!(said[1].contains("route `amr` is not defined") && said[1].contains("`arm`"), "{said:?}");
}

#[test]
fn values_that_would_match_nothing_or_mean_something_else_are_refused() {
    for (line, wanted) in [
        ("subjects: {t: []}", "is empty"),
        ("subjects: {t: [{issuer: i, claims: {}}]}", "is empty"),
        ("subjects: {t: [{issuer: i, group: 42}]}", "put it in quotes"),
        ("subjects: {t: [{issuer: i, group: UNSET}]}", "write what `UNSET` stands for"),
        ("subjects: {t: [{issuer: i, claims: {c: UNSET}}]}", "write what `UNSET` stands for"),
        ("subjects: {authenticated: [{issuer: i}]}", "every caller with a valid token"),
        ("scopes: {s: workspaces/a}", "is no ARM id"),
        ("scopes: {s: /subscriptions/..}", "is no ARM id"),
        ("networks: {n: [10.0.0.1/8]}", "write `10.0.0.0/8`"),
        ("networks: {n: [home]}", "is no network"),
        ("calendars: {c: {zone: Europe/Zürich}}", "unknown time zone"),
        ("calendars: {c: {zone: Europe/Zurich, from: \"08:00\", to: \"08:00\"}}", "ends when it begins"),
        ("calendars: {c: {zone: Europe/Zurich, days: [monday]}}", "unknown day"),
        ("deny: [{name: d, actions: [read]}]", "is no action"),
        ("deny: [{name: d, who: []}]", "empty list"),
        ("deny: [{name: d, methods: [get]}]", "in capitals"),
        ("deny: [{name: d, path: api}]", "begins with `/`"),
        ("deny: [{name: d, secrets: {endpoint_key: reveal}}]", "only in `allow`"),
        ("deny: [{name: d, unless: {who: [authenticated]}}]", "exempts every caller"),
        ("deny: [{name: d, dry_run_until: tomorrow}]", "is no instant"),
        ("deny: [{name: d, role: Reader}]", "an entry of `deny` has no `role`"),
        ("deny: [{name: d, limit: {requests: 1, every: 1s}}]", "an entry of `require`"),
        ("deny: [{name: d, when: \"1 +\"}]", ""),
        ("allow: [{name: a, who: [authenticated], secrets: [endpoint_key]}]", "is a map"),
        (
            "allow: [{name: a, who: [authenticated], kinds: [read], dry_run_until: x}]",
            "has no `dry_run_until`",
        ),
        ("deny: [{name: d, kinds: [read], record: {bodies: [request]}}]", "put it in `allow` or `require`"),
        ("require: [{name: r, record: {keep: 1d}}]", "`record` needs `bodies`"),
        ("require: [{name: r, record: {bodies: []}}]", "empty list"),
        ("require: [{name: r, record: {bodies: [answer]}}]", "`bodies` does not know `answer`"),
        ("require: [{name: r, record: {bodies: [request], redact: [a]}}]", "is no JSON pointer"),
        ("require: [{name: r, record: {bodies: [request], keep: 5m}}]", "from `1h` to `3660d`"),
        ("require: [{name: r, record: {bodies: [request], keep: 4000d}}]", "from `1h` to `3660d`"),
        ("require: [{name: r, record: {bodies: [request], level: all}}]", "`level`"),
        (
            "require: [{name: r, record: {bodies: [request]}, dry_run_until: \"2026-12-01T09:00:00+01:00\"}]",
            "not in this version",
        ),
        ("require: [{name: r, limit: {requests: 0, every: 1s}}]", "whole number"),
        ("require: [{name: r, limit: {requests: 5, every: 1 s}}]", "is no duration"),
        ("require: [{name: r, limit: {requests: 5}}]", "`limit` needs `every`"),
        (
            "require: [{name: r, limit: {requests: 5, every: 1s}, dry_run_until: \"2026-12-01T09:00:00+01:00\"}]",
            "not in this version",
        ),
    ] {
        let said = problems(&format!("version: 1\n{line}\n"));
        assert!(said[0].contains(wanted) && said[0].starts_with("p.yaml:2:"), "{line}: {said:?}");
    }
}

#[test]
fn a_role_outside_its_assignable_scopes_is_a_warning() {
    let role = r#"[{"name":"g","roleName":"Mine","assignableScopes":["/subscriptions/s"],"permissions":[]}]"#;
    let policy =
        "version: 1\nallow: [{name: a, who: [authenticated], role: Mine, scope: /subscriptions/t}]\n";
    let files = FileSet::from_texts([("roles/mine.json", role), ("p.yaml", policy)]);
    let (_, warnings) = PolicySet::compile(&files, &Surroundings::default()).unwrap();
    assert!(
        warnings[0].to_string().starts_with("p.yaml:2:47: warning: role `Mine` is not assignable"),
        "{warnings:?}"
    );
}

#[test]
fn the_schema_knows_what_the_reader_knows() {
    use crate::{
        azureml::{Effect, SecretClass},
        policy::{SCHEMA, raw},
    };
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let keys = |pointer: &str| {
        let mut keys: Vec<_> =
            schema.pointer(pointer).unwrap().as_object().unwrap().keys().cloned().collect();
        keys.sort();
        keys
    };
    let sorted = |mut keys: Vec<&'static str>| {
        keys.sort_unstable();
        keys
    };
    assert_eq!(keys("/properties"), sorted(raw::FILE_KEYS.to_vec()));
    assert_eq!(keys("/$defs/description/properties"), sorted(raw::DESCRIPTION_KEYS.to_vec()));
    assert_eq!(keys("/$defs/trigger/properties"), sorted(raw::TRIGGER_KEYS.to_vec()));
    for list in [crate::policy::List::Allow, crate::policy::List::Deny, crate::policy::List::Require] {
        assert_eq!(keys(&format!("/$defs/{}/properties", list.name())), sorted(raw::entry_keys(list)));
    }
    let names = |pointer: &str| -> Vec<String> {
        let names = schema.pointer(pointer).unwrap().as_array().unwrap();
        names.iter().map(|n| n.as_str().unwrap().to_owned()).collect()
    };
    let effects: Vec<_> = Effect::ALL.iter().map(|e| e.name()).collect();
    assert_eq!(names("/$defs/deny/properties/effects/anyOf/0/enum"), effects);
    let classes: Vec<_> = SecretClass::ALL.iter().map(|c| c.name()).collect();
    assert_eq!(names("/$defs/deny/properties/secrets/anyOf/0/enum"), classes);
    assert_eq!(names("/$defs/allow/properties/secrets/propertyNames/enum"), classes);
}

#[test]
fn what_somebody_else_can_come_to_hold_is_a_warning() {
    let warned = |description: &str| {
        let text = format!("version: 1\nsubjects: {{s: [{{issuer: corp, {description}}}]}}\n");
        let files = FileSet::from_texts([("p.yaml", &*text)]);
        let (_, warnings) = PolicySet::compile(&files, &Surroundings::default()).unwrap();
        warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    for (description, named) in [
        ("claims: {email: ann@example.com}", "claim `email` can change"),
        ("claims: {preferred_username: ann}", "claim `preferred_username` can change"),
        ("claims: {user_email: [a@example.com, b@example.com]}", "claim `user_email` can change"),
        ("claims: {repository: contoso/vision, ref: refs/heads/main}", "claim `repository_id`"),
        ("claims: {project_path: ml/vision, ref_protected: 'true'}", "claim `project_id`"),
        ("subject: 'repo:contoso/vision:ref:refs/heads/main'", "is made of names"),
        ("claims: {sub: 'repo:contoso@1/vision:ref:refs/heads/main'}", "is made of names"),
        ("subject: 'project_path:ml/vision:ref_type:branch:ref:main'", "is made of names"),
        ("subject: 'repo:contoso@1/vision@2:*'", "`*` in `subject` stands for itself"),
        ("claims: {repository_id: '42', ref: refs/heads/*}", "`*` in `ref` stands for itself"),
        ("claims: {repository_id: '42'}", "jobs of every branch"),
        ("claims: {project_id: '7'}", "jobs of every branch"),
        // Whoever may push may push to any branch, and protection that is not there protects nothing.
        ("claims: {repository_id: '42', event_name: push}", "jobs of every branch"),
        ("claims: {repository_id: '42', event_name: [schedule, push]}", "jobs of every branch"),
        ("claims: {repository_id: '42', ref_type: branch}", "jobs of every branch"),
        ("claims: {repository_id: '42', ref_protected: 'false'}", "jobs of every branch"),
        ("claims: {project_id: '7', ref_protected: ['true', 'false']}", "jobs of every branch"),
        ("claims: {repository_id: '42', event_name: [push, pull_request]}", "is what a pull request runs"),
        ("claims: {repository_id: '42', event_name: pull_request_target}", "is what a pull request runs"),
        ("claims: {repository_id: '42', ref: refs/pull/7/merge}", "is what a pull request runs"),
        ("subject: 'repo:contoso@1/vision@2:pull_request'", "is what a pull request runs"),
        ("claims: {email: ann@example.com, email_verified: true}", "claim `email` can change"),
        ("claims: {actor: ann, sub: ann}", "claim `actor` can change"),
        ("claims: {user_login: ann}", "claim `user_login` can change"),
        ("claims: {namespace_path: ml}", "claim `namespace_path` can change"),
        ("claims: {repository_owner: contoso}", "claim `repository_owner` can change"),
        ("claims: {upn: ann@example.com}", "claim `upn` can change"),
        ("claims: {unique_name: ann}", "claim `unique_name` can change"),
        ("claims: {name: Ann}", "claim `name` can change"),
        ("claims: {nickname: ann}", "claim `nickname` can change"),
        ("claims: {project_id: '7', ref: main}", "a branch or a tag of that name"),
    ] {
        let warnings = warned(description);
        assert!(warnings.starts_with("p.yaml:2:16: warning: subject `s`: "), "{description}: {warnings}");
        assert!(warnings.contains(named), "{description}: {warnings}");
        assert_eq!(warnings.matches("warning:").count(), 1, "{warnings}");
    }
    for description in [
        "group: g",
        "claims: {repository_id: '42', ref: refs/heads/main, event_name: push}",
        "claims: {repository_id: '42', repository: contoso/vision, environment: production}",
        "claims: {repository_id: '42', event_name: [schedule, merge_group]}",
        "claims: {project_id: '7', ref_protected: 'true'}",
        "claims: {actor: ann, actor_id: '12'}",
        "claims: {project_id: '7', ref: main, ref_type: branch}",
        "claims: {project_id: '7', ref: main, ref_protected: 'true'}",
        "subject: 'repo:contoso@1/vision@2:ref:refs/heads/main'",
        "subject: 'repo:contoso/vision:environment:production', claims: {repository_id: '42'}",
        "subject: t/ann, claims: {email: ann@example.com}",
        "claims: {kubernetes.io: {namespace: ml}}",
    ] {
        assert_eq!(warned(description), "", "{description}");
    }
}
