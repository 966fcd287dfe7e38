//! `github` and `gitlab`: what is wrong is said at its place.

use std::fs;

use super::{GOOD, folder, load, said};
use crate::policy::review::HostKind;

const OID: &str = "5b1f0000-0000-4000-8000-000000000001";
const MAIN: &str = "name: main, token: {file: seal.key}";

fn with(key: &str, hosts: &str, people: &str) -> String {
    let entra = "issuers:\n  - {name: aad, entra: {tenant: 00000000-0000-4000-8000-000000000001, audiences: [api://x]}}";
    let blocks = format!("{key}:\n{hosts}\n{people}\npolicies: policies/");
    GOOD.replace("issuers:", entra).replace("policies: policies/", &blocks)
}

#[test]
fn code_hosts_are_taken_and_know_people_by_the_numbers_of_their_accounts() {
    let folder = folder();
    let hosts = format!(
        "  - {{{MAIN}, accounts: [{{id: 583231, person: {OID}}}]}}\n  - {{name: own, url: \"https://github.corp/api/v3/\", token: {{file: seal.key}}}}"
    );
    let text = with("github", &hosts, "people: {canonical: aad}");
    let text = text.replace("github:\n", &format!("gitlab:\n  - {{{MAIN}}}\ngithub:\n"));
    fs::write(folder.path().join("amlgate.yaml"), &text).unwrap();
    let settings = load(&folder.path().join("amlgate.yaml")).unwrap_or_else(|p| panic!("{p:?}"));
    let all: Vec<_> = settings
        .code_hosts
        .iter()
        .map(|host| (host.kind, &*host.name, host.url.to_text(), host.base.as_str()))
        .collect();
    assert_eq!(
        all,
        [
            (HostKind::GitHub, "main", "https://api.github.com".to_owned(), ""),
            (HostKind::GitHub, "own", "https://github.corp".to_owned(), "/api/v3"),
            (HostKind::GitLab, "main", "https://gitlab.com".to_owned(), ""),
        ]
    );
    let named = format!("{:?}", settings.code_hosts[0].accounts);
    assert!(
        named.contains("583231")
            && named.contains(&format!("aad:00000000-0000-4000-8000-000000000001/{OID}")),
        "{named}"
    );
    let around = settings.surroundings();
    assert!(around.githubs.unwrap().contains("own") && around.gitlabs.unwrap().contains("main"));
}

#[test]
fn each_fault_of_a_code_host_is_said_at_its_place() {
    let folder = folder();
    let account = |one: &str| format!("{MAIN}, accounts: [{one}]");
    let people = "people: {canonical: aad}";
    let known = format!("{{id: 1, person: {OID}}}");
    for (key, host, people, expected) in [
        ("github", "name: main".to_owned(), people, "missing field `token`"),
        ("github", format!("{MAIN}, url: 'http://github.corp'"), people, "would be plaintext"),
        ("github", format!("{MAIN}, url: 'https://github.com'"), people, "GitHub's API lies elsewhere"),
        ("github", format!("{MAIN}, url: 'https://github.corp/?x=1'"), people, "is not the URL of a GitHub"),
        (
            "gitlab",
            format!("{MAIN}, url: 'https://gitlab.corp/api/v4'"),
            people,
            "is not the URL of a GitLab",
        ),
        ("gitlab", format!("{MAIN}}}\n  - {{{MAIN}"), people, "a GitLab called `main` is there already"),
        ("github", format!("{MAIN}, project: x"), people, "unknown field `project`"),
        ("github", format!("{MAIN}}}\n  - {{{MAIN}"), people, "a GitHub called `main` is there already"),
        ("github", account(&known), "", "nothing says whose the object ids are"),
        ("github", account("{id: 1, person: ana}"), people, "`ana` is not an object id"),
        ("github", account("{id: ana, person: x}"), people, "invalid u64"),
        ("github", account(&format!("{known}, {known}")), people, "account 1 is there already"),
    ] {
        let said = said(folder.path(), &with(key, &format!("  - {{{host}}}"), people));
        assert!(said.iter().any(|said| said.contains(expected)), "{host}: {said:?} has no `{expected}`");
    }
}
