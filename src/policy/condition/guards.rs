//! Which paths of a condition may lead nowhere, so that it has no value.
//!
//! A path is guarded where the condition asks `has(...)` for it (or `'key' in ...`) in what is
//! joined to it by `&&`, or on the side of `||` and `? :` where it is there. Order does not count:
//! a false side decides whatever the other is.

use std::collections::BTreeSet;

use cel::common::ast::{CallExpr, Expr, IdedExpr, SourceInfo, operators};

use super::members::Step;
use super::{
    Warning,
    members::{Path, Root},
    subset::{children, written},
};

type Guards = BTreeSet<Path>;

/// Every optional path that is read without a guard, once.
pub(super) fn unguarded(expression: &IdedExpr, source: &SourceInfo) -> Vec<Warning> {
    let mut look = Look { source, told: BTreeSet::new(), warnings: Vec::new() };
    look.at(expression, &Guards::new());
    look.warnings
}

struct Look<'s> {
    source: &'s SourceInfo,
    told: BTreeSet<Path>,
    warnings: Vec<Warning>,
}

impl Look<'_> {
    fn at(&mut self, expression: &IdedExpr, guards: &Guards) {
        match &expression.expr {
            Expr::Select(select) => {
                if let Some(path) = path_of(expression) {
                    self.path(expression, &path, guards);
                } else if select.test {
                    // What `has` asks for may be absent; what that is in may not.
                    match path_of(&select.operand) {
                        Some(path) => self.path(&select.operand, &path, guards),
                        None => self.at(&select.operand, guards),
                    }
                } else {
                    self.at(&select.operand, guards);
                }
            }
            Expr::Call(CallExpr { func_name, target, args }) => match (func_name.as_str(), args.as_slice()) {
                (operators::LOGICAL_AND | operators::LOGICAL_OR, [a, b]) => {
                    let holds = func_name == operators::LOGICAL_AND;
                    self.at(a, &joined(guards, said(b, holds)));
                    self.at(b, &joined(guards, said(a, holds)));
                }
                (operators::CONDITIONAL, [condition, a, b]) => {
                    self.at(condition, guards);
                    self.at(a, &joined(guards, said(condition, true)));
                    self.at(b, &joined(guards, said(condition, false)));
                }
                // A step that may lead nowhere: only what it starts from must be there.
                (operators::OPT_SELECT | operators::OPT_INDEX, [operand, key]) => {
                    self.at(operand, guards);
                    self.at(key, guards);
                }
                (operators::INDEX, [_, _]) if path_of(expression).is_some() => {
                    if let Some(path) = path_of(expression) {
                        self.path(expression, &path, guards);
                    }
                }
                _ => {
                    // `.?a.b` and calls on optional values are guarded by what begins them.
                    for part in target.iter().map(AsRef::as_ref).chain(args) {
                        self.at(part, guards);
                    }
                }
            },
            Expr::Unspecified
            | Expr::Comprehension(_)
            | Expr::Ident(_)
            | Expr::List(_)
            | Expr::Literal(_)
            | Expr::Map(_)
            | Expr::Struct(_) => {
                for part in children(&expression.expr) {
                    self.at(part, guards);
                }
            }
        }
    }

    /// The first step of a path that may lead nowhere and that nothing guards.
    fn path(&mut self, at: &IdedExpr, path: &Path, guards: &Guards) {
        let mut so_far = Path::of(path.root);
        for step in &path.steps {
            so_far = so_far.then(step.clone());
            if !so_far.is_optional() || guards.contains(&so_far) {
                continue;
            }
            if self.told.insert(so_far.clone()) {
                let offset = self.source.offset_for(leftmost(at).id).map_or(0, |(start, _)| start);
                let hint = match so_far.steps.last() {
                    Some(Step::Key(_)) if !so_far.to_string().ends_with(']') => {
                        format!("write `has({so_far}) && ...`, or `.?` and `.orValue(...)`")
                    }
                    _ => "write `[?...]` and `.orValue(...)`".to_owned(),
                };
                self.warnings.push(Warning {
                    offset: usize::try_from(offset).unwrap_or_default(),
                    message: format!(
                        "`{so_far}` may be absent, and then the condition has no value: that counts as \
                         matching in `deny` and `require`, as not matching in `allow`"
                    ),
                    hint,
                });
            }
            return;
        }
    }
}

fn leftmost(expression: &IdedExpr) -> &IdedExpr {
    match &expression.expr {
        Expr::Select(select) => leftmost(&select.operand),
        Expr::Call(call) if call.target.is_none() => call.args.first().map_or(expression, leftmost),
        Expr::Call(_)
        | Expr::Unspecified
        | Expr::Comprehension(_)
        | Expr::Ident(_)
        | Expr::List(_)
        | Expr::Literal(_)
        | Expr::Map(_)
        | Expr::Struct(_) => expression,
    }
}

fn joined(guards: &Guards, more: Guards) -> Guards {
    guards.iter().cloned().chain(more).collect()
}

/// The paths that are there if the expression is `holds`.
fn said(expression: &IdedExpr, holds: bool) -> Guards {
    let none = Guards::new();
    match &expression.expr {
        Expr::Select(select) if select.test && holds => {
            let within = path_of(&select.operand).or_else(|| bare_root(&select.operand).map(Path::of));
            within.into_iter().map(|path| path.then(Step::Key(select.field.as_str().into()))).collect()
        }
        Expr::Call(CallExpr { func_name, args, .. }) => match (func_name.as_str(), args.as_slice()) {
            (operators::LOGICAL_NOT, [a]) => said(a, !holds),
            (operators::LOGICAL_AND, [a, b]) if holds => joined(&said(a, true), said(b, true)),
            (operators::LOGICAL_OR, [a, b]) if !holds => joined(&said(a, false), said(b, false)),
            (operators::IN, [key, of]) if holds => match (written(key), path_of(of)) {
                (Some(step @ Step::Key(_)), Some(path)) => [path.then(step)].into(),
                _ => none,
            },
            _ => none,
        },
        Expr::Select(_)
        | Expr::Unspecified
        | Expr::Comprehension(_)
        | Expr::Ident(_)
        | Expr::List(_)
        | Expr::Literal(_)
        | Expr::Map(_)
        | Expr::Struct(_) => none,
    }
}

fn bare_root(expression: &IdedExpr) -> Option<Root> {
    match &expression.expr {
        Expr::Ident(name) => Root::named(name),
        Expr::Select(_)
        | Expr::Call(_)
        | Expr::Unspecified
        | Expr::Comprehension(_)
        | Expr::List(_)
        | Expr::Literal(_)
        | Expr::Map(_)
        | Expr::Struct(_) => None,
    }
}

/// The path that an expression is, if it is one and every step must be there.
fn path_of(expression: &IdedExpr) -> Option<Path> {
    match &expression.expr {
        Expr::Select(select) if !select.test => {
            let within = path_of(&select.operand).or_else(|| bare_root(&select.operand).map(Path::of))?;
            Some(within.then(Step::Key(select.field.as_str().into())))
        }
        Expr::Call(CallExpr { func_name, args, target: None }) if func_name == operators::INDEX => {
            let [of, key] = args.as_slice() else { return None };
            Some(path_of(of)?.then(written(key)?))
        }
        Expr::Select(_)
        | Expr::Call(_)
        | Expr::Unspecified
        | Expr::Comprehension(_)
        | Expr::Ident(_)
        | Expr::List(_)
        | Expr::Literal(_)
        | Expr::Map(_)
        | Expr::Struct(_) => None,
    }
}
