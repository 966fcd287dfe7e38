//! `gerrit` and what `people.links` says of it: what is wrong is said at its place.

use std::fs;

use super::{GOOD, folder, load, said};
use crate::gates::review::people::Demand;

/// [`GOOD`] with Gerrits, from line 16 on, and links.
fn with(gerrits: &str, links: &str) -> String {
    let entra = "issuers:\n  - {name: aad, entra: {tenant: 00000000-0000-4000-8000-000000000001, audiences: [api://x]}}";
    let blocks =
        format!("gerrit:\n{gerrits}\npeople: {{canonical: aad, links: [{links}]}}\npolicies: policies/");
    GOOD.replace("issuers:", entra).replace("policies: policies/", &blocks)
}

const MAIN: &str = "name: main, url: \"https://gerrit.corp/r/\", user: amlgate, token: {file: seal.key}";

/// A Gerrit of which a branch is watched.
fn watching(project: &str, branch: &str) -> String {
    format!("{MAIN}, watch: [{{project: {project}, branch: {branch}}}]")
}

/// A Gerrit whose hook is like this.
fn hooked(how: &str) -> String {
    format!("{MAIN}, hook: {{path_secret: {{file: seal.key}}, {how}}}")
}

#[test]
fn a_hook_takes_something_from_a_network_or_from_whoever_the_admin_listener_knows() {
    let folder = folder();
    let read = |hook: &str, tls: &str| {
        let text = with(&format!("  - {{{}}}", hooked(hook)), "");
        let admin = format!("listen:\n  admin: {{address: \"127.0.0.1:0\"{tls}}}");
        said(folder.path(), &text.replace("listen:", &admin))
    };
    assert_eq!(read("from: [10.0.0.0/8, 192.0.2.7]", ""), Vec::<String>::new());
    let unasked = read("client_certificate: true", "");
    assert!(unasked.iter().any(|said| said.contains("nobody is asked for a certificate")), "{unasked:?}");
}

#[test]
fn what_azure_tells_comes_in_by_named_doors_and_is_kept() {
    let folder = folder();
    let read = |events: &str, rest: &str| {
        let text = GOOD.replace("listen:", "listen:\n  admin: {address: \"127.0.0.1:0\"}");
        said(
            folder.path(),
            &text.replace("policies: p", &format!("azure_events: [{events}]\n{rest}policies: p")),
        )
    };
    let store = "store: {sqlite: a.db}\n";
    let vision = "{name: vision, path_secret: {file: seal.key}, from: [10.0.0.0/8]}";
    assert_eq!(read(vision, store), Vec::<String>::new());
    for (events, rest, expected) in [
        (vision.to_owned(), "", "what Azure tells is kept in a store, and there is none"),
        (format!("{vision}, {vision}"), store, "`azure_events` called `vision` are there already"),
        (vision.replace("from", "grace: 1s, from"), store, "`1s` is no time from `1m` to `24h`"),
        (vision.replace(", from: [10.0.0.0/8]", ""), store, "takes something from somewhere"),
        (vision.replace("name: vision", "name: 'a/b'"), store, "`a/b` is not a name"),
        (vision.replace("from", "project: x, from"), store, "unknown field `project`"),
    ] {
        let said = read(&events, rest);
        assert!(said.iter().any(|said| said.contains(expected)), "{events}: {said:?} has no `{expected}`");
    }
}

#[test]
fn watched_branches_are_taken_and_asked_about_once_a_minute_or_as_it_is_written() {
    let folder = folder();
    for (poll, seconds) in [("", 60), (", poll: 5s", 5), (", poll: 1h", 3_600)] {
        let text = with(&format!("  - {{{}{poll}}}", watching("ml/vision", "main")), "");
        let text = text.replace("policies: policies/", "policies: policies/\nstore: {sqlite: amlgate.db}");
        fs::write(folder.path().join("amlgate.yaml"), &text).unwrap();
        let settings = load(&folder.path().join("amlgate.yaml")).unwrap_or_else(|p| panic!("{p:?}"));
        assert_eq!(settings.gerrits[0].watch, [("ml/vision".into(), "main".into())]);
        assert_eq!(settings.gerrits[0].poll.as_secs(), seconds);
    }
}

