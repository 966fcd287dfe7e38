//! From files to a set: every name looked up, every problem told at once.

mod code_hosts;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use self::code_hosts::{gerrit_groups, strangers};
use super::{
    EntryRef, FileSet, PolicySet, Surroundings,
    approval::{Approval, Approvers, Demand},
    calendar::Calendar,
    condition::Condition,
    document::{Located, Text, listed, near},
    entry::{Entry, Limit, Network, SecretsRule, Unless},
    index::Index,
    raw::{self, RawApproval, RawApprovers, RawEntry, RawFile, RawSecrets},
    review::CommitFrom,
    roles::{ActionPattern, Roles},
    who::{ANY_ISSUER, Description, Member, SubjectIx, Subjects, doubts},
};
use crate::{
    azureml::ResourceId,
    identity::TRIGGER,
    yaml::{Place, Problem, Severity},
};

/// The subject that every caller with a valid token belongs to.
const AUTHENTICATED: &str = "authenticated";

/// Names of one kind, each with what it stands for and where it was defined.
struct Names<T> {
    kind: &'static str,
    known: HashMap<String, T>,
    places: HashMap<String, (Arc<str>, Place)>,
}

impl<T> Names<T> {
    fn new(kind: &'static str) -> Self {
        Self { kind, known: HashMap::new(), places: HashMap::new() }
    }

    /// Adds a name that must be new.
    fn define(&mut self, file: &Arc<str>, name: &Text, value: T, problems: &mut Vec<Problem>) {
        if let Some((other, place)) = self.places.get(&name.value) {
            let message = format!("{} `{}` is defined twice", self.kind, name.value);
            let hint = format!("the other stands at {other}:{}:{}", place.line, place.column);
            problems.push(Problem::error(file, name.place, message).hint(hint));
            return;
        }
        self.places.insert(name.value.clone(), (Arc::clone(file), name.place));
        self.known.insert(name.value.clone(), value);
    }
}

/// What entries may refer to.
struct Compiler<'a> {
    around: &'a Surroundings,
    roles: Roles,
    subjects: Subjects,
    scopes: Names<Vec<ResourceId>>,
    networks: Names<Arc<Network>>,
    calendars: Names<Arc<Calendar>>,
    problems: Vec<Problem>,
}

/// Compiles a set.
pub(super) fn compile(
    files: &FileSet,
    around: &Surroundings,
) -> Result<(PolicySet, Vec<Problem>), Vec<Problem>> {
    let mut problems = Vec::new();
    for name in &files.ignored {
        let warning = Problem::warning(name, Place::default(), "is not read");
        problems.push(warning.hint("policy files end in `.yaml`, in small letters"));
    }
    let mut roles = Roles::built_in();
    for (name, text) in &files.roles {
        problems.extend(roles.add_file(name, text));
    }
    let mut raws: Vec<(Arc<str>, RawFile)> = files
        .policies
        .iter()
        .map(|(name, text)| (Arc::clone(name), raw::read(name, text, &mut problems)))
        .collect();
    let subjects = subjects(&mut raws, around, &mut problems);
    let mut compiler = Compiler {
        around,
        roles,
        subjects,
        scopes: Names::new("scope"),
        networks: Names::new("network"),
        calendars: Names::new("calendar"),
        problems,
    };
    for (file, raw) in &mut raws {
        compiler.define(file, raw);
    }
    let mut names = Names::new("entry");
    let mut entries = Vec::new();
    let (mut trigger_names, mut triggers) = (Names::new("trigger"), Vec::new());
    for (file, raw) in raws {
        for trigger in raw.triggers {
            trigger_names.define(&file, &trigger.name, (), &mut compiler.problems);
            triggers.extend(compiler.trigger(&file, trigger).map(Arc::new));
        }
        for entry in raw.entries {
            names.define(&file, &entry.name, (), &mut compiler.problems);
            entries.push(compiler.entry(&file, entry));
        }
    }
    let Compiler { subjects, mut problems, .. } = compiler;
    problems.sort_by(|a, b| (&a.file, a.place).cmp(&(&b.file, b.place)));
    if problems.iter().any(|p| p.severity == Severity::Error) {
        return Err(problems);
    }
    let conditions = || entries.iter().filter_map(|e| e.when.as_ref());
    let set = PolicySet {
        digest: *files.digest(),
        files: files.digests(),
        generation: 0,
        reads_body: conditions().any(Condition::reads_body)
            || entries.iter().any(|e| e.approval.as_ref().is_some_and(|demand| demand.approval.binds_body()))
            || entries.iter().any(|e| e.review.as_ref().is_some_and(|r| r.commit == CommitFrom::Job)),
        lends: entries.iter().any(|e| e.as_human),
        asks_azure: entries.iter().any(|e| e.rights.is_some()),
        depends_on_time: conditions().any(Condition::reads_now)
            || entries.iter().any(|e| e.rights.is_some())
            || entries.iter().any(|e| {
                e.during.is_some()
                    || e.dry_run_until.is_some()
                    || e.step_up.as_ref().is_some_and(|s| s.max_age.is_some())
            }),
        gerrit_groups: gerrit_groups(&subjects, &entries),
        index: Index::new(&entries),
        triggers: triggers.into(),
        entries,
        subjects,
    };
    Ok((set.with_versions(), problems))
}

