//! Which texts are conditions: a check of the whole tree at load.
//!
//! The evaluator knows neither types nor costs, so both are settled here. What is admitted reads
//! known members of known roots, loops at most twice inside each other over what a caller sends,
//! has at most [`MAX_NODES`] nodes, writes its patterns out, and is true or false as far as its
//! text tells. On the way the tree is rewritten where CEL's own operations would let a request slip
//! through (see [`functions`]).

use std::{collections::BTreeSet, sync::Arc};

use cel::{
    Context, Value,
    common::ast::{
        CallExpr, ComprehensionExpr, Expr, IdedExpr, LiteralValue, SelectExpr, SourceInfo, operators,
    },
};

use super::{
    ConditionError,
    functions::{self, ENVIRONMENT, Pattern},
    members::{Case, Path, Root, Step, item, iterable},
    types::{Element, FUNCTIONS, LIST, Signature, Type, arithmetic, ordered},
};
use crate::policy::document::{listed, near};

/// The most nodes that a condition may have, macros expanded.
pub(super) const MAX_NODES: usize = 200;
/// The most loops inside each other over what a caller sends.
const MAX_LOOPS: u32 = 2;
/// The largest compiled pattern, in bytes.
const MAX_PATTERN: usize = 64 << 10;
/// The namespace of the functions that make optional values.
const OPTIONAL: &str = "optional";

/// A condition's tree, checked and rewritten.
#[derive(Debug, Clone)]
pub(super) struct Admitted {
    pub expression: IdedExpr,
    /// Every path that it reads.
    pub reads: BTreeSet<Path>,
    /// Its patterns, by their names in the tree.
    pub patterns: Vec<(String, Pattern)>,
    /// Whether some step takes longer the more of two things a caller sends.
    pub nested: bool,
}

/// What is known of an expression.
#[derive(Debug, Clone)]
struct Known {
    kind: Type,
    case: Case,
    /// Where the request has it, if it is nothing but a path.
    path: Option<Path>,
    /// Whether it is written out in the text.
    literal: bool,
}

impl Known {
    const fn of(kind: Type) -> Self {
        Self { kind, case: Case::Exact, path: None, literal: false }
    }

    fn at(path: Path) -> Self {
        let (kind, case) = path.kind();
        Self { kind, case, path: Some(path), literal: false }
    }

    fn with_case(self, case: Case) -> Self {
        Self { case, ..self }
    }
}

fn looser(one: Case, other: Case) -> Case {
    if one == Case::Ignored { one } else { other }
}

/// A key or index of a step.
enum Key {
    Written(Step),
    Computed,
}

pub(super) fn admit(mut expression: IdedExpr, source: &SourceInfo) -> Result<Admitted, ConditionError> {
    let mut check = Check {
        source,
        scope: Vec::new(),
        reads: BTreeSet::new(),
        patterns: Vec::new(),
        loops: 0,
        nested: false,
    };
    let nodes = count(&expression);
    if nodes > MAX_NODES {
        let message = format!("a condition has at most {MAX_NODES} parts, and this one has {nodes}");
        return Err(check.refuse(&expression, message, "split it into several entries"));
    }
    let result = check.value(&mut expression)?;
    if !result.kind.fits(Type::Bool) {
        let message = format!("a condition is true or false, and this is {}", result.kind.name());
        return Err(check.refuse(&expression, message, "compare it with something"));
    }
    let Check { reads, patterns, nested, .. } = check;
    Ok(Admitted { expression, reads, patterns, nested })
}

fn count(expression: &IdedExpr) -> usize {
    1 + children(&expression.expr).into_iter().map(count).sum::<usize>()
}

/// The parts of an expression.
pub(super) fn children(expression: &Expr) -> Vec<&IdedExpr> {
    match expression {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) | Expr::Map(_) | Expr::Struct(_) => Vec::new(),
        Expr::Call(call) => call.target.iter().map(AsRef::as_ref).chain(&call.args).collect(),
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Select(select) => vec![&select.operand],
        Expr::Comprehension(c) => vec![&c.iter_range, &c.accu_init, &c.loop_cond, &c.loop_step, &c.result],
    }
}

