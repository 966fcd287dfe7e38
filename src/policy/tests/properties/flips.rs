//! The changes that turn a denial: what is told of them is true, complete and no more than one may know.

use super::*;
use crate::policy::flip::Change;

/// All subsets of at most `most` members.
fn subsets(all: &[Change], most: usize) -> Vec<BTreeSet<Change>> {
    (0_u32..1 << all.len())
        .filter(|bits| bits.count_ones() as usize <= most)
        .map(|bits| {
            let chosen = all.iter().enumerate().filter(|(at, _)| bits & 1 << at != 0);
            chosen.map(|(_, change)| change.clone()).collect()
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn a_flip_turns_the_decision_and_nothing_smaller_does(lists in lists(), ask in ask()) {
        let set = lists.set();
        let question = ask.question();
        let flips = flip::flips(&set, &question);
        prop_assert!(flips.exhaustive);
        if allows(&ask.of(&set)) {
            prop_assert!(flips.sets.is_empty());
            return Ok(());
        }
        // Whatever has a place can be granted, and every obstacle left: there is always a way.
        let placed = ask.operation.acts.iter().all(|act| act.resource.is_some());
        prop_assert!(!placed || !flips.sets.is_empty(), "{:?}", ask.of(&set));
        for flip in &flips.sets {
            prop_assert!(flip::turns(&set, &question, flip), "{flip:?}");
        }
        // Nothing smaller, of all changes that there are, does.
        let size = flips.sets.first().map_or(usize::MAX, BTreeSet::len);
        prop_assert!(flips.sets.iter().all(|flip| flip.len() == size), "{flips:?}");
        for smaller in subsets(&ask.changes(&set), size.saturating_sub(1)) {
            prop_assert!(!flip::turns(&set, &question, &smaller), "{flips:?} {smaller:?}");
        }
    }

    #[test]
    fn the_flip_that_the_caller_is_told_turns_the_decision_and_nothing_smaller_does(lists in lists(), ask in ask()) {
        let set = lists.set();
        let question = ask.question();
        let judgement = ask.of(&set);
        let told = &judgement.flip;
        if allows(&judgement) {
            prop_assert!(told.is_empty());
            return Ok(());
        }
        prop_assert!(told.is_empty() || flip::turns(&set, &question, told), "{told:?}");
        let mut all = ask.changes(&set);
        all.retain(|change| !matches!(change, Change::Join(_)));
        let smaller = if told.is_empty() { all.len() } else { told.len() - 1 };
        for smaller in subsets(&all, smaller) {
            prop_assert!(!flip::turns(&set, &question, &smaller), "{told:?} {smaller:?}");
        }
        // `policy why` never finds more to change than the caller is told.
        let flips = flip::flips(&set, &question).sets;
        prop_assert!(told.is_empty() || flips.iter().all(|flip| flip.len() <= told.len()));
        // And the words say all of it: each entry that is in the way, each action, each class.
        let denial = judgement.denial.as_ref().unwrap();
        let words = format!("{}\n{}", denial.cause, denial.cure);
        for change in told.iter().take(3) {
            let said = match change {
                Change::Leave(entry) | Change::Satisfy(entry) => entry.name(),
                Change::Grant(action, _) => action,
                Change::NameSecret(class) => class,
                Change::Join(subject) => subject,
            };
            prop_assert!(words.contains(said), "{said}: {words}");
        }
    }

    #[test]
    fn the_caller_is_told_of_no_subject_and_of_no_entry_for_others(lists in lists(), ask in ask()) {
        let set = lists.set();
        let Some(denial) = ask.of(&set).denial else { return Ok(()) };
        let words = format!("{}\n{}\n{:?}", denial.cause, denial.cure, denial.missing);
        for subject in set.subjects() {
            prop_assert!(!words.contains(&**subject), "{subject}: {words}");
        }
        for trace in set.trace(&ask.question()) {
            let others = trace.selectors.iter().any(|s| {
                s.selector == crate::policy::Selector::Who && s.verdict == crate::policy::Verdict::Fails
            });
            let named = words.contains(&format!("`{}`", trace.entry.name));
            prop_assert!(!(others && named), "{}: {words}", trace.entry.name);
        }
    }

    #[test]
    fn a_flip_that_is_carried_out_does_what_it_says(lists in lists(), ask in ask()) {
        let set = lists.set();
        for flip in flip::flips(&set, &ask.question()).sets {
            let mut lists = lists.clone();
            let mut ask = ask.clone();
            let mut can_be_done = true;
            for change in &flip {
                match (change, &ask.caller.groups) {
                    // No group makes anybody an agent, or an agent somebody.
                    (Change::Join(subject), Groups::Known(groups))
                        if &**subject != "s4" && !set.seen(&ask.caller).kind.is_agent() =>
                    {
                        let group = format!("g{}", subject.trim_start_matches('s'));
                        let more = groups.iter().cloned().chain([group.into()]).collect();
                        ask.caller.groups = Groups::Known(more);
                    }
                    // `authenticated` lets no agent in.
                    (Change::Grant(action, scope), _) if !set.seen(&ask.caller).kind.is_agent() => {
                        let keys = format!(", actions: [\"{action}\"], scope: [\"{scope}\"]");
                        lists.allow.push(("[authenticated]".to_owned(), keys, None));
                    }
                    (
                        Change::Join(_)
                        | Change::Grant(..)
                        | Change::Leave(_)
                        | Change::Satisfy(_)
                        | Change::NameSecret(_),
                        _,
                    ) => {
                        can_be_done = false;
                    }
                }
            }
            if can_be_done {
                prop_assert!(allows(&ask.of(&lists.set())), "{flip:?}");
            }
        }
    }
}