fn subjects(
    raws: &mut [(Arc<str>, RawFile)],
    around: &Surroundings,
    problems: &mut Vec<Problem>,
) -> Subjects {
    let mut names = Names::new("subject");
    let mut all = Vec::new();
    let triggers: BTreeSet<_> =
        raws.iter().flat_map(|(_, raw)| &raw.triggers).map(|trigger| trigger.name.value.clone()).collect();
    for (file, raw) in raws {
        for (name, descriptions) in raw.subjects.drain(..) {
            if name.value == AUTHENTICATED {
                let message = format!("subject `{AUTHENTICATED}` is every caller with a valid token");
                problems.push(Problem::error(file, name.place, message).hint("choose another name"));
                continue;
            }
            for Located { value, place } in &descriptions {
                let value = match value {
                    Member::Caller(description) => description,
                    Member::Reviewers(group) => {
                        problems.extend(strangers(around, file, *place, group));
                        continue;
                    }
                };
                let Description { issuer, .. } = value;
                let warnings = doubts(value).into_iter().map(|(message, hint)| {
                    Problem::warning(file, *place, format!("subject `{}`: {message}", name.value)).hint(hint)
                });
                problems.extend(warnings);
                if let Some(named) = value.agent.as_deref().and_then(|agent| agent.strip_prefix(TRIGGER))
                    && !triggers.contains(named)
                {
                    let known = triggers.iter().map(String::as_str);
                    problems.push(unknown(file, *place, "trigger", named, known));
                }
                if let Some(known) = &around.issuers
                    && **issuer != *ANY_ISSUER
                    && !known.contains(&**issuer)
                {
                    problems.push(unknown(file, *place, "issuer", issuer, known.iter().map(String::as_str)));
                }
            }
            names.define(file, &name, (), problems);
            let descriptions = descriptions.into_iter().map(|d| d.value).collect();
            all.push((name.value.as_str().into(), descriptions));
        }
    }
    Subjects::new(all)
}

fn unknown<'k>(
    file: &Arc<str>,
    place: Place,
    kind: &str,
    name: &str,
    known: impl Iterator<Item = &'k str> + Clone,
) -> Problem {
    let mut all: Vec<_> = known.clone().collect();
    all.sort_unstable();
    let hint = near(name, known).unwrap_or_else(|| match all.len() {
        0 => format!("no {kind} is defined"),
        1..=12 => format!("defined are {}", listed(all.into_iter())),
        _ => format!("define it, or use one of the {} that are", all.len()),
    });
    Problem::error(file, place, format!("{kind} `{name}` is not defined")).hint(hint)
}