struct Check<'s> {
    source: &'s SourceInfo,
    /// Loop variables, the innermost last.
    scope: Vec<(String, Known)>,
    reads: BTreeSet<Path>,
    patterns: Vec<(String, Pattern)>,
    /// Loops over a caller's data around what is looked at.
    loops: u32,
    nested: bool,
}

type Checked = Result<Known, ConditionError>;

impl Check<'_> {
    fn refuse(&self, at: &IdedExpr, message: impl Into<String>, hint: impl Into<String>) -> ConditionError {
        ConditionError { offset: self.offset(at), message: message.into(), hint: Some(hint.into()) }
    }

    /// Where a path begins; where anything else has its operator or name.
    fn offset(&self, expression: &IdedExpr) -> usize {
        match &expression.expr {
            Expr::Select(select) => self.offset(&select.operand),
            Expr::Call(CallExpr { target: Some(target), .. }) => self.offset(target),
            Expr::Call(CallExpr { func_name, args, .. })
                if matches!(
                    func_name.as_str(),
                    operators::INDEX | operators::OPT_INDEX | operators::OPT_SELECT
                ) =>
            {
                args.first().map_or(0, |operand| self.offset(operand))
            }
            Expr::Comprehension(c) => self.offset(&c.iter_range),
            Expr::Call(_)
            | Expr::Unspecified
            | Expr::Ident(_)
            | Expr::List(_)
            | Expr::Literal(_)
            | Expr::Map(_)
            | Expr::Struct(_) => self
                .source
                .offset_for(expression.id)
                .and_then(|(start, _)| usize::try_from(start).ok())
                .unwrap_or_default(),
        }
    }

    /// Checks an expression whose value is used: if it is a path, that path is read.
    fn value(&mut self, expression: &mut IdedExpr) -> Checked {
        let known = self.visit(expression)?;
        if let Some(path) = &known.path {
            // Inside a loop, whatever may be a list costs as much again for every item.
            self.nested |= self.loops > 0
                && matches!(known.kind, Type::List(_) | Type::Object | Type::Optional | Type::Any);
            self.reads.insert(path.clone());
        }
        Ok(known)
    }

    /// Checks an expression that must be of a type.
    fn wanted(&mut self, expression: &mut IdedExpr, wanted: Type, what: &str) -> Checked {
        let known = self.value(expression)?;
        if known.kind.fits(wanted) {
            return Ok(known);
        }
        let message = format!("{what} takes {}, and this is {}", wanted.name(), known.kind.name());
        Err(self.refuse(expression, message, "compare it with something, or convert it"))
    }

    fn visit(&mut self, expression: &mut IdedExpr) -> Checked {
        match &mut expression.expr {
            Expr::Literal(literal) => Ok(Known { literal: true, ..Known::of(kind_of(literal)) }),
            Expr::Ident(name) => {
                let name = name.clone();
                self.name(expression, &name)
            }
            Expr::Select(_) => self.select(expression),
            Expr::Call(_) => self.call(expression),
            Expr::List(_) => self.list(expression),
            Expr::Comprehension(_) => self.comprehension(expression),
            Expr::Map(_) | Expr::Struct(_) => {
                Err(self.refuse(expression, "a condition makes no objects", "compare members one by one"))
            }
            Expr::Unspecified => Err(self.refuse(expression, "this is no expression", "leave it out")),
        }
    }

    fn local(&self, name: &str) -> Option<&Known> {
        self.scope.iter().rev().find(|(known, _)| known == name).map(|(_, known)| known)
    }

    fn name(&self, at: &IdedExpr, name: &str) -> Checked {
        if let Some(known) = self.local(name) {
            return Ok(known.clone());
        }
        let Some(root) = Root::named(name) else {
            let names: Vec<&str> = Root::ALL.iter().map(|root| root.name()).collect();
            let hint = near(name, names.iter().copied())
                .unwrap_or_else(|| format!("conditions read {}", listed(names.into_iter())));
            return Err(self.refuse(at, format!("`{name}` is nothing that a condition can read"), hint));
        };
        if root.value().is_none() {
            let members = listed(root.members().iter().map(|member| member.name));
            let message = format!("`{name}` is read member by member");
            return Err(self.refuse(at, message, format!("its members are {members}")));
        }
        Ok(Known::at(Path::of(root)))
    }

    /// What a step starts from: a root by itself is no value, but has members.
    fn operand(&mut self, operand: &mut IdedExpr) -> Checked {
        match &operand.expr {
            Expr::Ident(name) if self.local(name).is_none() => match Root::named(name) {
                Some(root) if root.value().is_none() => Ok(Known::at(Path::of(root))),
                Some(_) | None => self.visit(operand),
            },
            Expr::Ident(_)
            | Expr::Unspecified
            | Expr::Call(_)
            | Expr::Comprehension(_)
            | Expr::List(_)
            | Expr::Literal(_)
            | Expr::Map(_)
            | Expr::Select(_)
            | Expr::Struct(_) => self.visit(operand),
        }
    }

    /// One step further: `of.key` or `of[key]`, whose operand was looked at.
    fn step(&mut self, at: &IdedExpr, of: Known, key: Key) -> Checked {
        let bare = of.path.as_ref().filter(|path| path.steps.is_empty() && path.root.value().is_none());
        let Key::Written(step) = key else {
            if let Some(path) = bare {
                let message = format!("`{}` is read by members that are written out", path.root.name());
                let hint = format!("write `{}.MEMBER`", path.root.name());
                return Err(self.refuse(at, message, hint));
            }
            if let Some(path) = &of.path {
                self.nested |= self.loops > 0;
                self.reads.insert(path.clone());
            }
            return Ok(Known::of(item(of.kind)).with_case(of.case));
        };
        if let (Some(path), Step::Key(name)) = (bare, &step)
            && path.root.member(name).is_none()
        {
            let root = path.root;
            let names = || root.members().iter().map(|member| member.name);
            let hint = near(name, names()).unwrap_or_else(|| format!("its members are {}", listed(names())));
            return Err(self.refuse(at, format!("`{}` has no member `{name}`", root.name()), hint));
        }
        if matches!(of.kind, Type::Optional) || of.kind.fits(Type::Object) || of.kind.fits(LIST) {
            return Ok(match &of.path {
                Some(path) => Known::at(path.then(step)),
                None => Known::of(item(of.kind)).with_case(of.case),
            });
        }
        let message = format!("{} has no members", of.kind.name());
        Err(self.refuse(at, message, "only objects and lists have"))
    }

    fn select(&mut self, expression: &mut IdedExpr) -> Checked {
        let Expr::Select(SelectExpr { operand, field, test }) = &mut expression.expr else {
            return self.visit(expression);
        };
        let (test, field) = (*test, field.clone());
        let of = self.operand(operand)?;
        let optional = of.kind == Type::Optional;
        if optional && test {
            return Err(self.refuse(
                expression,
                "`has` asks members, not optional values",
                "write `.hasValue()`",
            ));
        }
        if matches!(of.kind, Type::List(_)) {
            return Err(self.refuse(
                expression,
                "a list has no members",
                "write `[0]`, or `.exists(x, ...)`",
            ));
        }
        let known = self.step(expression, of, Key::Written(Step::Key(field.as_str().into())))?;
        if test {
            self.reads.extend(known.path);
            return Ok(Known::of(Type::Bool));
        }
        if optional {
            self.step_into_optional(expression);
            return Ok(Known { kind: Type::Optional, ..known });
        }
        Ok(known)
    }

    /// Rewrites a plain member of an optional value, whose own form covers up errors.
    #[expect(clippy::unused_self, reason = "reads like its neighbours")]
    fn step_into_optional(&self, expression: &mut IdedExpr) {
        let id = expression.id;
        if let Expr::Select(select) = &mut expression.expr {
            let operand = std::mem::take(&mut *select.operand);
            let field = literal(id, &select.field);
            expression.expr = call(functions::OPTIONAL_MEMBER, vec![operand, field]);
        }
    }

    fn index(&mut self, expression: &mut IdedExpr) -> Checked {
        let Expr::Call(CallExpr { func_name, args, .. }) = &mut expression.expr else {
            return self.visit(expression);
        };
        let asks = func_name != operators::INDEX;
        let [operand, key] = args.as_mut_slice() else {
            return Err(self.refuse(expression, "a step takes one key", "write `a[b]`"));
        };
        let of = self.operand(operand)?;
        let written = written(key);
        if written.is_none() {
            let known = self.value(key)?;
            let fits = match of.kind {
                Type::List(_) => known.kind == Type::Any || known.kind.is_number(),
                Type::Object => known.kind.fits(Type::Text),
                Type::Bool
                | Type::Int
                | Type::Uint
                | Type::Double
                | Type::Text
                | Type::Bytes
                | Type::Null
                | Type::Timestamp
                | Type::Duration
                | Type::Optional
                | Type::Any => matches!(known.kind, Type::Any | Type::Text) || known.kind.is_number(),
            };
            if !fits {
                let message = format!("{} is no key of {}", known.kind.name(), of.kind.name());
                return Err(self.refuse(expression, message, "lists take numbers, objects take texts"));
            }
        }
        let optional = asks || of.kind == Type::Optional;
        let known = self.step(expression, of, written.map_or(Key::Computed, Key::Written))?;
        if !optional {
            return Ok(known);
        }
        if let Expr::Call(call) = &mut expression.expr {
            functions::OPTIONAL_MEMBER.clone_into(&mut call.func_name);
        }
        Ok(Known { kind: Type::Optional, ..known })
    }

    fn list(&mut self, expression: &mut IdedExpr) -> Checked {
        let Expr::List(list) = &mut expression.expr else { return self.visit(expression) };
        if !list.optional_indices.is_empty() {
            let hint = "leave out the `?`, or give a default with `.orValue(...)`";
            return Err(self.refuse(expression, "a condition's lists hold no optional items", hint));
        }
        let mut known = Known { literal: true, ..Known::of(LIST) };
        let mut texts = true;
        for element in &mut list.elements {
            let of = self.value(element)?;
            if of.kind == Type::Optional {
                let hint = "give a default with `.orValue(...)`";
                return Err(self.refuse(element, "a list holds no optional values", hint));
            }
            texts &= of.kind == Type::Text;
            known.case = looser(known.case, of.case);
            known.literal &= of.literal;
        }
        if texts {
            known.kind = Type::List(Element::Text);
        }
        Ok(known)
    }

    fn comprehension(&mut self, expression: &mut IdedExpr) -> Checked {
        let at = self.offset(expression);
        let Expr::Comprehension(comprehension) = &mut expression.expr else { return self.visit(expression) };
        let ComprehensionExpr {
            iter_range, iter_var, accu_var, accu_init, loop_cond, loop_step, result, ..
        } = comprehension.as_mut();
        let range = self.value(iter_range)?;
        if !iterable(range.kind) {
            let message = format!("{} cannot be gone through", range.kind.name());
            return Err(self.refuse(iter_range, message, "only lists and objects can"));
        }
        if Root::named(iter_var).is_some() || iter_var == OPTIONAL || iter_var.contains('.') {
            let message = format!("`{iter_var}` means something else already");
            return Err(ConditionError { offset: at, message, hint: Some("choose another name".to_owned()) });
        }
        let over_data = u32::from(!range.literal);
        self.nested |= self.loops > 0 && over_data > 0;
        self.loops += over_data;
        if self.loops > MAX_LOOPS {
            let message = format!("more than {MAX_LOOPS} loops inside each other");
            return Err(ConditionError {
                offset: at,
                message,
                hint: Some("the time that a condition takes must be bounded".to_owned()),
            });
        }
        let before = self.scope.len();
        let mut accumulated = self.value(accu_init)?;
        accumulated = Known { literal: false, path: None, ..accumulated };
        if matches!(accumulated.kind, Type::List(_)) {
            accumulated = Known { kind: LIST, case: range.case, ..accumulated };
        }
        self.scope.push((accu_var.clone(), accumulated));
        self.scope.push((iter_var.clone(), Known::of(item(range.kind)).with_case(range.case)));
        let checked = self
            .value(loop_cond)
            .and_then(|_| self.value(loop_step))
            .and_then(|_| self.value(result))
            .map(|known| Known { path: None, ..known });
        self.scope.truncate(before);
        self.loops -= over_data;
        checked
    }

    fn call(&mut self, expression: &mut IdedExpr) -> Checked {
        let Expr::Call(CallExpr { func_name, target, args }) = &mut expression.expr else {
            return self.visit(expression);
        };
        let name = func_name.clone();
        if target.is_some() {
            return self.function(expression, &name);
        }
        match (name.as_str(), args.as_mut_slice()) {
            (operators::LOGICAL_AND | operators::LOGICAL_OR, [a, b]) => {
                let symbol = if name == operators::LOGICAL_AND { "`&&`" } else { "`||`" };
                self.wanted(a, Type::Bool, symbol)?;
                self.wanted(b, Type::Bool, symbol)?;
                Ok(Known::of(Type::Bool))
            }
            (operators::LOGICAL_NOT | operators::NOT_STRICTLY_FALSE, [a]) => {
                self.wanted(a, Type::Bool, "`!`")?;
                Ok(Known::of(Type::Bool))
            }
            (operators::CONDITIONAL, [condition, a, b]) => {
                self.wanted(condition, Type::Bool, "`? :`")?;
                let (one, other) = (self.value(a)?, self.value(b)?);
                if (one.kind == Type::Optional) != (other.kind == Type::Optional) {
                    let hint = "give a default with `.orValue(...)`";
                    return Err(self.refuse(expression, "only one branch is an optional value", hint));
                }
                let case = looser(one.case, other.case);
                Ok(Known::of(one.kind.join(other.kind)).with_case(case))
            }
            (operators::EQUALS | operators::NOT_EQUALS, [_, _]) => self.equality(expression, &name),
            (operators::IN, [_, _]) => self.membership(expression),
            (
                operators::LESS | operators::LESS_EQUALS | operators::GREATER | operators::GREATER_EQUALS,
                [a, b],
            ) => {
                let (one, other) = (self.value(a)?, self.value(b)?);
                if !ordered(one.kind, other.kind) {
                    return Err(self.refuse(
                        expression,
                        format!("{} and {} have no order", one.kind.name(), other.kind.name()),
                        "compare numbers with numbers, texts with texts",
                    ));
                }
                Ok(Known::of(Type::Bool))
            }
            (
                operators::ADD
                | operators::SUBSTRACT
                | operators::MULTIPLY
                | operators::DIVIDE
                | operators::MODULO,
                [a, b],
            ) => {
                let (one, other) = (self.value(a)?, self.value(b)?);
                let symbol = name.trim_matches('_');
                let Some(kind) = arithmetic(symbol, one.kind, other.kind) else {
                    return Err(self.refuse(
                        expression,
                        format!("`{symbol}` does not take {} and {}", one.kind.name(), other.kind.name()),
                        "convert one with `int(...)`, `double(...)` or `string(...)`",
                    ));
                };
                Ok(Known::of(kind).with_case(looser(one.case, other.case)))
            }
            (operators::NEGATE, [a]) => {
                let known = self.value(a)?;
                if matches!(known.kind, Type::Int | Type::Double | Type::Any) {
                    return Ok(Known { literal: known.literal, ..Known::of(known.kind) });
                }
                let message = format!("`-` does not take {}", known.kind.name());
                Err(self.refuse(expression, message, "only numbers have a sign"))
            }
            (operators::INDEX | operators::OPT_INDEX | operators::OPT_SELECT, [_, _]) => {
                self.index(expression)
            }
            _ => self.function(expression, &name),
        }
    }

    fn equality(&mut self, expression: &mut IdedExpr, name: &str) -> Checked {
        let Expr::Call(CallExpr { args, func_name, .. }) = &mut expression.expr else {
            return self.visit(expression);
        };
        let [a, b] = args.as_mut_slice() else { return Ok(Known::of(Type::Bool)) };
        let (one, other) = (self.value(a)?, self.value(b)?);
        let scalar = |kind: Type| !matches!(kind, Type::Any | Type::List(_) | Type::Object | Type::Null);
        let equals = name == operators::EQUALS;
        let ours = match (looser(one.case, other.case), equals) {
            (Case::Ignored, true) => functions::EQUAL_FOLDED,
            (Case::Ignored, false) => functions::DIFFERENT_FOLDED,
            (Case::Exact, true) => functions::EQUAL,
            (Case::Exact, false) => functions::DIFFERENT,
        };
        let plain = looser(one.case, other.case) == Case::Exact && scalar(one.kind) && scalar(other.kind);
        if !plain {
            ours.clone_into(func_name);
        }
        let (x, y) = (one.kind, other.kind);
        if !x.comparable(y) {
            let message = format!("{} is never equal to {}", x.name(), y.name());
            return Err(self.refuse(
                expression,
                message,
                "convert one, as in `string(...)` or `.orValue(...)`",
            ));
        }
        if x == Type::Optional || y == Type::Optional {
            let hint = "write `.hasValue()`, or give a default with `.orValue(...)`";
            return Err(self.refuse(expression, "optional values cannot be compared", hint));
        }
        if matches!((x, y), (Type::Object, Type::Object)) {
            return Err(self.refuse(expression, "objects cannot be compared", "compare their members"));
        }
        Ok(Known::of(Type::Bool))
    }

    fn membership(&mut self, expression: &mut IdedExpr) -> Checked {
        let Expr::Call(CallExpr { args, func_name, .. }) = &mut expression.expr else {
            return self.visit(expression);
        };
        let [item, all] = args.as_mut_slice() else { return Ok(Known::of(Type::Bool)) };
        let (one, other) = (self.value(item)?, self.value(all)?);
        let ours = match looser(one.case, other.case) {
            Case::Ignored => functions::IN_FOLDED,
            Case::Exact => functions::IN,
        };
        ours.clone_into(func_name);
        if !iterable(other.kind) {
            let message = format!("`in` looks into lists and objects, not into {}", other.kind.name());
            return Err(self.refuse(expression, message, "write `.contains(...)` for a part of a text"));
        }
        let wanted = if matches!(other.kind, Type::List(Element::Text) | Type::Object) {
            Type::Text
        } else {
            Type::Any
        };
        if !one.kind.fits(wanted) {
            let message = format!("{} is never among texts", one.kind.name());
            return Err(self.refuse(expression, message, "convert it with `string(...)`"));
        }
        Ok(Known::of(Type::Bool))
    }

    fn function(&mut self, expression: &mut IdedExpr, name: &str) -> Checked {
        let Expr::Call(CallExpr { target, args, .. }) = &mut expression.expr else {
            return self.visit(expression);
        };
        // `optional.of(x)` is a function's name, not a call on something.
        let spaced = target.as_deref().is_some_and(
            |target| matches!(&target.expr, Expr::Ident(name) if name == OPTIONAL && self.local(name).is_none()),
        );
        let name = if spaced { format!("{OPTIONAL}.{name}") } else { name.to_owned() };
        let of = match target {
            Some(target) if !spaced => Some(self.value(target)?),
            Some(_) | None => None,
        };
        let mut given = Vec::with_capacity(args.len());
        for argument in args.iter_mut() {
            let known = self.value(argument)?;
            if known.kind == Type::Optional && name != "or" {
                let hint = "give a default with `.orValue(...)`";
                return Err(self.refuse(argument, format!("`{name}` takes no optional value"), hint));
            }
            given.push(known);
        }
        let signature = self.signature(expression, &name, of.as_ref(), &given)?;
        let case = of.iter().chain(&given).fold(Case::Exact, |case, known| looser(case, known.case));
        match name.as_str() {
            "matches" => self.pattern(expression, case)?,
            "contains" | "startsWith" | "endsWith" if case == Case::Ignored => {
                if let Some(ours) = functions::folded(&name) {
                    flatten(expression, ours);
                }
            }
            "timestamp" | "duration" if given.iter().all(|known| known.literal) => {
                self.constant(expression)?
            }
            _ => {}
        }
        if signature.arguments.len() == 1 && name.starts_with("get") {
            self.zone(expression, &given)?;
        }
        let known = match (name.as_str(), &of) {
            ("value", Some(of)) => Known::of(of.path.as_ref().map_or(Type::Any, |path| path.kind().0)),
            ("orValue", Some(of)) => {
                let inner = of.path.as_ref().map_or(Type::Any, |path| path.kind().0);
                Known::of(given.first().map_or(inner, |default| inner.join(default.kind)))
            }
            _ => Known::of(signature.result),
        };
        Ok(known.with_case(case))
    }

    fn signature(
        &self,
        at: &IdedExpr,
        name: &str,
        of: Option<&Known>,
        given: &[Known],
    ) -> Result<&'static Signature, ConditionError> {
        let named = || FUNCTIONS.iter().filter(move |f| f.name == name);
        let fits = |wanted: &[Type], known: &Known| wanted.iter().any(|kind| known.kind.fits(*kind));
        let found = named().find(|f| {
            f.target.is_some() == of.is_some()
                && f.target.zip(of).is_none_or(|(wanted, of)| fits(wanted, of))
                && f.arguments.len() == given.len()
                && f.arguments.iter().zip(given).all(|(wanted, known)| fits(wanted, known))
        });
        if let Some(found) = found {
            return Ok(found);
        }
        let Some(known) = named().next() else {
            let names = || FUNCTIONS.iter().map(|f| f.name).chain(MACROS.iter().copied());
            let hint = if MACROS.contains(&name) {
                "write `list.exists(x, x == 1)`, `has(a.b)`".to_owned()
            } else {
                near(name, names()).unwrap_or_else(|| "conditions have CEL's standard functions".to_owned())
            };
            return Err(self.refuse(at, format!("there is no function `{name}` here"), hint));
        };
        let types = |known: &mut dyn Iterator<Item = &Known>| {
            known.map(|known| known.kind.name()).collect::<Vec<_>>().join(", ")
        };
        let on = of.map_or_else(String::new, |of| format!(" on {}", of.kind.name()));
        let message = format!("`{name}` cannot be called{on} with ({})", types(&mut given.iter()));
        let wanted: Vec<_> = known
            .arguments
            .iter()
            .map(|kinds| kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(" or "))
            .collect();
        let hint = match known.target {
            Some(target) => {
                let target: Vec<_> = target.iter().map(|kind| kind.name()).collect();
                format!("call it on {} with ({})", target.join(" or "), wanted.join(", "))
            }
            None => format!("call it with ({})", wanted.join(", ")),
        };
        Err(self.refuse(at, message, hint))
    }

    /// Compiles a pattern that is written out, and puts its name where it stood.
    fn pattern(&mut self, expression: &mut IdedExpr, case: Case) -> Result<(), ConditionError> {
        flatten(expression, functions::MATCHES);
        let Expr::Call(CallExpr { args, .. }) = &mut expression.expr else { return Ok(()) };
        let Some(argument) = args.get_mut(1) else { return Ok(()) };
        let Expr::Literal(LiteralValue::String(text)) = &argument.expr else {
            let hint = "a pattern that a request could choose could take any time";
            return Err(self.refuse(argument, "`matches` takes a pattern that is written out", hint));
        };
        let compiled = regex::RegexBuilder::new(text.inner())
            .case_insensitive(case == Case::Ignored)
            .size_limit(MAX_PATTERN)
            .dfa_size_limit(MAX_PATTERN)
            .build();
        let pattern = match compiled {
            Ok(pattern) => Pattern(Arc::new(pattern)),
            Err(error) => {
                let why = if matches!(error, regex::Error::CompiledTooBig(_)) {
                    "it is too large".to_owned()
                } else {
                    error.to_string().lines().last().unwrap_or_default().replace("error: ", "")
                };
                let message = format!("`{}` is no pattern: {why}", text.inner());
                return Err(self.refuse(
                    argument,
                    message,
                    "patterns are those of RE2: no look-around, no back-references",
                ));
            }
        };
        let name = format!("@p{}", self.patterns.len());
        argument.expr = Expr::Ident(name.clone());
        self.patterns.push((name, pattern));
        Ok(())
    }

    /// Evaluates what needs no request, so that a mistake in it is found now.
    fn constant(&self, expression: &IdedExpr) -> Result<(), ConditionError> {
        let context = Context::with_env(Arc::clone(&ENVIRONMENT));
        match Value::resolve_val(expression, &context) {
            Ok(_) => Ok(()),
            Err(_) => Err(self.refuse(
                expression,
                "this has no value",
                "write `timestamp('2026-11-23T12:00:00Z')`, `duration('1h30m')`",
            )),
        }
    }

    fn zone(&self, expression: &IdedExpr, given: &[Known]) -> Result<(), ConditionError> {
        let Expr::Call(CallExpr { func_name, args, .. }) = &expression.expr else { return Ok(()) };
        let (Some(zone), [known]) = (args.first(), given) else { return Ok(()) };
        if !known.literal {
            return Ok(());
        }
        let epoch = IdedExpr { id: zone.id, expr: call("timestamp", vec![number(zone.id, 0)]) };
        let asked = IdedExpr {
            id: zone.id,
            expr: Expr::Call(CallExpr {
                func_name: func_name.clone(),
                target: Some(Box::new(epoch)),
                args: args.clone(),
            }),
        };
        let context = Context::with_env(Arc::clone(&ENVIRONMENT));
        match Value::resolve_val(&asked, &context) {
            Ok(_) => Ok(()),
            Err(_) => Err(self.refuse(zone, "this is no time zone", "write an IANA name, `'Europe/Zurich'`")),
        }
    }
}

