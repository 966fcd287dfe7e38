//! What must be had before a question can be judged: rights in Azure, and the body.

use super::{
    super::{
        PolicySet, Question, condition::Condition, entry::Context, hypothesis::Hypothesis, index::Doubt,
        lent::Human, raw::List, review::CommitFrom, selector::Selector, who::Membership,
    },
    fit,
};
use crate::azureml::{Effect, ResourceId};

/// Where the caller's rights in Azure must be read: the scopes of entries that nothing else rules out,
/// those of the human's included for whom an agent acts.
pub(in crate::policy) fn azure_scopes(set: &PolicySet, question: &Question<'_>) -> Vec<ResourceId> {
    let seen = set.seen(question.caller);
    let question = &Question { caller: &seen, ..*question };
    let mut scopes = Vec::new();
    let membership = set.membership(question.caller, &Hypothesis::default());
    mirrored(set, question, &membership, &mut scopes);
    if let Some(human) = Human::of(set, question.caller, None) {
        mirrored(set, &human.question(question), human.membership(), &mut scopes);
    }
    scopes
}

fn mirrored(set: &PolicySet, question: &Question<'_>, membership: &Membership, scopes: &mut Vec<ResourceId>) {
    let context = Context::new(question, membership, None);
    let look = set.index.look(question, membership);
    let candidates = look.candidates(List::Allow, Doubt::Fails);
    let candidates = candidates.into_iter().filter_map(|n| set.entries.get(usize::try_from(n).ok()?));
    for entry in candidates.filter(|entry| entry.rights.is_some()) {
        if !fit(entry, &Selector::OF_REQUEST, &context, None).matches(List::Allow) {
            continue;
        }
        for act in &question.operation.acts {
            let rest = fit(entry, &[Selector::Scope, Selector::Role, Selector::Actions], &context, Some(act));
            let scope = act.resource.as_ref().and_then(|resource| entry.azure_scope(resource));
            if let Some(scope) = scope.filter(|scope| rest.matches(List::Allow) && !scopes.contains(*scope)) {
                scopes.push(scope.clone());
            }
        }
    }
}

/// Whether some entry that could apply reads the body.
pub(in crate::policy) fn reads_body(set: &PolicySet, question: &Question<'_>) -> bool {
    let seen = set.seen(question.caller);
    let question = &Question { caller: &seen, ..*question };
    let membership = set.membership(question.caller, &Hypothesis::default());
    let lists = [List::Allow, List::Deny, List::Require];
    if could_read(set, question, &membership, &lists) {
        return true;
    }
    // Conditions of the human's own entries decide what an agent may do.
    let human = Human::of(set, question.caller, None);
    human.is_some_and(|human| could_read(set, &human.question(question), human.membership(), &[List::Allow]))
}

fn could_read(set: &PolicySet, question: &Question<'_>, membership: &Membership, lists: &[List]) -> bool {
    let context = Context::new(question, membership, None);
    let look = set.index.look(question, membership);
    let candidates = |list: &List| {
        let found = look.candidates(*list, Doubt::Counts);
        found.into_iter().filter_map(|n| set.entries.get(usize::try_from(n).ok()?))
    };
    let effects = question.operation.effects.union(question.operation.unclear_effects);
    let brings = effects.contains(Effect::RegisterModel) || effects.contains(Effect::DeployModel);
    lists.iter().flat_map(candidates).any(|entry| {
        // What a model descends from stands in the body.
        let follows = brings && entry.review.as_ref().is_some_and(|review| review.commit == CommitFrom::Job);
        let approval = entry.approval_wanted(&context).is_some_and(|approval| approval.binds_body());
        (approval || follows || entry.when.as_ref().is_some_and(Condition::reads_body))
            && !fit(entry, &Selector::OF_REQUEST, &context, None).fails
            && question.operation.acts.iter().any(|act| {
                !fit(entry, &[Selector::Scope, Selector::Role, Selector::Actions], &context, Some(act)).fails
            })
    })
}
