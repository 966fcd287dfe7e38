//! What is wrong with a configuration is said at its line and column, all at once.

use std::{fs, path::Path};

use super::{Problems, load, unset};
use crate::config::settings::Reference;

mod break_glass;
mod code_hosts;
mod evidence;
mod gerrit;
mod notify;

const GOOD: &str = r#"version: 1
listen:
  reverse: {address: "127.0.0.1:8443", public_url: http://127.0.0.1:8443}
issuers:
  - {name: corp, oidc: {issuer: https://issuer.example.com, audiences: [amlgate]}}
credentials:
  - name: machine
    managed_identity: {}
  - name: gate
    tenant: 00000000-0000-0000-0000-000000000001
    client_id: 00000000-0000-0000-0000-000000000002
    client_secret: {key_vault: {vault: https://corp.vault.azure.net, secret: gate}}
routes:
  - {name: arm, upstream: https://management.azure.com, paths: [/subscriptions], protocol: arm, credential: gate}
policies: policies/
audit: {name: amlgate-0, directory: var/audit, signing_key: {file: audit.key}}
keys: {seal: [{file: seal.key}]}
"#;

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("policies")).unwrap();
    for key in ["audit.key", "seal.key"] {
        fs::write(folder.path().join(key), "key").unwrap();
    }
    folder
}

/// What is said of a text: line, column and message of each problem.
fn said(folder: &Path, text: &str) -> Vec<String> {
    let file = folder.join("amlgate.yaml");
    fs::write(&file, text).unwrap();
    match load(&file) {
        Ok(_) => Vec::new(),
        Err(problems) => {
            problems.iter().map(|p| format!("{}:{} {}", p.place.line, p.place.column, p.message)).collect()
        }
    }
}

#[test]
fn every_unset_is_found_but_not_in_comments() {
    let mut problems = Problems::of(&"amlgate.yaml".into());
    unset("a: UNSET\n# UNSET\nb: {c: UNSET, d: UNSET}  # UNSET\n", &mut problems);
    let places: Vec<_> = problems.sorted().iter().map(|p| (p.place.line, p.place.column)).collect();
    assert_eq!(places, [(1, 4), (3, 8), (3, 18)]);
}

#[test]
fn a_good_configuration_is_taken_and_its_vault_is_opened_by_a_credential_that_needs_none() {
    let folder = folder();
    fs::write(folder.path().join("amlgate.yaml"), GOOD).unwrap();
    let settings = load(&folder.path().join("amlgate.yaml")).unwrap();
    let [machine, gate] = &settings.credentials[..] else { panic!("{:?}", settings.credentials) };
    assert!(!machine.proof.in_vault() && gate.proof.in_vault());
    let Some(Reference::KeyVault(vault)) = gate.proof.secret() else { panic!("{gate:?}") };
    assert_eq!((vault.vault.host.as_str(), vault.secret.as_str()), ("corp.vault.azure.net", "gate"));
}

#[test]
fn as_much_waits_for_people_as_the_configuration_says() {
    let folder = folder();
    let with = |limits: &str| GOOD.replace("policies: ", &format!("limits: {{{limits}}}\npolicies: "));
    let file = folder.path().join("amlgate.yaml");
    fs::write(&file, with("held_calls_per_person: 2, daily_approvals_per_person: 9")).unwrap();
    let bounds = load(&file).unwrap().limits.approvals;
    let told = (bounds.held, bounds.held_each, bounds.pending_each, bounds.daily_each);
    assert_eq!(told, (1_000, 2, 32, 9));
    for key in
        ["held_calls", "held_calls_per_person", "pending_approvals_per_person", "daily_approvals_per_person"]
    {
        let said = said(folder.path(), &with(&format!("{key}: 0")));
        assert_eq!(said, [format!("15:{} 0 would refuse everything", key.len() + 12)]);
    }
}

#[test]
fn the_console_on_the_reverse_listener_has_a_path_that_no_route_takes() {
    let folder = folder();
    let admin = |more: &str| {
        let admin = format!("  admin: {{address: \"127.0.0.1:8444\", {more}}}\nissuers:\n");
        GOOD.replace("issuers:\n", &admin)
    };
    let file = folder.path().join("amlgate.yaml");
    for (more, url) in [
        ("on_reverse: true", Some("http://127.0.0.1:8443/.amlgate")),
        ("on_reverse: true, public_url: https://console.example", Some("http://127.0.0.1:8443/.amlgate")),
        ("on_reverse: false, public_url: https://console.example", Some("https://console.example")),
        ("on_reverse: false", None),
    ] {
        fs::write(&file, admin(more)).unwrap();
        assert_eq!(load(&file).unwrap().admin_url().as_deref(), url, "{more}");
    }
    let on = admin("on_reverse: true");
    let reverse = "  reverse: {address: \"127.0.0.1:8443\", public_url: http://127.0.0.1:8443}\n";
    let sign_in = "sign_in: {issuer: corp, client_id: gate}";
    for (text, told, expected) in [
        (on.replace(reverse, ""), true, "there is no reverse listener to be a path of"),
        (on.replace("/subscriptions", "/.Amlgate/x"), true, "`/.amlgate` is the gate's own path"),
        (on.replace("/subscriptions", "/.amlgates"), false, "`/.amlgate` is the gate's own path"),
        (admin(sign_in), true, "browsers must come back to some URL"),
        (admin(&format!("{sign_in}, on_reverse: true")), false, "browsers must come back to some URL"),
    ] {
        let said = said(folder.path(), &text);
        assert_eq!(said.iter().any(|said| said.contains(expected)), told, "{said:?}");
    }
}

#[test]
fn people_are_linked_by_a_claim_of_another_issuer_to_an_entra_issuer_and_by_no_e_mail() {
    let folder = folder();
    let with = |people: &str| {
        let entra = "issuers:\n  - {name: aad, entra: {tenant: 00000000-0000-4000-8000-000000000001, audiences: [api://x]}}";
        said(
            folder.path(),
            &GOOD.replace("issuers:", entra).replace("policies: ", &format!("people: {people}\npolicies: ")),
        )
    };
    let link = |link: &str| with(&format!("{{canonical: aad, links: [{link}]}}"));
    assert_eq!(link("{issuer: corp, claim: entra_oid}"), Vec::<String>::new());
    for (said, expected) in [
        (with("{canonical: corp, links: []}"), "`corp` is no Entra issuer of this file"),
        (link("{issuer: corp, claim: email}"), "`email` does not say who somebody is in Entra"),
        (link("{issuer: corp, claim: upn}"), "`upn` does not say who somebody is in Entra"),
        (link("{issuer: aad, claim: x}"), "`aad` is no other issuer of this file"),
        (link("{issuer: nobody, claim: x}"), "`nobody` is no other issuer of this file"),
        (link("{issuer: corp, claim: x}, {issuer: corp, claim: y}"), "`corp` is linked twice"),
        (link("{issuer: corp}"), "a link needs `issuer` and `claim`"),
        (link("{gerrit: main, external_id: x}"), "there is no Gerrit called `main`"),
        (link("{gerrit: main}"), "a Gerrit is linked by `gerrit` and `external_id`"),
        (
            link("{gerrit: main, external_id: x, issuer: corp}"),
            "a Gerrit is linked by `gerrit` and `external_id`",
        ),
        (link("{issuer: corp, annotation: x}"), "`annotation` is not in this version"),
    ] {
        assert!(said.iter().any(|s| s.ends_with(expected)), "{expected}: {said:?}");
    }
}

#[test]
fn clutch_names_a_service_and_whose_names_it_may_speak_in() {
    let folder = folder();
    let with =
        |clutch: &str| said(folder.path(), &format!("{GOOD}store: {{sqlite: a.db}}\nclutch: {clutch}\n"));
    let users =
        |users: &str| with(&format!("{{service: {{issuer: corp, subject: clutch}}, users: {users}}}"));
    assert_eq!(users("{issuer: corp, claim: upn, header: x-clutch-user}"), Vec::<String>::new());
    for (said, expected) in [
        (users("{issuer: nobody}"), "`nobody` is no issuer of this file"),
        (
            users("{issuer: corp, header: Authorization}"),
            "`Authorization` says something else: write `x-clutch-user`",
        ),
        (users("{issuer: corp, header: 'a b'}"), "`a b` is not the name of a header"),
        (users("{issuer: corp, claim: ''}"), "`claim` is empty"),
        (with("{service: {issuer: corp, subject: ''}, users: {issuer: corp}}"), "`subject` is empty"),
        (with("{service: {issuer: corp, subject: s}}"), "missing field `users`"),
        (with("{users: {issuer: corp}}"), "`clutch` says nothing of what it is for"),
        (
            with("{users: {issuer: corp}, check: {url: http://clutch.corp}}"),
            "`http://clutch.corp` would be plaintext: use `https`",
        ),
        (
            with("{users: {issuer: corp}, check: {url: clutch}}"),
            "`clutch` is not a URL: write `https://host/path`",
        ),
    ] {
        assert!(said.iter().any(|s| s.ends_with(expected)), "{expected}: {said:?}");
    }
    let kept_nowhere = "clutch: {service: {issuer: corp, subject: s}, users: {issuer: corp}}\n";
    let said = said(folder.path(), &format!("{GOOD}{kept_nowhere}"));
    assert!(said.iter().any(|s| s.contains("kept in a store")), "{said:?}");
}

#[test]
fn each_fault_is_said_at_its_place() {
    let folder = folder();
    let mut unsaid = Vec::new();
    for (old, new, expected) in [
        ("version: 1", "version: 2", "1:10 `version: 2` is not known"),
        ("version: 1", "version: 1\nlogging: {}", "2:1 unknown field `logging`"),
        ("\"127.0.0.1:8443\"", "\"[::]:8443\"", "3:22 `[::]:8443` is not loopback"),
        (
            "managed_identity: {}",
            "managed_identity: {}\n    client_secret: {env: PATH}",
            "7:5 the credential `machine` proves itself in 2 ways",
        ),
        (
            "managed_identity: {}",
            "client_secret: {env: PATH}",
            "7:5 the credential `machine` needs a `tenant`",
        ),
        ("name: gate\n", "name: machine\n", "9:11 the credential `machine` is there twice"),
        (
            "secret: gate}",
            "secret: gate, credential: gate}",
            "12:96 the credential `gate` needs a vault itself",
        ),
        (
            "secret: gate}",
            "secret: gate, credential: nobody}",
            "12:96 there is no credential called `nobody`",
        ),
        (
            "key_vault: {vault: https://corp.vault.azure.net, secret: gate}",
            "env: AMLGATE_TEST_UNSET",
            "12:26 the environment variable `AMLGATE_TEST_UNSET` is not set",
        ),
        ("key_vault:", "file: seal.key, key_vault:", "12:20 a secret is named by exactly one of"),
        (
            "https://management.azure.com",
            "http://management.azure.com",
            "14:27 `http://management.azure.com`: the gate's tokens go over https only",
        ),
        ("credential: gate}\npol", "credential: gaet}\npol", "14:109 there is no credential called `gaet`"),
        ("protocol: arm", "protocol: arms", "14:92 unknown variant `arms`"),
        (
            "policies: pol",
            "cloud: azure\npolicies: pol",
            "15:8 `azure` is none of `public`, `usgov`, `china`",
        ),
        ("policies: pol", "cloud: {like: usgov, lgin: x}\npolicies: pol", "15:22 unknown field `lgin`"),
        (
            "policies: pol",
            "cloud: {like: public, login: http://a}\npolicies: pol",
            "15:30 `http://a` is not https",
        ),
        (
            "policies: pol",
            "cloud: {like: public, key_vault: .vault}\npolicies: pol",
            "15:34 `.vault` is no suffix of host names",
        ),
        (
            "policies: pol",
            "cloud: {login: https://login.example, data_plane: api.example}\npolicies: pol",
            "15:8 the table of hosts lacks `sts`, `resource_manager`,",
        ),
        (
            "policies: pol",
            "cloud: china\npolicies: pol",
            "14:27 `management.azure.com` is a host of the cloud `public`",
        ),
        (
            "corp.vault.azure.net",
            "corp.vault.azure.cn",
            "12:40 `corp.vault.azure.cn` is no vault of this cloud",
        ),
        ("paths: [/subscriptions]", "paths: []", "14:5 no request can reach the route `arm`"),
        ("policies: policies/", "policies: nowhere/", "15:11 `"),
        ("file: audit.key", "file: missing.key", "16:68 `"),
        ("{seal: [{file: seal.key}]}", "{seal: []}", "17:7 `seal` names no key"),
    ] {
        assert!(GOOD.contains(old), "{old}");
        let said = said(folder.path(), &GOOD.replacen(old, new, 1));
        if !said.iter().any(|s| s.starts_with(expected)) {
            unsaid.push(format!("{new}: {said:?} has no `{expected}`"));
        }
    }
    assert!(unsaid.is_empty(), "{unsaid:#?}");
}

#[test]
fn all_faults_are_said_at_once_in_the_order_of_their_lines() {
    let folder = folder();
    let text = GOOD
        .replace("version: 1", "version: 7")
        .replace("seal.key", "lost.key")
        .replace("/subscriptions", "subs");
    let said = said(folder.path(), &text);
    let lines: Vec<&str> = said.iter().map(|s| s.split(':').next().unwrap()).collect();
    assert_eq!(lines, ["1", "14", "17"], "{said:#?}");
}

#[test]
fn a_vault_that_nobody_can_open_is_refused() {
    let folder = folder();
    let text = GOOD.replace("  - name: machine\n    managed_identity: {}\n", "");
    let said = said(folder.path(), &text);
    assert_eq!(said, ["10:32 no credential can open this vault"]);
}

/// [`GOOD`] with a forward listener whose authority vouches for Azure's own names.
fn with_forward(folder: &Path) -> String {
    let (certificate, key) = crate::listen::new_authority(
        &["azure.com".to_owned()],
        crate::time::Timestamp::from_secs(1_800_000_000),
    )
    .unwrap();
    fs::write(folder.join("ca.pem"), certificate).unwrap();
    fs::write(folder.join("ca.key"), key).unwrap();
    GOOD.replacen(
        "listen:\n",
        "listen:\n  forward: {address: \"127.0.0.1:8444\", insecure_plaintext: true, interception_ca: {certificate: ca.pem, private_key: {file: ca.key}}}\n",
        1,
    )
}

#[test]
fn a_forward_listener_takes_one_route_for_many_hosts() {
    let folder = folder();
    let many = "https://*.azure.com, protocol";
    let one = "https://management.azure.com, paths: [/subscriptions], protocol";
    let text = with_forward(folder.path()).replace(one, many);
    assert_eq!(said(folder.path(), &text), [] as [String; 0]);
    // The reverse listener could not tell where such a route leads.
    let said = said(folder.path(), &GOOD.replace(one, many));
    assert!(said[0].contains("need `listen.forward`"), "{said:?}");
}

#[test]
fn each_fault_of_a_forward_listener_is_said_at_its_place() {
    let folder = folder();
    let good = with_forward(folder.path());
    let mut unsaid = Vec::new();
    for (old, new, expected) in [
        (
            "\"127.0.0.1:8444\", insecure_plaintext: true, ",
            "\"0.0.0.0:8444\", ",
            "3:22 `0.0.0.0:8444` is not loopback",
        ),
        ("ca.pem", "none.pem", "3:97 `"),
        ("file: ca.key", "file: none.key", "3:125 `"),
        ("{certificate", "{also_trust: [none.pem], certificate", "3:97 `"),
        ("true, int", "true, identity: [], int", "3:12 `identity` is empty"),
        ("true, int", "true, identity: [token], int", "3:77 `token` is no way to say who one is"),
        ("true, int", "true, passthrough: [\"*.com\"], int", "3:80 `*.com`: behind `*.` stands a domain"),
        ("true, int", "true, passthrough: [\"a b\"], int", "3:80 `a b`"),
        (
            "https://management.azure.com",
            "https://westeurope.api.azureml.ms",
            "15:27 the interception authority cannot vouch for `westeurope.api.azureml.ms`",
        ),
        ("https://management.azure.com", "https://*.com", "15:27 `"),
    ] {
        assert!(good.contains(old), "{old}");
        let said = said(folder.path(), &good.replacen(old, new, 1));
        if !said.iter().any(|s| s.starts_with(expected)) {
            unsaid.push(format!("{new}: {said:?} has no `{expected}`"));
        }
    }
    assert!(unsaid.is_empty(), "{unsaid:#?}");
}

#[test]
fn certificates_are_asked_for_and_vouched_for_and_what_does_not_fit_is_said() {
    let folder = folder();
    let mesh = crate::sandbox::mesh::MeshCa::generate().unwrap();
    fs::write(folder.path().join("mesh.pem"), mesh.certificate_pem()).unwrap();
    fs::write(folder.path().join("none.pem"), "nothing").unwrap();
    let issuer = |block: &str| {
        let text = format!("  - {{name: mesh, certificate: {{{block}}}}}\n  - {{name: corp,");
        GOOD.replace("  - {name: corp,", &text)
    };
    let trusting = |text: &str, entry: &str| {
        let with = format!("public_url: http://127.0.0.1:8443, trusted_proxies: [{entry}]}}");
        text.replace("public_url: http://127.0.0.1:8443}", &with)
    };
    let good = "ca: mesh.pem, spiffe: {trust_domain: prod.example.com}";
    let network = "{peer: 10.0.0.0/8, certificate_header: client_cert, authenticated_by: network}";
    let fine = trusting(&issuer(good), &format!("10.1.1.1, {network}"));
    assert_eq!(said(folder.path(), &fine), Vec::<String>::new());
    let settings = load(&folder.path().join("amlgate.yaml")).unwrap();
    let reverse = settings.reverse.unwrap();
    assert_eq!((reverse.trusted_proxies.len(), reverse.terminators.len()), (2, 1));
    let other = "{peer: 10.0.0.0/8, certificate_header: xfcc, authenticated_by: {issuer: corp, subject: x}}";
    for (text, why) in [
        (issuer(good), "5:5 nobody is asked for a certificate of `mesh`"),
        (trusting(GOOD, network), "no issuer vouches for the certificates that it passes on"),
        (trusting(&issuer(good), other), "`corp` is no issuer with a `certificate` block"),
        (trusting(&issuer(good), &network.replace("client_cert", "x-cert")), "`x-cert` is neither"),
        (trusting(&issuer(good), &network.replace("by: network", "by: hope")), "`hope` is no way to know"),
        (trusting(&issuer(good), &network.replace("10.0.0.0/8", "lb")), "`lb` is not an address"),
        (trusting(&issuer("ca: none.pem, san: dns"), network), "the bundle holds no authority's"),
        (trusting(&issuer("ca: away.pem, san: dns"), network), "`away.pem` cannot be read"),
        (trusting(&issuer("ca: mesh.pem"), network), "which of a certificate's names"),
        (trusting(&issuer("ca: mesh.pem, san: cn"), network), "`cn` is none of `dns`, `uri`, `email`"),
        (
            trusting(&issuer("ca: mesh.pem, san: dns, crl: [none.pem]"), network),
            "a revocation list cannot be read",
        ),
        (
            trusting(&issuer("ca: mesh.pem, san: dns, crl_lapsed: hope"), network),
            "`hope` is neither `refuse`",
        ),
        (
            trusting(&issuer("ca: mesh.pem, spiffe: {trust_domain: A/b}"), network),
            "`A/b` is not a trust domain",
        ),
    ] {
        let said = said(folder.path(), &text).join("\n");
        assert!(said.contains(why), "{why}: {said}");
    }
}

#[test]
fn a_store_is_one_of_two_and_a_sign_in_names_its_issuer_client_and_url() {
    let folder = folder();
    let store = |text: &str| {
        said(folder.path(), &GOOD.replace("policies: p", &format!("store: {text}\npolicies: p")))
    };
    assert_eq!(store("{sqlite: var/amlgate.db}"), Vec::<String>::new());
    assert_eq!(store("{postgres: {url: {file: seal.key}}}"), Vec::<String>::new());
    for odd in ["{}", "{sqlite: a.db, postgres: {url: {file: seal.key}}}"] {
        let problems = store(odd);
        assert!(problems[0].contains("a store is exactly one of `sqlite`, `postgres`"), "{problems:?}");
    }
    let admin = |text: &str| {
        let listen = format!("listen:\n  admin: {{address: \"127.0.0.1:8444\", {text}}}");
        said(folder.path(), &GOOD.replace("listen:", &listen))
    };
    let url = "public_url: http://127.0.0.1:8444";
    let good = format!("{url}, sign_in: {{issuer: corp, client_id: console, idle: 30m, max_age: 8h}}");
    assert_eq!(admin(&good), Vec::<String>::new());
    let settings = load(&folder.path().join("amlgate.yaml")).unwrap();
    assert!(settings.store.is_some(), "sessions are kept somewhere");
    for (text, message) in [
        ("sign_in: {issuer: corp, client_id: console}".to_owned(), "browsers must come back to some URL"),
        (format!("{url}, sign_in: {{issuer: corp}}"), "the gate is no client of the issuer"),
        (format!("{url}, sign_in: {{issuer: nobody, client_id: c}}"), "there is no issuer called `nobody`"),
        (
            format!("{url}, sign_in: {{issuer: corp, client_id: c, idle: 0s}}"),
            "between a moment and seven days",
        ),
        (format!("{url}, sign_in: {{issuer: corp, client_id: c, max_age: 30d}}"), ""),
    ] {
        let problems = admin(&text);
        assert!(problems.iter().any(|problem| problem.contains(message)), "{text}: {problems:?}");
    }
}

#[test]
fn each_fault_of_a_sink_is_said_at_its_place() {
    let folder = folder();
    fs::write(folder.path().join("token"), "t").unwrap();
    let with = |sink: &str| {
        let signing = "signing_key: {file: audit.key}";
        GOOD.replace(signing, &format!("{signing}, sinks: [\n  {{name: siem, {sink}}}]"))
    };
    for good in [
        "file: {path: out.ndjson, format: ecs}",
        "webhook: {url: \"https://hooks.corp/in?a=b\", secret: {file: token}, batch: 10}",
        "syslog: {server: \"siem.corp:7000\", format: cef, facility: 4}, address: \"10.0.0.1:7000\"",
        "splunk_hec: {url: \"https://splunk.corp:8088\", token: {file: token}, index: ml, acknowledged: true}",
        "otlp: {url: \"http://localhost:4318\", headers: {authorization: {file: token}}}",
        "azure_monitor: {endpoint: https://r.westeurope-1.ingest.monitor.azure.com, rule: dcr-1, credential: gate}",
        "application_insights: {connection_string: {file: token}}, start: now",
    ] {
        assert_eq!(said(folder.path(), &with(good)), [""; 0], "{good}");
    }
    for (sink, expected) in [
        ("start: now", "17:3 the sink `siem` has 0 receivers instead of one"),
        (
            "file: {path: a}, otlp: {url: \"https://b\"}",
            "17:3 the sink `siem` has 2 receivers instead of one",
        ),
        (
            "file: {path: a, format: xml}",
            "17:40 `xml` is none of `ocsf`, `ecs`, `cef`, `cloudevents`, `clutch`",
        ),
        ("file: {path: a}}, {name: siem, file: {path: b}", "17:41 the sink `siem` is there twice"),
        ("kafka: {}", "17:23 `kafka` is not in this version: no client of it"),
        ("otlp: {url: \"http://collector.corp\"}", "17:28 `http://collector.corp` would be plaintext"),
        ("syslog: {server: \"https://x\"}", "17:33 `https://x` is not a server"),
        ("syslog: {server: x, facility: 24}", "17:46 `24` is not between 0 and 23"),
        ("file: {path: a}, start: later", "17:40 `later` is neither `beginning` nor `now`"),
        ("azure_monitor: {endpoint: https://r, rule: dcr/1, credential: gate}", "17:59 `dcr/1` is not an id"),
        (
            "azure_monitor: {endpoint: https://r, rule: dcr-1, credential: gaet}",
            "17:78 there is no credential called `gaet`",
        ),
    ] {
        let said = said(folder.path(), &with(sink));
        assert!(said.iter().any(|s| s.starts_with(expected)), "{sink}: {said:?} has no `{expected}`");
    }
}

#[test]
fn each_fault_of_a_place_where_the_record_is_kept_is_said_at_its_place() {
    let folder = folder();
    fs::write(folder.path().join("token"), "t").unwrap();
    let with = |audit: &str| {
        let signing = "signing_key: {file: audit.key}";
        GOOD.replace(signing, &format!("{signing},\n  {audit}"))
    };
    const BLOBS: &str = "https://kept.blob.core.windows.net/record";
    let kept = |place: &str| format!("witnesses: [{{name: kept, {place}}}]");
    for good in [
        kept("folder: /mnt/heads"),
        kept("git: {remote: \"ssh://git@git.corp/heads.git\", branch: record/heads}, every: 1h"),
        kept("git: {remote: \"git@git.corp:heads.git\"}"),
        kept("git: {remote: /mnt/heads.git}"),
        kept("git: {remote: \"https://git.corp/heads.git\", token: {file: token}}"),
        kept(&format!("container: \"{BLOBS}/heads\", credential: gate, address: \"10.0.0.1:443\"")),
        format!("archive: {{container: \"{BLOBS}\", credential: gate, after: 720h}}"),
    ] {
        assert_eq!(said(folder.path(), &with(&good)), [""; 0], "{good}");
    }
    let named = "https://ann:secret@git.corp/a";
    for (audit, at, expected) in [
        (kept("every: 1h"), "{name", "a witness is `{name, url, key}`"),
        (kept("folder: a, credential: gate"), "{name", "a witness is `{name, url, key}`"),
        (kept("folder: a, every: 1h"), "1h", "`every` is for `git` and `container`"),
        (kept("git: {remote: /a}, every: 5s"), "5s", "`5s` is too often"),
        (
            kept(&format!("git: {{remote: \"{named}\"}}")),
            "\"https",
            "`https://ann:secret@git.corp/a` names a user",
        ),
        (kept("git: {remote: \"ext::sh -c id\"}"), "\"ext", "`ext::sh -c id` is no remote"),
        (kept("git: {remote: --upload-pack=id}"), "--up", "`--upload-pack=id` is no remote"),
        (kept("git: {remote: \"http://git.corp/a\"}"), "\"http", "`http://git.corp/a` is reached in no way"),
        (kept("git: {remote: /a, branch: a..b}"), "a..b", "`a..b` is not the name of a branch"),
        (
            kept("container: \"https://kept.blob.core.windows.net\", credential: gate"),
            "\"https",
            "`https://kept.blob.core.windows.net` is not a container",
        ),
        (
            kept(&format!("container: \"{}\", credential: gate", BLOBS.replace("https", "http"))),
            "\"http",
            "`http://kept",
        ),
        (
            kept(&format!("container: \"{BLOBS}\", credential: gaet")),
            "gaet",
            "there is no credential called `gaet`",
        ),
        (
            kept("folder: a}, {name: twice, folder: b}, {name: twice, folder: c"),
            "twice, folder: c",
            "the witness `twice` is there twice",
        ),
        (
            format!("archive: {{container: \"{BLOBS}\", credential: gate, after: soon}}"),
            "soon",
            "`soon` is not a duration",
        ),
    ] {
        let said = said(folder.path(), &with(&audit));
        let expected = format!("17:{} {expected}", audit.find(at).unwrap() + 3);
        assert!(said.iter().any(|s| s.starts_with(&expected)), "{audit}: {said:?} has no `{expected}`");
    }
}

#[test]
fn the_token_that_keys_are_read_by_lies_in_a_file_that_is_there() {
    let folder = folder();
    fs::write(folder.path().join("token"), "sesame").unwrap();
    let with = |reference: &str| {
        GOOD.replace("audiences: [amlgate]}", &format!("audiences: [amlgate], keys_token: {reference}}}"))
    };
    let file = folder.path().join("amlgate.yaml");
    fs::write(&file, with("{file: token}")).unwrap();
    let settings = load(&file).unwrap();
    assert_eq!(settings.issuers[0].keys_token.as_deref(), Some(&*folder.path().join("token")));
    assert!(!format!("{settings:?}").contains("sesame"));
    for (reference, why) in [
        ("{env: PATH}", "`keys_token` is named by a `file` alone"),
        ("{file: token, env: PATH}", "`keys_token` is named by a `file` alone"),
        ("{}", "`keys_token` is named by a `file` alone"),
        ("{file: gone}", "cannot be read: No such file"),
    ] {
        let said = said(folder.path(), &with(reference));
        assert!(said.iter().any(|s| s.starts_with("5:") && s.contains(why)), "{reference}: {said:?}");
    }
}
