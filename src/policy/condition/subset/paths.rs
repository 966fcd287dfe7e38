//! Names and the steps below them, lists and loops: what of a request a condition reads.

use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, IdedExpr, SelectExpr, operators};

use super::{
    super::{
        ConditionError, functions,
        members::{Path, Root, Step, item, iterable},
        types::{Element, LIST, Type},
    },
    Check, Checked, Known, OPTIONAL, call, literal, looser, written,
};
use crate::policy::document::{listed, near};

/// The most loops inside each other over what a caller sends.
const MAX_LOOPS: u32 = 2;

/// A key or index of a step.
enum Key {
    Written(Step),
    Computed,
}

impl Check<'_> {
    pub(super) fn local(&self, name: &str) -> Option<&Known> {
        self.scope.iter().rev().find(|(known, _)| known == name).map(|(_, known)| known)
    }

    pub(super) fn name(&self, at: &IdedExpr, name: &str) -> Checked {
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
    pub(super) fn operand(&mut self, operand: &mut IdedExpr) -> Checked {
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

    pub(super) fn select(&mut self, expression: &mut IdedExpr) -> Checked {
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

    pub(super) fn index(&mut self, expression: &mut IdedExpr) -> Checked {
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

    pub(super) fn list(&mut self, expression: &mut IdedExpr) -> Checked {
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

    pub(super) fn comprehension(&mut self, expression: &mut IdedExpr) -> Checked {
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
}