impl Compiler<'_> {
    fn define(&mut self, file: &Arc<str>, raw: &mut RawFile) {
        for (name, texts) in raw.scopes.drain(..) {
            let ids = texts.iter().filter_map(|text| self.resource(file, text)).collect();
            if name.value.starts_with('/') {
                let message = format!("scope `{}` looks like an id", name.value);
                self.problems
                    .push(Problem::error(file, name.place, message).hint("names do not begin with `/`"));
            }
            self.scopes.define(file, &name, ids, &mut self.problems);
        }
        for (name, nets) in raw.networks.drain(..) {
            let network = Network { name: name.value.as_str().into(), nets: nets.into() };
            self.networks.define(file, &name, Arc::new(network), &mut self.problems);
        }
        for (name, calendar) in raw.calendars.drain(..) {
            self.calendars.define(file, &name, Arc::new(calendar), &mut self.problems);
        }
    }

    fn resource(&mut self, file: &Arc<str>, text: &Text) -> Option<ResourceId> {
        let id = ResourceId::parse(&text.value);
        if id.is_none() {
            let message = format!("`{}` is no ARM id", text.value);
            let hint = "write `/subscriptions/S/resourceGroups/G/providers/Microsoft.MachineLearningServices/workspaces/W`, or a part of it from the left";
            self.problems.push(Problem::error(file, text.place, message).hint(hint));
        }
        id
    }

    fn entry(&mut self, file: &Arc<str>, raw: RawEntry) -> Entry {
        let scope = raw.scope.map(|texts| self.scope(file, &texts));
        let role = raw.role.and_then(|text| {
            let found = self.roles.find(&text.value).map(Arc::clone);
            if found.is_none() {
                self.problems.push(unknown(
                    file,
                    text.place,
                    "role",
                    &text.value,
                    self.roles.names().collect::<Vec<_>>().into_iter(),
                ));
            }
            found.map(|role| (role, text.place))
        });
        if let Some((role, place)) = &role {
            for scope in scope.iter().flat_map(|s| s.iter()).filter(|s| !role.is_assignable_at(s)) {
                let message = format!("role `{}` is not assignable at `{scope}` in Azure", role.name());
                self.problems.push(
                    Problem::warning(file, *place, message).hint("its `assignableScopes` do not hold it"),
                );
            }
        }
        let reference =
            EntryRef { name: raw.name.value.as_str().into(), file: Arc::clone(file), line: raw.place.line };
        Entry {
            approval: raw.approval.map(|approval| {
                if let Some(place) = approval.never_author.filter(|_| raw.review.is_none()) {
                    let message = "nothing shows who wrote the code: the entry demands no `review`";
                    let hint = "write `review` in the same entry, or leave `commit_author` out";
                    self.problems.push(Problem::error(file, place, message).hint(hint));
                }
                self.approval(file, &reference, approval)
            }),
            review: raw.review.map(|review| Arc::new(self.review(file, &reference, review))),
            reference,
            list: raw.list,
            who: raw.who.and_then(|texts| self.who(file, &texts)),
            role: role.map(|(role, _)| role),
            rights: raw.rights,
            as_human: raw.as_human,
            actions: raw.actions.map(|texts| texts.iter().map(|t| self.action(file, t)).collect()),
            kinds: raw.kinds.map(Into::into),
            effects: raw.effects,
            secrets: raw.secrets.map(|secrets| match secrets {
                RawSecrets::Selected(classes) => SecretsRule::Selected(classes),
                RawSecrets::Granted(named) => SecretsRule::Granted(named.into()),
            }),
            scope,
            routes: raw.routes.map(|texts| self.routes(file, &texts)),
            methods: raw.methods.map(Into::into),
            path: raw.path.map(Into::into),
            from: raw.from.map(|texts| resolve(&self.networks, file, &texts, &mut self.problems)),
            during: raw.during.map(|texts| resolve(&self.calendars, file, &texts, &mut self.problems)),
            when: raw.when.and_then(|text| self.condition(file, &text)),
            unless: raw.unless.map(|unless| Unless {
                who: unless.who.and_then(|texts| {
                    if let Some(text) = texts.iter().find(|t| t.value == AUTHENTICATED) {
                        let message = "`unless` exempts every caller";
                        self.problems.push(Problem::error(file, text.place, message).hint("name subjects"));
                    }
                    self.who(file, &texts)
                }),
                break_glass: unless.break_glass,
            }),
            dry_run_until: raw.dry_run_until,
            limit: raw.limit.map(|l| Limit { requests: l.requests, every: l.every, per: l.per }),
            step_up: raw.step_up,
            opinion: raw.opinion,
            record: raw.record,
        }
    }

    fn approval(&mut self, file: &Arc<str>, entry: &EntryRef, raw: RawApproval) -> Demand {
        let mut by = Vec::new();
        for approvers in raw.by {
            by.push(match approvers {
                RawApprovers::Human => Approvers::Human,
                RawApprovers::Subject { name, count } => {
                    if name.value == AUTHENTICATED {
                        let message = "everybody with a valid token could approve";
                        self.problems.push(Problem::error(file, name.place, message).hint("name a subject"));
                    } else {
                        // Told if it is not defined; a subject stays one name.
                        self.who(file, std::slice::from_ref(&name));
                    }
                    Approvers::Subject { name: name.value.as_str().into(), count }
                }
                RawApprovers::Reviewers { group, count } => {
                    self.problems.extend(strangers(self.around, file, group.place, &group.value));
                    Approvers::GerritGroup { group: group.value, count }
                }
            });
        }
        let skip = raw.skip.and_then(|texts| {
            if let Some(text) = texts.iter().find(|text| text.value == AUTHENTICATED) {
                let message = "`skip` exempts every caller";
                self.problems.push(Problem::error(file, text.place, message).hint("name subjects"));
            }
            self.who(file, &texts)
        });
        let approval = Approval {
            entry: entry.clone(),
            version: [0; 32],
            by: by.into(),
            covers: raw.covers,
            uses: raw.uses,
            valid_for: raw.valid_for,
            hold: raw.hold,
            never_author: raw.never_author.is_some(),
            reason: raw.reason,
            ticket: raw.ticket,
        };
        Demand { approval: Arc::new(approval), skip }
    }

    /// `None` for everybody.
    fn who(&mut self, file: &Arc<str>, texts: &[Text]) -> Option<Box<[SubjectIx]>> {
        let mut everybody = false;
        let mut numbers = BTreeSet::new();
        for text in texts {
            if text.value == AUTHENTICATED {
                everybody = true;
            } else if let Some(number) = self.subjects.number(&text.value) {
                numbers.insert(number);
            } else {
                let known = self.subjects.names().iter().map(|n| &**n).chain([AUTHENTICATED]);
                self.problems.push(unknown(file, text.place, "subject", &text.value, known));
            }
        }
        (!everybody).then(|| numbers.into_iter().collect())
    }

    fn scope(&mut self, file: &Arc<str>, texts: &[Text]) -> Box<[ResourceId]> {
        let mut ids = Vec::new();
        for text in texts {
            if text.value.starts_with('/') {
                ids.extend(self.resource(file, text));
            } else if let Some(known) = self.scopes.known.get(&text.value) {
                ids.extend(known.iter().cloned());
            } else {
                let known = self.scopes.known.keys().map(String::as_str);
                self.problems.push(unknown(file, text.place, "scope", &text.value, known));
            }
        }
        ids.into()
    }

    fn action(&mut self, file: &Arc<str>, text: &Text) -> ActionPattern {
        let plain = text.value.bytes().all(|b| b.is_ascii_graphic());
        if !plain || (!text.value.contains('/') && text.value != "*") {
            let message = format!("`{}` is no action", text.value);
            let hint = "write `Microsoft.MachineLearningServices/workspaces/jobs/read`; `*` is a wildcard";
            self.problems.push(Problem::error(file, text.place, message).hint(hint));
        }
        ActionPattern::new(&text.value)
    }

    fn routes(&mut self, file: &Arc<str>, texts: &[Text]) -> Box<[Box<str>]> {
        if let Some(known) = &self.around.routes {
            for text in texts.iter().filter(|text| !known.contains(&text.value)) {
                let known = known.iter().map(String::as_str);
                self.problems.push(unknown(file, text.place, "route", &text.value, known));
            }
        }
        texts.iter().map(|text| text.value.as_str().into()).collect()
    }

    fn condition(&mut self, file: &Arc<str>, text: &Text) -> Option<Condition> {
        match Condition::compile(&text.value) {
            Ok(condition) => {
                for warning in condition.unguarded() {
                    let problem = Problem::warning(file, within(text, warning.offset), &*warning.message);
                    self.problems.push(problem.hint(warning.hint.clone()));
                }
                Some(condition)
            }
            Err(error) => {
                let mut problem = Problem::error(file, within(text, error.offset), error.message);
                problem.hint = error.hint;
                self.problems.push(problem);
                None
            }
        }
    }
}

/// The place of a byte of a text. A text over several lines is indented or folded in its file, so
/// only its first line is located exactly.
fn within(text: &Text, offset: usize) -> Place {
    let before = text.value.get(..offset).unwrap_or(&text.value);
    if before.contains('\n') || text.value.contains('\n') {
        return text.place;
    }
    let column = u32::try_from(before.chars().count()).unwrap_or(0);
    Place { column: text.place.column.saturating_add(column), ..text.place }
}

fn resolve<T>(
    names: &Names<Arc<T>>,
    file: &Arc<str>,
    texts: &[Text],
    problems: &mut Vec<Problem>,
) -> Box<[Arc<T>]> {
    texts
        .iter()
        .filter_map(|text| {
            let found = names.known.get(&text.value).map(Arc::clone);
            if found.is_none() {
                let known = names.known.keys().map(String::as_str);
                problems.push(unknown(file, text.place, names.kind, &text.value, known));
            }
            found
        })
        .collect()
}
