//! `*.test.yaml`: what policies are to decide, as people who keep them write it down.

use std::{collections::BTreeMap, net::SocketAddr, path::Path, sync::Arc};

use serde::Deserialize;
use serde_json::Value;

use super::{
    DenialCode, EntryRef, Judgement, OpenGlass, PolicySet,
    described::{Described, DescribedCaller, DescribedRequest, Door},
};
use crate::{
    azureml::{Facts, ResourceId},
    time::Timestamp,
    yaml::{self, Place, Problem, Spanned},
};

/// When a case does not say: 23 November 2026, 12:00 UTC, a Monday.
const WHEN: Timestamp = Timestamp::from_secs(1_795_435_200);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: Spanned<u64>,
    cases: Vec<Case>,
}

/// One case.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    name: Spanned<String>,
    #[serde(rename = "as")]
    caller: DescribedCaller,
    #[serde(default)]
    at: Option<Spanned<String>>,
    #[serde(default)]
    from: Option<Spanned<String>>,
    /// Whether the caller broke the glass.
    #[serde(default)]
    break_glass: bool,
    request: Asked,
    #[serde(default)]
    resource: Option<Resource>,
    expect: Expectation,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    method: String,
    url: Spanned<String>,
    #[serde(default)]
    body: Option<Value>,
}

/// What the request does not say of the resource: the one behind an endpoint, and what conditions
/// read of it as `resource`. Its type, name and workspace follow from its id.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Resource {
    #[serde(default)]
    id: Option<Spanned<String>>,
    #[serde(default)]
    tags: Option<Spanned<BTreeMap<String, String>>>,
    #[serde(default)]
    experiment: Option<Spanned<String>>,
    #[serde(default)]
    container: Option<Spanned<String>>,
    #[serde(default)]
    blob: Option<Spanned<String>>,
}

impl Resource {
    /// Adds what is told to what the request says; both may not differ.
    fn tell(&self, facts: &mut Facts) -> Result<(), (Place, String)> {
        told("tags", &self.tags, &mut facts.tags)?;
        told("experiment", &self.experiment, &mut facts.experiment)?;
        told("container", &self.container, &mut facts.container)?;
        told("blob", &self.blob, &mut facts.blob)
    }
}

