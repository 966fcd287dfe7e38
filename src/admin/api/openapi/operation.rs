//! What is said of an endpoint, beside its handler: a constant, of which the document is made.

use axum::http::StatusCode;
use schemars::{JsonSchema, Schema, SchemaGenerator};

/// Makes the schema of a type, and of those that it names.
pub type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

fn schema_of<T: JsonSchema>(schemas: &mut SchemaGenerator) -> Schema {
    schemas.subschema_for::<T>()
}

/// An endpoint. Its method and path stand in the table of routes.
#[derive(Debug)]
pub struct Operation {
    /// Its name in clients that are generated.
    pub id: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// What else there is to know.
    pub about: &'static str,
    /// The actions under which a call is judged: the first, or one of them, as `about` says. Without
    /// any it is open to everybody, or what it takes proves itself.
    pub actions: &'static [&'static str],
    /// Of the path, the query and the head.
    pub parameters: &'static [Parameter],
    /// The body of the request.
    pub body: Option<Body>,
    /// What is answered when it is done.
    pub answers: &'static [Answer],
    /// Refusals besides those of every call that is judged.
    pub problems: &'static [(StatusCode, &'static str)],
}

impl Operation {
    /// An endpoint whose callers are judged under these actions.
    pub const fn judged(
        id: &'static str,
        summary: &'static str,
        actions: &'static [&'static str],
        answers: &'static [Answer],
    ) -> Self {
        Self { id, summary, about: "", actions, parameters: &[], body: None, answers, problems: &[] }
    }

    /// An endpoint for which nobody signs in.
    pub const fn open(id: &'static str, summary: &'static str, answers: &'static [Answer]) -> Self {
        Self::judged(id, summary, &[], answers)
    }
}

/// Something that is asked for outside of the body.
#[derive(Debug)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// Where it stands.
    pub place: Place,
    /// What it means.
    pub about: &'static str,
    /// What it may be.
    pub shape: Shape,
}

/// Where a parameter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the path, where the route has its name in braces.
    Path,
    /// In the query; at most once, and it may be left out.
    Query,
    /// In the head; it may be left out.
    Header,
}

impl Place {
    /// The word of the specification.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Query => "query",
            Self::Header => "header",
        }
    }
}

/// What the value of a parameter may be.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// A text of 1 to so many bytes.
    Text(usize),
    /// A number in these bounds.
    Number(u64, u64),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// What matches this regular expression.
    Pattern(&'static str),
    /// A UUID.
    Id,
    /// A time (RFC 3339).
    Time,
}

impl Parameter {
    /// Of the path.
    pub const fn path(name: &'static str, about: &'static str, shape: Shape) -> Self {
        Self { name, place: Place::Path, about, shape }
    }

    /// Of the query.
    pub const fn query(name: &'static str, about: &'static str, shape: Shape) -> Self {
        Self { name, place: Place::Query, about, shape }
    }

    /// Of the head.
    pub const fn header(name: &'static str, about: &'static str, shape: Shape) -> Self {
        Self { name, place: Place::Header, about, shape }
    }
}

/// The body of a request.
#[derive(Debug)]
pub struct Body {
    /// Its media type.
    pub media: &'static str,
    /// Its form.
    pub schema: SchemaOf,
    /// The most bytes.
    pub most: usize,
}

impl Body {
    /// A JSON text of the type that the handler reads it into.
    pub const fn json<T: JsonSchema>(most: usize) -> Self {
        Self { media: "application/json", schema: schema_of::<T>, most }
    }

    /// A form.
    pub const fn form(schema: SchemaOf, most: usize) -> Self {
        Self { media: "application/x-www-form-urlencoded", schema, most }
    }
}

/// What is answered.
#[derive(Debug)]
pub struct Answer {
    /// With which status.
    pub status: StatusCode,
    /// What it says.
    pub about: &'static str,
    /// Its media type.
    pub media: &'static str,
    /// Its form, if it is JSON.
    pub schema: Option<SchemaOf>,
    /// Headers that it always has, and what they say.
    pub headers: &'static [(&'static str, &'static str)],
}

impl Answer {
    /// A JSON text of the type that the handler answers with.
    pub const fn json<T: JsonSchema>(status: StatusCode, about: &'static str) -> Self {
        Self::shaped(status, about, schema_of::<T>)
    }

    /// A JSON text of a form that no type has.
    pub const fn shaped(status: StatusCode, about: &'static str, schema: SchemaOf) -> Self {
        Self { status, about, media: "application/json", schema: Some(schema), headers: &[] }
    }

    /// Something else than JSON.
    pub const fn of(status: StatusCode, about: &'static str, media: &'static str) -> Self {
        Self { status, about, media, schema: None, headers: &[] }
    }
}
