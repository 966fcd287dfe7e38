//! Entries that want Clutch's word.

use super::*;
use crate::policy::{Cut, Lease, Obligation, StreamLimits, decide};

const FREE: &str = "version: 1
subjects: {team: [{issuer: corp, group: g}]}
allow: [{name: team works, who: [team], kinds: [read]}]
";

fn asking() -> String {
    format!("{FREE}require: [{{name: as Clutch says, kinds: [read], opinion: clutch}}]\n")
}

fn opened(set: &PolicySet) -> Lease {
    let principal = crate::identity::Principal::for_tests(caller(&["g"]));
    let request = request(Method::GET, "/x");
    let azure = crate::policy::Azure::default();
    let permit = decide(set, principal, list_jobs(), request, Standing::Entries, azure, noon()).unwrap();
    permit.lease(StreamLimits::default())
}

#[test]
fn what_matches_is_allowed_once_another_was_asked() {
    let set = set(&asking());
    let judgement = judged(&set, &caller(&["g"]), &list_jobs());
    assert_eq!((verdict(&judgement), judgement.asks()), ("allow", true));
    let [Obligation::Opinion { entry }] = &judgement.obligations[..] else { panic!() };
    assert_eq!(&*entry.name, "as Clutch says");
    assert_eq!(set.first_opinion(), Some(entry));
    // Who may not anyhow is not asked about.
    let stranger = judged(&set, &caller(&[]), &list_jobs());
    assert_eq!((verdict(&stranger), stranger.asks()), ("AuthorizationFailed", false));
}

#[test]
fn a_stream_about_which_nobody_was_asked_ends_when_an_entry_wants_it() {
    let (free, asks) = (set(FREE), set(&asking()));
    assert_eq!(asks.renew(&opened(&asks), noon()), Ok(()));
    assert_eq!(free.renew(&opened(&asks), noon()), Ok(()));
    assert_eq!(asks.renew(&opened(&free), noon()), Err(Cut::Unheard("as Clutch says".into())));
}

#[test]
fn nobody_else_is_asked_and_nobody_where_nothing_is_demanded() {
    let said = |list: &str, entry: &str| {
        let files = FileSet::from_texts([("p.yaml", &*format!("{FREE}{list}: [{{name: x, {entry}}}]\n"))]);
        let problems = PolicySet::compile(&files, &Surroundings::default()).unwrap_err();
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    assert!(said("require", "kinds: [read], opinion: cluch").contains("did you mean `clutch`?"));
    assert!(said("deny", "kinds: [read], opinion: clutch").contains("it is a demand"));
    let later = said("require", "kinds: [read], opinion: clutch, dry_run_until: 2027-01-01T00:00:00Z");
    assert!(later.contains("`opinion` beside `dry_run_until`"), "{later}");
}