/// What looks like a function and is expanded before anything is checked.
const MACROS: &[&str] = &["has", "all", "exists", "exists_one", "map", "filter"];

fn kind_of(literal: &LiteralValue) -> Type {
    match literal {
        LiteralValue::Boolean(_) => Type::Bool,
        LiteralValue::Bytes(_) => Type::Bytes,
        LiteralValue::Double(_) => Type::Double,
        LiteralValue::Int(_) => Type::Int,
        LiteralValue::Null => Type::Null,
        LiteralValue::String(_) => Type::Text,
        LiteralValue::UInt(_) => Type::Uint,
    }
}

/// A key that is written out.
pub(super) fn written(key: &IdedExpr) -> Option<Step> {
    let Expr::Literal(literal) = &key.expr else { return None };
    match literal {
        LiteralValue::String(text) => Some(Step::Key(text.inner().into())),
        LiteralValue::Int(number) => Some(Step::Index(*number.inner())),
        LiteralValue::Boolean(_)
        | LiteralValue::Bytes(_)
        | LiteralValue::Double(_)
        | LiteralValue::Null
        | LiteralValue::UInt(_) => None,
    }
}

fn literal(id: u64, text: &str) -> IdedExpr {
    IdedExpr { id, expr: Expr::Literal(LiteralValue::String(text.to_owned().into())) }
}

fn number(id: u64, number: i64) -> IdedExpr {
    IdedExpr { id, expr: Expr::Literal(LiteralValue::Int(number.into())) }
}

fn call(name: &str, args: Vec<IdedExpr>) -> Expr {
    Expr::Call(CallExpr { func_name: name.to_owned(), target: None, args })
}

/// Makes a call on something a call of another function with it.
fn flatten(expression: &mut IdedExpr, name: &str) {
    if let Expr::Call(CallExpr { func_name, target, args }) = &mut expression.expr {
        name.clone_into(func_name);
        if let Some(target) = target.take() {
            args.insert(0, *target);
        }
    }
}

/// `of[index]`.
pub(super) fn at_index(of: IdedExpr, index: i64) -> Expr {
    call(operators::INDEX, vec![of, number(0, index)])
}
