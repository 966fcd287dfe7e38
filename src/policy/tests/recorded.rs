//! Which bodies of a request are recorded, and by which entries.

use super::*;
use crate::policy::Recording;

const ALLOW: &str = "version: 1\nallow:\n  - name: first\n    who: [authenticated]\n    actions: ['Microsoft.MachineLearningServices/workspaces/jobs/*']\n";

fn recorded(text: &str, operation: &Operation) -> Option<Recording> {
    let judgement = judged(&set(text), &caller(&[]), operation);
    assert_eq!(verdict(&judgement), "allow");
    judgement.record.map(|recording| *recording)
}

#[test]
fn the_entry_that_allows_says_which_bodies_are_recorded() {
    assert_eq!(recorded(ALLOW, &list_jobs()), None);
    let text = format!("{ALLOW}    record: {{bodies: request, redact: /properties/x, keep: 90d}}\n");
    let recording = recorded(&text, &list_jobs()).unwrap();
    assert_eq!((recording.request, recording.response), (true, false));
    assert_eq!(recording.redact[0].to_string(), "/properties/x");
    assert_eq!(recording.keep.unwrap().as_secs(), 90 * 86_400);
}

#[test]
fn whatever_allows_it_an_entry_that_requires_has_bodies_recorded_and_all_count_together() {
    let text = format!(
        "{ALLOW}    record: {{bodies: [request], redact: [/a], keep: 1d}}\nrequire:\n  - {{name: r, kinds: [write], record: {{bodies: [response], redact: [/b], keep: 30d}}}}\n"
    );
    let read = recorded(&text, &list_jobs()).unwrap();
    assert!(read.request && !read.response, "the second entry is about writes");
    let write = operation(Kind::Write, vec![act("jobs/write", WS_A)]);
    let both = recorded(&text, &write).unwrap();
    assert!(both.request && both.response);
    assert_eq!(both.redact.len(), 2);
    assert_eq!(both.keep.unwrap().as_secs(), 30 * 86_400);
}

#[test]
fn of_what_is_denied_no_body_is_recorded() {
    let text = format!(
        "{ALLOW}require:\n  - {{name: r, record: {{bodies: [request]}}}}\ndeny:\n  - {{name: d, kinds: [read]}}\n"
    );
    let judgement = judged(&set(&text), &caller(&[]), &list_jobs());
    assert_eq!((verdict(&judgement), judgement.record), ("RequestDisallowedByPolicy", None));
}
