//! Operators and functions: which there are, what they take, and how some are rewritten.

use std::sync::Arc;

use cel::{
    Context, Value,
    common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, operators},
};

use super::{
    super::{
        ConditionError,
        functions::{self, ENVIRONMENT, Pattern},
        members::{Case, iterable},
        types::{Element, FUNCTIONS, Signature, Type, arithmetic, ordered},
    },
    Check, Checked, Known, OPTIONAL, call, looser, number,
};
use crate::policy::document::near;

/// The largest compiled pattern, in bytes.
const MAX_PATTERN: usize = 64 << 10;

impl Check<'_> {
    pub(super) fn call(&mut self, expression: &mut IdedExpr) -> Checked {
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

/// Makes a call on something a call of another function with it.
fn flatten(expression: &mut IdedExpr, name: &str) {
    if let Expr::Call(CallExpr { func_name, target, args }) = &mut expression.expr {
        name.clone_into(func_name);
        if let Some(target) = target.take() {
            args.insert(0, *target);
        }
    }
}
