//! Which texts are conditions: a check of the whole tree at load.
//!
//! The evaluator knows neither types nor costs, so both are settled here. What is admitted reads
//! known members of known roots, loops at most twice inside each other over what a caller sends,
//! has at most [`MAX_NODES`] nodes, writes its patterns out, and is true or false as far as its
//! text tells. On the way the tree is rewritten where CEL's own operations would let a request slip
//! through (see [`super::functions`]).

mod calls;
mod paths;

use std::collections::BTreeSet;

use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, SourceInfo, operators};

use super::{
    ConditionError,
    functions::Pattern,
    members::{Case, Path, Step},
    types::Type,
};

/// The most nodes that a condition may have, macros expanded.
pub(super) const MAX_NODES: usize = 200;
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
}

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

/// `of[index]`.
pub(super) fn at_index(of: IdedExpr, index: i64) -> Expr {
    call(operators::INDEX, vec![of, number(0, index)])
}
