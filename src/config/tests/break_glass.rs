//! `break_glass`: who, by whose word, for how long; what is wrong with it is said at its place.

use std::{fs, time::Duration};

use super::{GOOD, folder, load, said};
use crate::{config::on_call, gates::break_glass::Rules};

/// [`GOOD`] with the block on line 16.
fn with(rules: &str) -> String {
    let more = format!("store: {{sqlite: a.db}}\nbreak_glass: {rules}\npolicies: policies/");
    GOOD.replace("policies: policies/", &more)
}

#[test]
fn what_is_not_said_is_an_hour_and_a_day_and_nobody_elses_yes() {
    let folder = folder();
    let file = folder.path().join("amlgate.yaml");
    let read = |rules: &str| {
        fs::write(&file, with(rules)).unwrap();
        load(&file).unwrap().break_glass.unwrap()
    };
    let Rules { who, by, max, review_by } = read("{who: [on-call]}");
    assert_eq!((who.len(), by.len()), (1, 0));
    assert_eq!((max, review_by), (Duration::from_secs(3_600), Duration::from_secs(86_400)));
    let rules = read("{who: [on-call], by: [{subject: security, count: 2}], max: 8h, review_by: 7d}");
    assert_eq!(rules.subjects().map(|name| &**name).collect::<Vec<_>>(), ["on-call", "security"]);
    assert_eq!(rules.max, Duration::from_secs(8 * 3_600));
    let (_, named) = on_call(&file);
    assert_eq!(named.iter().map(|name| &*name.value).collect::<Vec<_>>(), ["on-call", "security"]);
}

#[test]
fn a_channel_that_must_hear_of_it_cannot_be_taken_away_unseen() {
    let folder = folder();
    let file = folder.path().join("amlgate.yaml");
    let channels = |name: &str| {
        let channels = format!("notify: [{{name: {name}, slack: {{url: {{file: seal.key}}}}}}]\npolicies:");
        with("{who: [on-call], notify: [pager]}").replace("policies:", &channels)
    };
    fs::write(&file, channels("pager")).unwrap();
    let silent = |settings: &crate::config::Settings| {
        settings.warnings.iter().any(|w| w.message.contains("nobody is told when the glass is broken"))
    };
    assert!(!silent(&load(&file).unwrap()));
    let renamed = said(folder.path(), &channels("paging"));
    assert!(renamed.iter().any(|s| s.starts_with("16:40 `pager` is no channel of `notify`")), "{renamed:?}");
    fs::write(&file, with("{who: [on-call]}")).unwrap();
    assert!(silent(&load(&file).unwrap()), "nobody hears of it");
}

#[test]
fn each_fault_is_said_at_its_place() {
    let folder = folder();
    for (rules, expected) in [
        ("{who: []}", "`break_glass.who` names nobody"),
        ("{who: [authenticated]}", "`break_glass` names everybody"),
        ("{who: [on-call], max: 9h}", "`9h` is not between `1m` and `8h`"),
        ("{who: [on-call], max: 1s}", "`1s` is not between"),
        ("{who: [on-call], review_by: 31d}", "`31d` is not between `1m` and `720h`"),
        ("{who: [on-call], by: [{subject: a, count: 0}]}", "`by` wants 1 to 8 people in all"),
        ("{who: [on-call], by: [{subject: a, count: 9}]}", "`by` wants 1 to 8 people in all"),
        ("{who: [on-call], notify: []}", "`break_glass.notify` is empty"),
        ("{who: [on-call], notify: [pager]}", "`pager` is no channel of `notify`"),
        ("{who: [on-call], for: 1h}", "unknown field `for`"),
    ] {
        let said = said(folder.path(), &with(rules));
        assert!(said.iter().any(|s| s.starts_with("16:") && s.contains(expected)), "{rules}: {said:?}");
    }
    let unkept = with("{who: [on-call]}").replace("store: {sqlite: a.db}\n", "");
    let said = said(folder.path(), &unkept);
    assert!(said.iter().any(|s| s.contains("break-glass is kept in a store")), "{said:?}");
}
