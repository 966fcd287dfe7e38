//! The document, made of what stands beside the handlers (OpenAPI 3.1).

use axum::http::StatusCode;
use schemars::{
    SchemaGenerator,
    generate::{Contract, SchemaSettings},
};
use serde_json::{Map, Value, json};

use super::operation::{Answer, Body, Operation, Parameter, Place, Shape};
use crate::{
    admin::{api::table::Route, sign_in},
    http::problem::Rfc9457,
};

const VERSION: &str = env!("CARGO_PKG_VERSION");

const ABOUT: &str = "The gate's own API. Callers are known by the same issuers as the data plane's: by a \
    bearer token, or in a browser by a session. They are judged by the same policies, under actions that \
    begin with `amlgate/` and that no role of Azure grants, and every call is recorded, reads included: \
    `x-amlgate-decision` names its record. Unknown fields of a body are refused. Errors are those of \
    RFC 9457.";

/// Refusals that any call may get that is judged.
const JUDGED: [(&str, StatusCode, &str); 5] = [
    ("BadRequest", StatusCode::BAD_REQUEST, "The request is not understood; `detail` says what is wrong."),
    ("Unauthenticated", StatusCode::UNAUTHORIZED, "Nobody is signed in, or must sign in again or stronger."),
    ("Forbidden", StatusCode::FORBIDDEN, "The policies do not let the caller do this, or not yet."),
    ("TooManyRequests", StatusCode::TOO_MANY_REQUESTS, "A limit of the policies is reached."),
    ("Unavailable", StatusCode::SERVICE_UNAVAILABLE, "What the answer needs cannot be had now."),
];

/// What a call with a JSON body may get besides.
const NO_JSON: (&str, StatusCode, &str) = (
    "UnsupportedMediaType",
    StatusCode::UNSUPPORTED_MEDIA_TYPE,
    "The body is not said to be `application/json`.",
);

/// The schemas of what is read and of what is answered: the same type may differ in what it must have.
struct Schemas {
    read: SchemaGenerator,
    answered: SchemaGenerator,
}

/// Describes these routes.
pub fn of(routes: &[Route]) -> Value {
    let generator = |contract| {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
            settings.contract = contract;
        });
        settings.into_generator()
    };
    let mut schemas =
        Schemas { read: generator(Contract::Deserialize), answered: generator(Contract::Serialize) };
    let mut paths = Map::new();
    for route in routes {
        let described = operation(route, &mut schemas);
        let methods = paths.entry(route.path).or_insert_with(|| json!({}));
        if let Some(methods) = methods.as_object_mut() {
            methods.insert(route.method.as_str().to_lowercase(), described);
        }
    }
    let problem = schemas.answered.subschema_for::<Rfc9457<'_>>();
    let responses: Map<String, Value> = JUDGED
        .iter()
        .chain([&NO_JSON])
        .map(|(name, status, about)| ((*name).to_owned(), refusal(*status, about, &json!(problem))))
        .collect();
    let mut named = schemas.read.take_definitions(true);
    named.extend(schemas.answered.take_definitions(true));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "amlgate",
            "version": VERSION,
            "summary": "Who may do what, what was asked and approved, and what is on record.",
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        // From where this document lies, so that it holds below any prefix.
        "servers": [{"url": "../.."}],
        "security": [{"bearer": []}, {"session": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "A token of an issuer that the gate is configured with, or one of the gate's.",
                },
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": sign_in::SESSION,
                    "description": "The session of a browser that signed in at `/sign-in`.",
                },
            },
            "responses": responses,
            "schemas": named,
        },
    })
}

