//! Browsers: signing in and out, and everything that others try with a browser's help.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use amlgate::{
    net::{Connector, ConnectorSettings, Destination, Trust},
    sandbox::Person,
    time::{Clock as _, ManualClock, SystemClock},
};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use serde_json::{Map, Value, json};

use crate::{
    api::{ask, request, token},
    world::{Answer, Changes, World, whole},
};

const SESSION: &str = "__Host-amlgate";
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// A browser with a jar of cookies, which shows pages of the admin listener and of the issuer.
pub struct Browser<'w> {
    world: &'w World,
    pub jar: BTreeMap<String, String>,
    /// Whether it shows pages of the reverse listener.
    reverse: bool,
}

impl<'w> Browser<'w> {
    pub fn new(world: &'w World) -> Self {
        Self { world, jar: BTreeMap::new(), reverse: false }
    }

    pub fn at_reverse(world: &'w World) -> Self {
        Self { reverse: true, ..Self::new(world) }
    }

    /// A request to the gate with the jar's cookies; what the answer sets is kept.
    async fn send(&mut self, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.submit(method, path, headers, "").await
    }

    /// The same with a body.
    pub async fn submit(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut builder = if self.reverse {
            self.world.nobody().request(method, path)
        } else {
            request(self.world, method, path)
        };
        if !self.jar.is_empty() {
            let pairs: Vec<_> = self.jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
            builder = builder.header(header::COOKIE, pairs.join("; "));
        }
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let request = builder.body(whole(body.to_owned())).unwrap();
        let answer = if self.reverse {
            self.world.nobody().send(request).await
        } else {
            ask(self.world, request).await
        };
        for cookie in answer.headers.get_all(header::SET_COOKIE) {
            let cookie = cookie.to_str().unwrap();
            for demanded in ["; Path=/", "; Secure", "; HttpOnly", "; SameSite=Lax"] {
                assert!(cookie.contains(demanded), "{cookie}");
            }
            assert!(cookie.starts_with("__Host-") && !cookie.contains("Domain"), "{cookie}");
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            if cookie.contains("Max-Age=0") {
                self.jar.remove(name);
            } else {
                self.jar.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.send(Method::GET, path, &[]).await
    }

    /// Opens the sign-in; the issuer's page.
    async fn begin(&mut self, return_to: &str) -> String {
        let answer = self.get(&format!("/sign-in?return_to={return_to}")).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{answer:?}");
        answer.header("location").to_owned()
    }

    /// Picks a name at the issuer's page; where the issuer sends the browser.
    pub async fn pick(&self, page: &str, name: &str) -> String {
        let ca = std::fs::read(self.world.directory().join("certs/ca.pem")).unwrap();
        let (at, query) = page.split_once('?').unwrap();
        let request = Request::post(at).body(Bytes::from(format!("{query}&person={name}"))).unwrap();
        let to = Destination::of(request.uri()).unwrap().trusting(Some(Trust::new(Some(&ca)).unwrap()));
        let connector = Connector::new(ConnectorSettings::default()).unwrap();
        let answer = connector.send(&to, request, Default::default()).await.unwrap();
        let back = answer.headers()["location"].to_str().unwrap().to_owned();
        let site = if self.reverse {
            format!("https://{}", self.world.host())
        } else {
            format!("http://{}", self.world.server.admin().unwrap())
        };
        back.strip_prefix(&site).unwrap_or_else(|| panic!("{back} is not at {site}")).to_owned()
    }

    pub async fn sign_in(&mut self, name: &str) -> Answer {
        let page = self.begin("/api/v1/whoami").await;
        let back = self.pick(&page, name).await;
        self.get(&back).await
    }

    async fn whoami(&mut self) -> Answer {
        self.get("/api/v1/whoami").await
    }

    fn session(&self) -> Option<String> {
        self.jar.get(SESSION).cloned()
    }
}

fn ticking() -> ManualClock {
    ManualClock::starting_at(SystemClock.now())
}

#[tokio::test]
async fn a_person_signs_in_is_who_they_are_and_signs_out() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    assert_eq!(browser.whoami().await.status, StatusCode::UNAUTHORIZED);
    let landed = browser.sign_in("sam").await;
    assert_eq!(landed.status, StatusCode::SEE_OTHER, "{landed:?}");
    assert_eq!(landed.header("location"), "/api/v1/whoami");
    assert_eq!(browser.jar.keys().collect::<Vec<_>>(), [SESSION], "the sign-in's own cookie is gone");
    let whoami = browser.whoami().await;
    assert_eq!(whoami.status, StatusCode::OK, "{whoami:?}");
    assert_eq!(whoami.json()["principal"], "sandbox:user-sam");
    let session = whoami.json()["session"].as_str().unwrap().to_owned();
    assert_ne!(Some(session.clone()), browser.session(), "the digest is not the secret");
    let secret = browser.session().unwrap();
    let out = browser.send(Method::POST, "/sign-out", &[("sec-fetch-site", "same-origin")]).await;
    assert_eq!(out.status, StatusCode::SEE_OTHER);
    let page = out.header("location");
    assert!(page.contains("/logout?") && page.contains("id_token_hint="), "{page}");
    assert_eq!(browser.session(), None);
    // Whoever kept the cookie has nothing.
    browser.jar.insert(SESSION.to_owned(), secret.clone());
    assert_eq!(browser.whoami().await.status, StatusCode::UNAUTHORIZED);
    let database = ["amlgate.db", "amlgate.db-wal"]
        .map(|name| std::fs::read(world.directory().join("var").join(name)).unwrap_or_default());
    let database = String::from_utf8_lossy(&database.concat()).into_owned();
    assert!(database.contains(&session) && !database.contains(&secret), "the store knows the digest alone");
    assert!(!database.contains("eyJhbGciOi"), "and no token");
    let log = world.stop().await;
    let classes: Vec<_> = log.records.iter().filter(|r| r["class_uid"] == 3002).collect();
    let said: Vec<_> = classes
        .iter()
        .map(|r| (r["activity_id"].as_u64().unwrap(), r["user"]["uid"].as_str().unwrap().to_owned()))
        .collect();
    assert_eq!(said, [(1, "sandbox:user-sam".to_owned()), (2, "sandbox:user-sam".to_owned())]);
    assert!(!log.records.iter().any(|r| r.to_string().contains(&secret)));
}

#[tokio::test]
async fn a_sign_in_ends_only_in_the_browser_that_began_it() {
    let world = World::new().await;
    let (mut sam, mut eve) = (Browser::new(&world), Browser::new(&world));
    // Eve signs in and gives her link to Sam: Sam must not become Eve.
    let page = eve.begin("/").await;
    let link = eve.pick(&page, "alex").await;
    let lured = sam.get(&link).await;
    assert_eq!(lured.status, StatusCode::BAD_REQUEST, "{lured:?}");
    assert_eq!(sam.session(), None);
    // Even in the middle of a sign-in of his own.
    sam.begin("/").await;
    assert_eq!(sam.get(&link).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(sam.session(), None);
    // A code is good once, in the right browser, too.
    let landed = eve.get(&link).await;
    assert_eq!(landed.status, StatusCode::SEE_OTHER, "{landed:?}");
    assert_ne!(eve.get(&link).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn what_comes_back_from_the_issuer_must_be_its_answer_to_this_sign_in() {
    let world = World::new().await;
    let issuer = world.sandbox.issuer.url();
    for change in ["state", "iss", "code", "none"] {
        let mut browser = Browser::new(&world);
        let page = browser.begin("/").await;
        let back = browser.pick(&page, "sam").await;
        let back = match change {
            "state" => back.replace("state=", "state=x"),
            "iss" => back.replace("&iss=", "&iss=https%3A%2F%2Fevil.example&was="),
            "code" => back.replace("code=", "code=x"),
            _ => back.replace("code=", "error=access_denied&was="),
        };
        let landed = browser.get(&back).await;
        assert!(landed.status.is_client_error(), "{change}: {landed:?}");
        assert!(!landed.text().contains(&issuer));
        assert_eq!(browser.session(), None, "{change}");
    }
    // The sealed cookie of a sign-in is nobody's to write.
    let mut browser = Browser::new(&world);
    let page = browser.begin("/").await;
    let back = browser.pick(&page, "sam").await;
    let pending = browser.jar.get_mut("__Host-amlgate-sign-in").unwrap();
    pending.replace_range(30..31, if &pending[30..31] == "A" { "B" } else { "A" });
    assert_eq!(browser.get(&back).await.status, StatusCode::BAD_REQUEST);
    // What went wrong in the browser that began it is on record; what anybody could send is counted.
    let log = world.stop().await;
    let events = log.records.iter().map(|r| &r["unmapped"]["amlgate"]);
    let refused: Vec<_> = events.filter(|e| e["event"] == "sign_in_refused").collect();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(refused[0]["issuer"], "sandbox");
}

#[tokio::test]
async fn a_session_that_somebody_put_there_ends_at_the_sign_in() {
    let world = World::new().await;
    let (mut eve, mut sam) = (Browser::new(&world), Browser::new(&world));
    eve.sign_in("alex").await;
    let planted = eve.session().unwrap();
    sam.jar.insert(SESSION.to_owned(), planted.clone());
    sam.sign_in("sam").await;
    assert_ne!(sam.session().unwrap(), planted);
    assert_eq!(sam.whoami().await.json()["principal"], "sandbox:user-sam");
    assert_eq!(eve.whoami().await.status, StatusCode::UNAUTHORIZED, "the planted one has ended");
    // And one that never was is nobody's.
    let mut odd = Browser::new(&world);
    for value in ["", "x", &"A".repeat(43), &"A".repeat(5_000)] {
        odd.jar.insert(SESSION.to_owned(), value.to_owned());
        assert_eq!(odd.whoami().await.status, StatusCode::UNAUTHORIZED, "{value}");
    }
}

#[tokio::test]
async fn nobody_is_sent_anywhere_else() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    for to in [
        "//evil.example",
        "https://evil.example",
        "/%5Cevil.example",
        "/%09/evil.example",
        "%2F%2Fevil.example",
    ] {
        let answer = browser.get(&format!("/sign-in?return_to={to}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{to}: {answer:?}");
        assert_eq!(answer.header("location"), "");
    }
}

#[tokio::test]
async fn a_page_of_another_site_signs_nobody_out_and_calls_nothing() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    browser.sign_in("pat").await;
    let kept = browser.jar.clone();
    for foreign in
        [[("sec-fetch-site", "cross-site")], [("origin", "https://evil.example")], [("origin", "null")]]
    {
        for path in ["/sign-out", "/api/v1/revocations"] {
            let answer = browser.send(Method::POST, path, &foreign).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{foreign:?} {path}: {answer:?}");
        }
    }
    assert_eq!(browser.jar, kept);
    assert_eq!(browser.whoami().await.status, StatusCode::OK);
    assert_eq!(browser.get("/sign-out").await.status, StatusCode::METHOD_NOT_ALLOWED, "no link signs out");
}

fn logout_token(world: &World, change: impl FnOnce(&mut Map<String, Value>)) -> String {
    let sam = Person::named("sam").unwrap();
    let mint = world.sandbox.issuer.mint();
    mint.token_with(sam, |claims| {
        claims.insert("aud".to_owned(), json!("amlgate-cli"));
        claims.insert("events".to_owned(), json!({EVENT: {}}));
        change(claims);
    })
    .unwrap()
}

async fn back_channel(world: &World, token: &str) -> Answer {
    let form = form_urlencoded::Serializer::new(String::new()).append_pair("logout_token", token).finish();
    let builder = request(world, Method::POST, "/back-channel-logout")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    ask(world, builder.body(whole(form)).unwrap()).await
}

#[tokio::test]
async fn the_issuer_ends_sessions_by_the_back_channel_and_each_token_once() {
    let world = World::new().await;
    let (mut sam, mut rita) = (Browser::new(&world), Browser::new(&world));
    sam.sign_in("sam").await;
    rita.sign_in("rita").await;
    for bad in [
        logout_token(&world, |c| drop(c.remove("events"))),
        logout_token(&world, |c| drop(c.insert("nonce".to_owned(), json!("n")))),
        logout_token(&world, |c| drop(c.insert("aud".to_owned(), json!("amlgate")))),
        logout_token(&world, |c| drop(c.insert("iat".to_owned(), json!(1_000)))),
        token(&world, "sam"),
        "a.b.c".to_owned(),
    ] {
        let answer = back_channel(&world, &bad).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
        assert_eq!(answer.header("cache-control"), "no-store");
    }
    assert_eq!(sam.whoami().await.status, StatusCode::OK);
    let good = logout_token(&world, |_| ());
    let answer = back_channel(&world, &good).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(sam.whoami().await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(rita.whoami().await.status, StatusCode::OK);
    // Signed in again, a copy of the token ends nothing.
    sam.sign_in("sam").await;
    assert_eq!(back_channel(&world, &good).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(sam.whoami().await.status, StatusCode::OK);
    // A logout token is no caller's token.
    let posing = world.bearing(&logout_token(&world, |c| drop(c.insert("aud".to_owned(), json!("amlgate")))));
    assert_eq!(posing.get(&crate::forward::jobs()).await.status, StatusCode::UNAUTHORIZED);
}

/// The issuer takes each refresh token once: a second use would end the session.
#[tokio::test]
async fn of_ten_that_find_the_token_old_one_renews_it() {
    let clock = ticking();
    let world = World::at(Changes::default(), Arc::new(clock.clone())).await;
    let mut browser = Browser::new(&world);
    browser.sign_in("sam").await;
    // Not an hour, so that the session was used lately; the token has less than a minute.
    clock.advance(Duration::from_secs(3_570));
    let cookie = format!("{SESSION}={}", browser.session().unwrap());
    let asked = (0..10).map(|_| {
        let request = request(&world, Method::GET, "/api/v1/whoami").header(header::COOKIE, &cookie);
        ask(&world, request.body(whole("")).unwrap())
    });
    for answer in futures_of(asked).await {
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }
    clock.advance(Duration::from_secs(60));
    let after = browser.whoami().await;
    assert_eq!(after.status, StatusCode::OK, "the session outlived its first token: {after:?}");
}

/// All of them at once.
async fn futures_of<F: Future<Output = Answer>>(all: impl Iterator<Item = F>) -> Vec<Answer> {
    let mut all: Vec<_> = all.map(|one| (Box::pin(one), None)).collect();
    std::future::poll_fn(|cx| {
        let mut waiting = false;
        for (future, answer) in &mut all {
            if answer.is_none() {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(done) => *answer = Some(done),
                    std::task::Poll::Pending => waiting = true,
                }
            }
        }
        if waiting { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    all.into_iter().filter_map(|(_, answer)| answer).collect()
}

#[tokio::test]
async fn a_session_that_nobody_uses_ends() {
    let clock = ticking();
    let world = World::at(Changes::default(), Arc::new(clock.clone())).await;
    let mut browser = Browser::new(&world);
    browser.sign_in("sam").await;
    clock.advance(Duration::from_secs(3_601));
    assert_eq!(browser.whoami().await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_revoked_session_ends_and_a_bearer_beside_it_counts_alone() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    browser.sign_in("sam").await;
    let session = browser.whoami().await.json()["session"].clone();
    let pat = format!("Bearer {}", token(&world, "pat"));
    let both = browser.send(Method::GET, "/api/v1/whoami", &[("authorization", &pat)]).await;
    assert_eq!(both.json()["principal"], "sandbox:user-pat");
    let builder = request(&world, Method::POST, "/api/v1/revocations")
        .header(header::AUTHORIZATION, pat)
        .header(header::CONTENT_TYPE, "application/json");
    let body = json!({"session": session, "reason": "a shared machine"}).to_string();
    let made = ask(&world, builder.body(whole(body)).unwrap()).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    assert_eq!(browser.whoami().await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn what_another_replica_ends_has_ended_here() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    browser.sign_in("sam").await;
    let file = world.directory().join("amlgate.yaml");
    let settings = amlgate::config::load(&file).unwrap();
    let store = match settings.store.unwrap() {
        amlgate::config::settings::Store::Sqlite(path) => path,
        amlgate::config::settings::Store::Postgres(_) => panic!("the sandbox keeps a file"),
    };
    let other = amlgate::store::Store::new(amlgate::store::StoreAddress::Sqlite(store)).unwrap();
    let session = browser.whoami().await.json()["session"].as_str().unwrap().to_owned();
    let row = other.session(&session).await.unwrap().unwrap();
    assert_eq!((&*row.issuer, &*row.subject), ("sandbox", "user-sam"));
    // What another replica ends has ended here.
    assert!(other.end_session(&session).await.unwrap());
    assert_eq!(browser.whoami().await.status, StatusCode::UNAUTHORIZED);
}
