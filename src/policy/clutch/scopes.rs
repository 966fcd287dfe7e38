//! Where a policy counts: globs over ids become scopes, and a condition where scopes say too much.
//!
//! A scope takes in all that lies below it, and an id in Clutch does not. So an id alone is a scope
//! and `resource.id == '...'`; an id and everything below it (`ID` beside `ID/**`) is a scope alone.

use super::{Why, glob::Glob};
use crate::{azureml::ResourceId, policy::document::Text};

const NO_ID: Why = Why {
    message: "is no id of Azure's",
    hint: Some(
        "ids are whole: `/subscriptions/S/resourceGroups/G/providers/Microsoft.MachineLearningServices/workspaces/W/jobs/*`",
    ),
};
const OUTSIDE: Why = Why { message: "lies outside what `--scope` names", hint: None };

/// Where an entry counts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reach {
    /// Its scopes.
    pub scopes: Vec<ResourceId>,
    /// A pattern that the id must fit, if scopes take in too much.
    pub pattern: Option<String>,
}

/// One way to reach something.
struct Way {
    scopes: Vec<ResourceId>,
    expression: String,
    is_whole: bool,
}

/// The reach of globs, within scopes; of none, all of these. `None` if none of them reaches anything.
pub(super) fn reach(
    resources: &[Text],
    within: &[ResourceId],
    leave: &mut dyn FnMut(&Text, Why),
) -> Option<Reach> {
    let everything = || Reach { scopes: within.to_vec(), pattern: None };
    if resources.is_empty() || resources.iter().any(|text| matches!(text.value.as_str(), "*" | "**" | "/**"))
    {
        return Some(everything());
    }
    let mut ways = Vec::new();
    for text in resources {
        match way(&text.value, resources, within) {
            Ok(way) => ways.push(way),
            Err(why) => leave(text, why),
        }
    }
    let mut scopes = Vec::new();
    for scope in ways.iter().flat_map(|way| &way.scopes) {
        if !scopes.contains(scope) {
            scopes.push(scope.clone());
        }
    }
    if ways.iter().all(|way| way.is_whole) {
        return (!scopes.is_empty()).then_some(Reach { scopes, pattern: None });
    }
    let mut expressions: Vec<_> = ways.into_iter().map(|way| way.expression).collect();
    expressions.dedup();
    Some(Reach { scopes, pattern: Some(format!("^(?:{})$", expressions.join("|"))) })
}

fn way(text: &str, all: &[Text], within: &[ResourceId]) -> Result<Way, Why> {
    let is_named = |text: &str| all.iter().any(|other| other.value == text);
    let below = text.strip_suffix("/**").filter(|id| is_named(id));
    let with_below = is_named(&format!("{text}/**")).then_some(text);
    let glob = Glob::parse(text)?;
    if !glob.literal.is_empty() && !glob.literal.starts_with('/') {
        return Err(NO_ID);
    }
    if let Some(id) = below.or(with_below).and_then(exact) {
        let expression = format!("{}(?:/(?s:.*))?", regex::escape(id.as_str()));
        return Ok(Way { scopes: held(&id, within)?, expression, is_whole: true });
    }
    if glob.is_exact {
        let id = ResourceId::parse(text).ok_or(NO_ID)?;
        return Ok(Way { scopes: held(&id, within)?, expression: glob.expression, is_whole: false });
    }
    // What every id that fits lies below: whole segments of its beginning.
    let start = glob.literal.rfind('/').and_then(|at| glob.literal.get(..at)).unwrap_or_default();
    let scopes = match start {
        "" => within.to_vec(),
        start => held(&ResourceId::parse(start).ok_or(NO_ID)?, within)?,
    };
    Ok(Way { scopes, expression: glob.expression, is_whole: false })
}

/// An id without wildcards.
fn exact(text: &str) -> Option<ResourceId> {
    Glob::parse(text).ok().filter(|glob| glob.is_exact)?;
    ResourceId::parse(text)
}

/// The part of `id` and below that lies within scopes.
fn held(id: &ResourceId, within: &[ResourceId]) -> Result<Vec<ResourceId>, Why> {
    if within.iter().any(|scope| id.is_within(scope)) {
        return Ok(vec![id.clone()]);
    }
    let narrower: Vec<_> = within.iter().filter(|scope| scope.is_within(id)).cloned().collect();
    if narrower.is_empty() { Err(OUTSIDE) } else { Ok(narrower) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{policy::document::Located, yaml::Place};

    const WS: &str =
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w";

    /// Scopes and pattern.
    type Reached = (Vec<String>, Option<String>);

    fn reached(globs: &[&str], within: &str) -> (Option<Reached>, Vec<Why>) {
        let texts: Vec<_> = globs.iter().map(|g| Located::new((*g).to_owned(), Place::default())).collect();
        let mut left = Vec::new();
        let within = [ResourceId::parse(within).unwrap()];
        let reach = reach(&texts, &within, &mut |_, why| left.push(why));
        let shown = |r: Reach| (r.scopes.iter().map(ToString::to_string).collect(), r.pattern);
        (reach.map(shown), left)
    }

    #[test]
    fn without_globs_all_of_the_scope_is_meant() {
        for globs in [&[][..], &["*"], &["**"]] {
            assert_eq!(reached(globs, WS).0, Some((vec![WS.into()], None)));
        }
    }

    #[test]
    fn an_id_is_itself_alone_and_with_what_is_below_a_scope() {
        let job = format!("{WS}/jobs/j.1");
        let (reach, _) = reached(&[&job], "/");
        let pattern = format!("^(?:{})$", regex::escape(&job));
        assert_eq!(reach, Some((vec![job.clone()], Some(pattern))));
        let below = format!("{WS}/**");
        assert_eq!(reached(&[WS, &below], "/").0, Some((vec![WS.into()], None)));
    }

    #[test]
    fn a_glob_is_held_to_its_beginning_and_to_the_scope() {
        let (reach, left) = reached(&["/subscriptions/*/resourceGroups/g/**"], WS);
        let (scopes, pattern) = reach.unwrap();
        assert_eq!(scopes, [WS]);
        let pattern = regex::Regex::new(&pattern.unwrap()).unwrap();
        assert!(pattern.is_match(WS));
        assert!(!pattern.is_match("/subscriptions/s/resourceGroups/other/x"));
        assert_eq!(left, []);
        let (reach, _) = reached(&[&format!("{WS}/jobs/*")], "/subscriptions/s");
        assert_eq!(reach.unwrap().0, [format!("{WS}/jobs")]);
    }

    #[test]
    fn what_is_no_id_or_lies_outside_reaches_nothing() {
        let (reach, left) = reached(&["prod/*/jobs/*", "/subscriptions/other/**"], WS);
        assert_eq!(reach, None);
        assert_eq!(left, [NO_ID, OUTSIDE]);
    }
}