fn told<T: Clone + PartialEq>(
    name: &str,
    told: &Option<Spanned<T>>,
    said: &mut Option<T>,
) -> Result<(), (Place, String)> {
    let Some(told) = told else { return Ok(()) };
    if said.as_ref().is_some_and(|said| *said != told.value) {
        return Err((Place::of(told), format!("the request says another `{name}` itself")));
    }
    *said = Some(told.value.clone());
    Ok(())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expectation {
    decision: Spanned<Decision>,
    #[serde(default)]
    entry: Option<String>,
    #[serde(default)]
    code: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Decision {
    Allow,
    Deny,
    NeedsApproval,
    NeedsReview,
    NeedsStepUp,
}

/// What came of one case.
#[derive(Debug)]
pub struct Outcome {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub place: Place,
    /// Why it fails; `None` if it holds.
    pub failure: Option<Problem>,
    /// Selectors that could not be evaluated on the way: entry, selector, cause.
    pub unevaluable: Vec<String>,
    /// The entries that decided.
    pub decided_by: Vec<String>,
    /// The entries that counted, whether or not another decided already.
    pub concerned: Vec<String>,
}

/// Runs the cases of one file.
///
/// # Errors
/// The first thing about the file that makes no sense; a case that makes none is an outcome.
pub fn run(
    set: &PolicySet,
    file: &Arc<str>,
    text: &str,
    door: &dyn Fn(&str) -> Option<Door>,
) -> Result<Vec<Outcome>, Problem> {
    let parsed: File = yaml::parse(file, text)?;
    if parsed.version.value != 1 {
        let problem = Problem::error(file, Place::of(&parsed.version), "`version` is not known here");
        return Err(problem.hint("write `version: 1`"));
    }
    // A case that makes no sense does not hide the others.
    let outcome = |case: &Case| {
        case.run(set, file, door).unwrap_or_else(|problem| Outcome {
            name: case.name.value.clone(),
            place: Place::of(&case.name),
            failure: Some(problem),
            unevaluable: Vec::new(),
            decided_by: Vec::new(),
            concerned: Vec::new(),
        })
    };
    Ok(parsed.cases.iter().map(outcome).collect())
}

/// The test files below a directory, in the order of their names.
///
/// # Errors
/// What the disk says.
pub fn files(directory: &Path) -> std::io::Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if name.ends_with(".test.yaml") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

impl Case {
    fn run(
        &self,
        set: &PolicySet,
        file: &Arc<str>,
        door: &dyn Fn(&str) -> Option<Door>,
    ) -> Result<Outcome, Problem> {
        let error = |place, message: String| Problem::error(file, place, message);
        let at = match &self.at {
            None => WHEN,
            Some(at) => chrono::DateTime::parse_from_rfc3339(&at.value)
                .ok()
                .and_then(|t| u64::try_from(t.timestamp()).ok())
                .map(Timestamp::from_secs)
                .ok_or_else(|| {
                    error(Place::of(at), format!("`{}` is no instant", at.value))
                        .hint("write `2026-11-23T12:00:00+01:00`")
                })?,
        };
        let from: SocketAddr = match &self.from {
            None => SocketAddr::from(([127, 0, 0, 1], 0)),
            Some(from) => from.value.parse().map(|ip| SocketAddr::new(ip, 0)).map_err(|_| {
                error(Place::of(from), format!("`{}` is no address", from.value)).hint("write `10.1.2.3`")
            })?,
        };
        let resource = match self.resource.as_ref().and_then(|resource| resource.id.as_ref()) {
            None => None,
            Some(id) => Some(
                ResourceId::parse(&id.value)
                    .ok_or_else(|| error(Place::of(id), format!("`{}` is no resource's id", id.value)))?,
            ),
        };
        let body = self.request.body.as_ref().map(|body| body.to_string().into_bytes());
        let request = DescribedRequest {
            method: &self.request.method,
            url: &self.request.url.value,
            body: body.as_deref(),
            from,
            at,
            resource,
        };
        let mut described = Described::new(self.caller.caller(), &request, door)
            .map_err(|why| error(Place::of(&self.request.url), why.to_string()))?
            .under(self.break_glass.then(|| Arc::new(OpenGlass { id: "test".into() })));
        if let (Some(resource), Some(operation)) = (&self.resource, &mut described.operation) {
            resource.tell(&mut operation.facts).map_err(|(place, message)| error(place, message))?;
        }
        let judgement = described.judge(set);
        let failure = self.expect.failure(&judgement).map(|said| {
            let about = format!("case `{}`: {said}", self.name.value);
            error(Place::of(&self.expect.decision), about).hint(format!("it is about {}", described.about()))
        });
        let mut decided_by: Vec<String> =
            judgement.allowed_by.iter().map(|entry| entry.name.to_string()).collect();
        let wanted = judgement.wanted().map(|wanted| wanted.entries).unwrap_or_default();
        decided_by.extend(wanted.iter().map(|entry| entry.name.to_string()));
        decided_by.extend(judgement.denial.iter().filter_map(|d| Some(d.entry.as_ref()?.name.to_string())));
        let traces = described.question().map(|question| set.trace(&question)).unwrap_or_default();
        let concerned =
            traces.iter().filter(|trace| trace.matches).map(|trace| trace.entry.name.to_string()).collect();
        Ok(Outcome {
            concerned,
            name: self.name.value.clone(),
            place: Place::of(&self.name),
            failure,
            unevaluable: judgement
                .unevaluable
                .iter()
                .map(|(entry, selector, why)| format!("entry `{}`, `{selector}`: {why}", entry.name))
                .collect(),
            decided_by,
        })
    }
}

impl Expectation {
    /// What is not as expected, in words.
    fn failure(&self, judgement: &Judgement) -> Option<String> {
        let reviews: Vec<_> = judgement.reviews().collect();
        let approvals: Vec<_> = judgement.approvals().collect();
        let open = !reviews.is_empty() || !approvals.is_empty();
        let decided = match &judgement.denial {
            None if open => {
                let of = |words: String, entry: &EntryRef| format!("{words} (entry `{}`)", entry.name);
                let reviews = reviews.iter().map(|r| of(r.words(), &r.entry));
                let approvals =
                    approvals.iter().map(|a| of(format!("the approval of {}", a.words()), &a.entry));
                let all: Vec<_> = reviews.chain(approvals).collect();
                format!("it needs {}", all.join(", and "))
            }
            None => {
                let by: Vec<_> = judgement.allowed_by.iter().map(|e| format!("`{}`", e.name)).collect();
                format!("it is allowed by {}", by.join(", "))
            }
            Some(denial) if denial.code == DenialCode::StepUpRequired => {
                format!("it needs a step-up: {}", denial.cause)
            }
            Some(denial) => format!("it is denied with `{}`: {}", denial.code.name(), denial.cause),
        };
        let wanted = match (self.decision.value, &judgement.denial) {
            (Decision::Allow, None) if !open => None,
            (Decision::Allow, None) => Some("`allow` is expected".to_owned()),
            (Decision::NeedsApproval, None) if !approvals.is_empty() => None,
            (Decision::NeedsReview, None) if !reviews.is_empty() => None,
            (Decision::NeedsReview, _) => Some("`needs_review` is expected".to_owned()),
            (Decision::NeedsApproval, _) => Some("`needs_approval` is expected".to_owned()),
            (Decision::NeedsStepUp, Some(denial)) if denial.code == DenialCode::StepUpRequired => None,
            (Decision::NeedsStepUp, _) => Some("`needs_step_up` is expected".to_owned()),
            (Decision::Deny, Some(denial)) if denial.code == DenialCode::StepUpRequired => {
                Some("`deny` is expected".to_owned())
            }
            (Decision::Deny, Some(_)) => None,
            (Decision::Allow, Some(_)) => Some("`allow` is expected".to_owned()),
            (Decision::Deny, None) => Some("`deny` is expected".to_owned()),
        };
        if let Some(wanted) = wanted {
            return Some(format!("{wanted}, but {decided}"));
        }
        if let Some(code) = &self.code {
            let review = (!reviews.is_empty()).then_some(DenialCode::ReviewRequired);
            let approval = (!approvals.is_empty()).then_some(DenialCode::ApprovalRequired);
            let denial = judgement.denial.as_ref().map(|denial| denial.code);
            if ![denial, review, approval].iter().flatten().any(|given| given.name() == code) {
                return Some(format!("`{code}` is expected, but {decided}"));
            }
        }
        let entry = self.entry.as_deref()?;
        let named = |e: &EntryRef| *e.name == *entry;
        let decides = judgement.allowed_by.iter().any(named)
            || reviews.iter().any(|review| named(&review.entry))
            || approvals.iter().any(|approval| named(&approval.entry))
            || judgement.denial.as_ref().and_then(|d| d.entry.as_ref()).is_some_and(named);
        (!decides).then(|| format!("entry `{entry}` is expected to decide, but {decided}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tests::set;

    const POLICIES: &str = r#"
version: 1
subjects: {team: [{issuer: corp, group: g}]}
allow:
  - {name: team reads, who: [team], role: Reader}
deny:
  - {name: not at night, from: [office], during: night, kinds: [read]}
networks: {office: [10.0.0.0/8]}
calendars: {night: {zone: UTC, from: "20:00", to: "06:00"}}
"#;
    const WORKSPACE: &str = "https://management.azure.com/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w?api-version=1";

    fn outcome(case: &str) -> Result<Vec<Outcome>, Problem> {
        let text = format!("version: 1\ncases:\n{}", case.replace("URL", WORKSPACE));
        run(&set(POLICIES), &"p.test.yaml".into(), &text, &Door::of_azure)
    }

    fn failure(case: &str) -> Option<String> {
        outcome(case).unwrap().remove(0).failure.map(|p| p.to_string())
    }

    #[test]
    fn a_case_that_holds_says_who_decided() {
        let case = "  - {name: a, as: {issuer: corp, groups: [g]}, request: {method: GET, url: 'URL'}, \
                    expect: {decision: allow, entry: team reads}}\n";
        let outcome = outcome(case).unwrap().remove(0);
        assert!(outcome.failure.is_none(), "{outcome:?}");
        assert_eq!(outcome.decided_by, ["team reads"]);
    }

    #[test]
    fn a_case_that_fails_says_where_and_what_was_decided_instead() {
        let stranger = "  - {name: a, as: {issuer: corp}, request: {method: GET, url: 'URL'}, expect: {decision: allow}}\n";
        let said = failure(stranger).unwrap();
        assert!(said.starts_with("p.test.yaml:3:"), "{said}");
        assert!(said.contains("`allow` is expected, but it is denied with `AuthorizationFailed`"), "{said}");
        let wrong_code = "  - {name: a, as: {issuer: corp}, request: {method: GET, url: 'URL'}, expect: {decision: deny, code: OutsideHours}}\n";
        assert!(failure(wrong_code).unwrap().contains("`OutsideHours` is expected"));
        let wrong_entry = "  - {name: a, as: {issuer: corp, groups: [g]}, request: {method: GET, url: 'URL'}, expect: {decision: allow, entry: x}}\n";
        assert!(failure(wrong_entry).unwrap().contains("entry `x` is expected to decide"));
    }

    #[test]
    fn time_and_place_are_the_cases_own() {
        let night = "  - {name: a, as: {issuer: corp, groups: [g]}, at: '2026-11-23T22:00:00Z', from: 10.1.2.3, \
                     request: {method: GET, url: 'URL'}, expect: {decision: deny, entry: not at night}}\n";
        assert_eq!(failure(night), None);
        let day = night.replace("T22", "T12").replace("deny, entry: not at night", "allow");
        assert_eq!(failure(&day), None);
        let home = night.replace("10.1.2.3", "192.0.2.1").replace("deny, entry: not at night", "allow");
        assert_eq!(failure(&home), None);
    }

    #[test]
    fn what_makes_no_case_is_refused_where_it_stands() {
        for (case, said) in [
            (
                "  - {name: a, as: {issuer: corp}, request: {method: GET, url: 'http://x'}, expect: {decision: deny}}\n",
                "is no URL of Azure's",
            ),
            (
                "  - {name: a, at: soon, as: {issuer: corp}, request: {method: GET, url: 'URL'}, expect: {decision: deny}}\n",
                "is no instant",
            ),
            (
                "  - {name: a, from: here, as: {issuer: corp}, request: {method: GET, url: 'URL'}, expect: {decision: deny}}\n",
                "is no address",
            ),
            (
                "  - {name: a, as: {issuer: corp}, request: {method: GET, url: 'URL'}, expect: {decision: deny}, extra: 1}\n",
                "extra",
            ),
        ] {
            let problem = match outcome(case) {
                Ok(mut outcomes) => outcomes.remove(0).failure.unwrap(),
                Err(problem) => problem,
            };
            assert!(problem.message.contains(said) && problem.place.line >= 3, "{problem}");
        }
    }

    const TAGGED: &str = r#"
version: 1
subjects: {team: [{issuer: corp, group: g}]}
allow:
  - {name: theirs, who: [team], role: Reader, when: "resource.?tags.team.orValue('') == 'a'"}
  - {name: their runs, who: [team], role: Reader, when: "resource.?experiment.orValue('') == 'churn'"}
"#;

    #[test]
    fn a_case_tells_of_the_resource_what_the_request_does_not() {
        let of = |resource: &str, decision: &str| {
            let text = format!(
                "version: 1\ncases:\n  - {{name: a, as: {{issuer: corp, groups: [g]}}, request: {{method: GET, url: '{WORKSPACE}'}}, \
                 resource: {resource}, expect: {{decision: {decision}}}}}\n"
            );
            let outcomes = run(&set(TAGGED), &"p.test.yaml".into(), &text, &Door::of_azure)?;
            Ok::<_, Problem>(outcomes.into_iter().next().and_then(|o| o.failure).map(|p| p.to_string()))
        };
        assert_eq!(of("{tags: {team: a}}", "allow").unwrap(), None);
        assert_eq!(of("{tags: {team: b}}", "deny").unwrap(), None);
        assert_eq!(of("{experiment: churn}", "allow").unwrap(), None);
        assert_eq!(of("{experiment: fraud, tags: {}}", "deny").unwrap(), None);
        assert!(of("{workspace: w}", "deny").is_err());
    }

    #[test]
    fn a_case_may_not_contradict_its_request() {
        let case = "  - {name: a, as: {issuer: corp}, request: {method: GET, url: 'https://acc.blob.core.windows.net/box/a/b'}, \
                    resource: {container: other}, expect: {decision: deny}}\n";
        let said = failure(case).unwrap();
        assert!(said.contains("the request says another `container` itself"), "{said}");
        assert_eq!(failure(&case.replace("other", "box")), None);
    }

    #[test]
    fn a_host_that_no_route_names_makes_no_case() {
        let case = "  - {name: a, as: {issuer: corp}, request: {method: GET, url: 'https://example.com/'}, expect: {decision: deny}}\n";
        assert!(failure(case).unwrap().contains("no route has the host `example.com`"));
    }

    #[test]
    fn what_cannot_be_named_is_denied_and_named_by_its_code() {
        let case = "  - {name: a, as: {issuer: corp, groups: [g]}, request: {method: GET, url: 'https://management.azure.com/what'}, \
                    expect: {decision: deny, code: UnknownOperation}}\n";
        assert_eq!(failure(case), None);
    }
}
