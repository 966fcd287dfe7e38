use proptest::prelude::*;

use super::*;

fn map(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    map
}

#[test]
fn azure_s_services_get_what_is_listed_and_nothing_else() {
    let sent = map(&[
        ("accept", "application/json"),
        ("x-ms-client-request-id", "1"),
        ("repeatability_request-id", "2"),
        ("x-invented", "3"),
        ("authorization", "Bearer x"),
        ("x-ms-authorization-auxiliary", "Bearer y"),
        ("x-azureml-token", "z"),
        ("cookie", "a=b"),
        ("x-forwarded-for", "1.1.1.1"),
        ("content-length", "3"),
        ("host", "gate"),
    ]);
    let got = upstream(&sent, ARM);
    let mut names: Vec<_> = got.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["accept", "repeatability_request-id", "x-ms-client-request-id"]);
}

#[test]
fn every_listed_header_really_goes() {
    for rule in [ARM, AZUREML, KEY_VAULT, STORAGE] {
        let Told::Listed(list) = rule else { panic!("a list") };
        for pattern in list {
            let name = pattern.replace('*', "x");
            assert_eq!(upstream(&map(&[(&name, "1")]), rule).len(), 1, "{name}");
            assert!(!HIDDEN.hold(&name), "{name}");
        }
    }
}

#[test]
fn a_copy_from_elsewhere_does_not_reach_storage() {
    assert!(upstream(&map(&[("x-ms-copy-source", "https://a")]), STORAGE).is_empty());
    assert_eq!(upstream(&map(&[("x-ms-meta-name", "a")]), STORAGE).len(), 1);
}

#[test]
fn endpoints_get_everything_but_hops_credentials_and_identities() {
    let sent = map(&[
        ("azureml-model-deployment", "blue"),
        ("x-custom", "1"),
        ("sec-websocket-key", "k"),
        ("connection", "keep-alive, x-hop, upgrade"),
        ("x-hop", "1"),
        ("te", "trailers"),
        ("x-ms-client-principal-name", "root"),
        ("x-ms-client-principal", "root"),
        ("X-Amlgate-Decision", "forged"),
        ("x-http-method-override", "DELETE"),
        ("api-key", "s"),
        ("x_custom", "1"),
        ("x-ms_client.principal", "root"),
    ]);
    let got = upstream(&sent, Told::AllButRemoved);
    let mut names: Vec<_> = got.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["azureml-model-deployment", "sec-websocket-key", "x-custom"]);
}

#[test]
fn connection_cannot_take_away_what_tells_requests_apart() {
    let sent = map(&[
        ("connection", "host, authorization, content-length, x-ms-client-request-id, content-type, close"),
        ("x-ms-client-request-id", "1"),
        ("content-type", "application/json"),
    ]);
    assert_eq!(upstream(&sent, ARM).len(), 2);
}

#[test]
fn policies_read_no_credential_in_any_spelling() {
    let sent = map(&[
        ("authorization", "a"),
        ("x-azureml-token", "b"),
        ("x_azureml.token", "b"),
        ("aml-user-token", "b"),
        ("cookie", "c"),
        ("x-ms-client-principal", "c"),
        ("accept", "d"),
    ]);
    let read = without_credentials(sent);
    assert_eq!(read.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
}

#[test]
fn the_words_for_an_approval_are_read_and_go_no_further() {
    let sent = map(&[
        ("x-amlgate-reason", "to retrain"),
        ("x-amlgate-ticket", "CHG1"),
        ("x_amlgate_reason", "forged"),
        ("x-amlgate-decision", "forged"),
    ]);
    assert!(upstream(&sent, Told::AllButRemoved).is_empty() && upstream(&sent, ARM).is_empty());
    let read = without_credentials(sent);
    assert_eq!(read.keys().map(HeaderName::as_str).collect::<Vec<_>>(), [REASON, TICKET]);
}

#[test]
fn a_value_that_its_sender_calls_sensitive_is_not_read_and_the_name_s_others_are() {
    let mut sent = map(&[("x-note", "open"), ("x-note", "more"), ("accept", "d")]);
    let mut secret = HeaderValue::from_static("secret");
    secret.set_sensitive(true);
    sent.append("x-note", secret);
    let read = without_credentials(sent);
    assert_eq!(read.get_all("x-note").iter().collect::<Vec<_>>(), ["open", "more"]);
    assert_eq!(read.len(), 3);
}

#[test]
fn answers_lose_what_is_the_upstream_s_alone() {
    let mut answer = map(&[
        ("server", "x"),
        ("set-cookie", "a"),
        ("set-cookie", "b"),
        ("alt-svc", "h3"),
        ("www-authenticate", "Bearer"),
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("transfer-encoding", "chunked"),
        ("x-amlgate-decision", "forged"),
        ("content-length", "3"),
        ("retry-after", "0"),
        ("x-ms-correlation-request-id", "1"),
    ]);
    strip_answer(&mut answer);
    let mut names: Vec<_> = answer.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "retry-after", "x-ms-correlation-request-id"]);
}

#[test]
fn a_trailer_never_becomes_a_header_that_matters() {
    let mut trailers = map(&[("grpc-status", "0"), ("authorization", "x"), ("content-length", "1")]);
    assert!(keep_trailers(&mut trailers, Told::AllButRemoved));
    assert_eq!(trailers.len(), 1);
    assert!(!keep_trailers(&mut trailers, ARM));
}

proptest! {
    #[test]
    fn no_spelling_of_a_removed_name_gets_through(
        at in 0..CREDENTIALS.len() + IDENTITY.len(),
        swaps in proptest::collection::vec(0..3_u8, 40),
    ) {
        let name = CREDENTIALS.iter().chain(IDENTITY).nth(at).unwrap().replace('*', "x");
        let spelled: String = name
            .chars()
            .zip(swaps)
            .map(|(c, s)| match (c, s) { ('-', 1) => '_', ('-', 2) => '.', (c, _) => c })
            .collect();
        let sent = map(&[(&spelled, "1")]);
        prop_assert!(upstream(&sent, Told::AllButRemoved).is_empty());
        prop_assert!(upstream(&sent, ARM).is_empty());
        prop_assert!(without_credentials(sent).is_empty());
    }
}