fn operation(route: &Route, schemas: &mut Schemas) -> Value {
    let Operation { id, summary, about, actions, parameters, body, answers, problems } = route.operation;
    let mut all = Map::new();
    let mut put = |key: &str, value: Value| all.insert(key.to_owned(), value);
    put("operationId", json!(id));
    put("summary", json!(summary));
    let judged = match actions {
        [] => String::new(),
        [one] => format!("Judged as `{one}`."),
        several => format!("Judged as one of `{}`.", several.join("`, `")),
    };
    let words: Vec<&str> = [*about, judged.as_str()].into_iter().filter(|words| !words.is_empty()).collect();
    if !words.is_empty() {
        put("description", json!(words.join("\n\n")));
    }
    put("tags", json!([tag(route.path)]));
    if actions.is_empty() {
        put("security", json!([]));
    } else {
        put("x-amlgate-actions", json!(actions));
    }
    if !parameters.is_empty() {
        put("parameters", parameters.iter().map(parameter).collect());
    }
    if let Some(body) = body {
        put("requestBody", request_body(body, &mut schemas.read));
    }
    let is_json = body.as_ref().is_some_and(|body| body.media == "application/json");
    let mut responses = Map::new();
    if !actions.is_empty() {
        for (name, status, _) in JUDGED.iter().chain(is_json.then_some(&NO_JSON)) {
            responses.insert(
                status.as_str().to_owned(),
                json!({"$ref": format!("#/components/responses/{name}")}),
            );
        }
    }
    let problem = schemas.answered.subschema_for::<Rfc9457<'_>>();
    for (status, about) in *problems {
        responses.insert(status.as_str().to_owned(), refusal(*status, about, &json!(problem)));
    }
    for one in *answers {
        let described = answer(one, !actions.is_empty(), &mut schemas.answered);
        responses.insert(one.status.as_str().to_owned(), described);
    }
    put("responses", Value::Object(responses));
    Value::Object(all)
}

/// The first word below `/api/v1`.
fn tag(path: &str) -> &str {
    path.strip_prefix("/api/v1/").and_then(|rest| rest.split('/').next()).unwrap_or("well-known")
}

fn parameter(parameter: &Parameter) -> Value {
    let Parameter { name, place, about, shape } = parameter;
    let required = *place == Place::Path;
    let schema = match shape {
        Shape::Text(most) => json!({"type": "string", "minLength": 1, "maxLength": most}),
        Shape::Number(least, most) => json!({"type": "integer", "minimum": least, "maximum": most}),
        Shape::OneOf(words) => json!({"type": "string", "enum": words}),
        Shape::Pattern(pattern) => json!({"type": "string", "pattern": pattern}),
        Shape::Id => json!({"type": "string", "format": "uuid"}),
        Shape::Time => json!({"type": "string", "format": "date-time"}),
    };
    json!({"name": name, "in": place.name(), "description": about, "required": required, "schema": schema})
}

fn request_body(body: &Body, schemas: &mut SchemaGenerator) -> Value {
    let schema = (body.schema)(schemas);
    json!({
        "required": true,
        "description": format!("At most {} bytes.", body.most),
        "content": {body.media: {"schema": schema}},
    })
}

fn answer(answer: &Answer, recorded: bool, schemas: &mut SchemaGenerator) -> Value {
    let Answer { status: _, about, media, schema, headers } = answer;
    let content = match schema {
        Some(schema) => json!({*media: {"schema": schema(schemas)}}),
        None => json!({*media: {}}),
    };
    let mut all = Map::new();
    if recorded {
        all.insert(
            "x-amlgate-decision".to_owned(),
            header("The record of the call.", json!({"type": "string", "format": "uuid"})),
        );
    }
    for (name, about) in *headers {
        all.insert((*name).to_owned(), header(about, json!({"type": "string"})));
    }
    json!({"description": about, "headers": all, "content": content})
}

fn header(about: &str, schema: Value) -> Value {
    json!({"description": about, "required": true, "schema": schema})
}

fn refusal(status: StatusCode, about: &str, problem: &Value) -> Value {
    let headers = match status {
        StatusCode::UNAUTHORIZED => {
            json!({"www-authenticate": header("`Bearer`.", json!({"type": "string"}))})
        }
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            json!({"retry-after": header("Seconds to wait.", json!({"type": "integer", "minimum": 0}))})
        }
        _ => json!({}),
    };
    let content = json!({"application/problem+json": {"schema": problem}});
    json!({"description": about, "headers": headers, "content": content})
}

#[cfg(test)]
mod tests;