#[test]
fn gerrits_are_taken_and_know_people_by_the_schemes_that_are_linked() {
    let folder = folder();
    let text = with(
        &format!(
            "  - {{{MAIN}}}\n  - {{name: other, url: \"http://127.0.0.1:8080\", user: a, token: {{file: seal.key}}, accounts: {{match: email}}}}"
        ),
        "{gerrit: main, external_id: azure-oauth}, {gerrit: main, external_id: office365-oauth}",
    );
    fs::write(folder.path().join("amlgate.yaml"), &text).unwrap();
    let settings = load(&folder.path().join("amlgate.yaml")).unwrap_or_else(|p| panic!("{p:?}"));
    let [main, other] = &settings.gerrits[..] else { panic!("{:?}", settings.gerrits) };
    assert_eq!(
        (&*main.name, main.base.as_str(), main.web().as_str()),
        ("main", "/r", "https://gerrit.corp/r")
    );
    assert_eq!(main.people.demand, Demand::External("azure-oauth".into()));
    let schemes: Vec<_> = main.people.links.iter().map(|link| (&*link.scheme, &*link.issuer)).collect();
    assert_eq!(schemes, [("azure-oauth", "aad"), ("office365-oauth", "aad")]);
    assert_eq!((&other.people.demand, other.people.links.len(), other.base.as_str()), (&Demand::Mail, 0, ""));
    assert!(settings.surroundings().gerrits.unwrap().contains("main"), "policies may name it");
}

#[test]
fn each_fault_of_a_gerrit_is_said_at_its_place() {
    let folder = folder();
    for (gerrit, expected) in [
        ("name: main".to_owned(), "missing field `url`"),
        (MAIN.replace("https:", "http:"), "`http://gerrit.corp` would be plaintext: use `https`"),
        (MAIN.replace("/r/", "/r/?a=b"), "a Gerrit's URL has no query"),
        (
            MAIN.replace("https://gerrit.corp/r/", "gerrit"),
            "`gerrit` is not a URL: write `https://host/path`",
        ),
        (MAIN.replace("user: amlgate", "user: 'a:b'"), "`a:b` is not the name of a user"),
        (MAIN.replace("{file: seal.key}", "secret"), "expected mapping start"),
        (MAIN.replace("seal.key", "none.key"), "cannot be read"),
        (format!("{MAIN}, project: x"), "unknown field `project`"),
        (format!("{MAIN}, accounts: {{match: name}}"), "`name` is neither `external_id` nor `email`"),
        (format!("{MAIN}, accounts: {{match: email, scheme: x}}"), "an e-mail has no scheme"),
        (format!("{MAIN}, accounts: {{match: external_id, scheme: 'a:b'}}"), "`a:b` is not the scheme"),
        (format!("{MAIN}, watch: [{{project: ml/vision}}]"), "missing field `branch`"),
        (watching("ml/vision", "refs/heads/main"), "write the branch alone, `main`"),
        (watching("'^ml/.*'", "main"), "`^ml/.*` is no project"),
        (watching("ml/vision", "'a\"b'"), "`a\"b` is no branch"),
        (watching("ml/vision", "main"), "what is merged is kept in a store, and there is none"),
        (watching("a, branch: b}, {project: a", "b"), "`b` of `a` is watched already"),
        (hooked("from: [10.0.0.0/8]"), "hooks are paths of the admin listener, and there is none"),
        (hooked("client_certificate: false"), "takes something from somewhere, or from whoever shows"),
        (hooked("from: [everywhere]"), "`everywhere` is not an address or network"),
        (format!("{MAIN}, hook: {{from: [10.0.0.0/8]}}"), "missing field `path_secret`"),
        (format!("{MAIN}, poll: 1s"), "`1s` is no interval from `5s` to `1h`"),
        (format!("{MAIN}, poll: often"), "`often` is not a duration"),
        (format!("{MAIN}}}\n  - {{{MAIN}"), "a Gerrit called `main` is there already"),
    ] {
        let said = said(folder.path(), &with(&format!("  - {{{gerrit}}}"), ""));
        assert!(said.iter().any(|said| said.contains(expected)), "{gerrit}: {said:?} has no `{expected}`");
    }
    let link = "{gerrit: main, external_id: azure-oauth}";
    let twice = said(folder.path(), &with(&format!("  - {{{MAIN}}}"), &format!("{link}, {link}")));
    assert!(twice.iter().any(|said| said.contains("`main` is linked twice by `azure-oauth`")), "{twice:?}");
}
