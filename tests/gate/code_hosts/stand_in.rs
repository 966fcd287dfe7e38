//! A server that answers what it was told to answer at which path and query, to the letter.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;

/// Answers by path and query.
pub type Answers = BTreeMap<String, Value>;

/// How it behaves.
#[derive(Debug, Clone, Copy)]
pub enum Mood {
    Well,
    Status(u16),
    /// A status with `x-ratelimit-remaining: 0`.
    TooOften,
    Body(&'static str),
    /// Fails at paths that have this in them.
    FailsAt(&'static str, u16),
}

/// It, wherever it listens.
#[derive(Clone)]
pub struct CodeHost {
    pub address: SocketAddr,
    answers: Arc<Mutex<Answers>>,
    /// Cursors to further pages, by path and query.
    further: Arc<Mutex<BTreeMap<String, String>>>,
    mood: Arc<Mutex<Mood>>,
    asked: Arc<Mutex<Vec<(HeaderMap, String)>>>,
}

impl CodeHost {
    pub async fn start(answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = Self {
            address: listener.local_addr().unwrap(),
            answers: Arc::new(Mutex::new(answers)),
            further: Arc::default(),
            mood: Arc::new(Mutex::new(Mood::Well)),
            asked: Arc::default(),
        };
        let serving = host.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let host = serving.clone();
                let service = service_fn(move |request| {
                    let answer = host.answer(&request);
                    async move { Ok::<_, Infallible>(answer) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        host
    }

    pub fn is(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    pub fn answers(&self, answers: Answers) {
        *self.answers.lock().unwrap() = answers;
    }

    /// What lies at a path and query has a further page, behind that cursor.
    pub fn goes_on(&self, path: &str, cursor: &str) {
        self.further.lock().unwrap().insert(path.to_owned(), cursor.to_owned());
    }

    /// What it was asked since the last time.
    pub fn asked(&self) -> Vec<(HeaderMap, String)> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path_and_query().unwrap().as_str().to_owned();
        self.asked.lock().unwrap().push((request.headers().clone(), path.clone()));
        let known = || self.answers.lock().unwrap().get(&path).cloned();
        let found =
            || known().map_or((404, "{\"message\": \"Not Found\"}".into()), |found| (200, found.to_string()));
        let mood = *self.mood.lock().unwrap();
        let (status, body) = match mood {
            Mood::Well => found(),
            Mood::FailsAt(part, status) if path.contains(part) => (status, "no".into()),
            Mood::FailsAt(..) => found(),
            Mood::Status(status) => (status, "no".into()),
            Mood::TooOften => (403, "no".into()),
            Mood::Body(body) => (200, body.into()),
        };
        let mut answer = Response::builder().status(status).header("location", "/login");
        if let Mood::TooOften = mood {
            answer = answer.header("x-ratelimit-remaining", "0");
        }
        if let Some(cursor) = self.further.lock().unwrap().get(&path) {
            answer =
                answer.header("link", format!("<http://elsewhere.example/?after={cursor}>; rel=\"next\""));
        }
        answer.body(Full::new(body.into())).unwrap()
    }
}
