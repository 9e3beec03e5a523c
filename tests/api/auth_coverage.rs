//! Every operation of the API document against every kind of caller. The cells come from the document alone, so a new operation is in
//! here by being declared; one that this file cannot call yet fails and says so.

mod declared;
mod verdicts;

use std::collections::BTreeMap;
use std::io::Write as _;

use nworkflow_state::error::Code;
use nworkflow_state::store::Backend;
use reqwest::Method;
use serde_json::{Value, json};

use declared::{BOB, Declared, OWN, all_but};
use verdicts::{is_refused, is_refused_with, is_success, is_untouched, looks_absent, saw_nothing};

use super::app::{Answer, Caller, DOCUMENT};
use super::site::Site;
use crate::support::issuer::TestIssuer;

/// The operations that anyone may call. Whoever makes this list longer opens the server.
const OPEN: &[&str] = &[
    "GET /errors",
    "GET /errors/{code}",
    "GET /health/live",
    "GET /health/ready",
    "GET /limits",
    "GET /openapi-3.0.json",
    "GET /openapi.json",
];

/// What was tried and what was not as it must be.
#[derive(Default)]
struct Report {
    cells: usize,
    failures: Vec<String>,
}

impl Report {
    fn add(&mut self, operation: &Declared, caller: &str, verdict: Result<(), String>) {
        self.cells += 1;
        if let Err(why) = verdict {
            self.failures.push(format!("{}, {caller}: {why}", operation.name()));
        }
    }
}

/// Makes what the document's examples are about, in this tenant, as this user; and what bob has there. Not what the operation `but` makes.
async fn prepare(site: &Site, operations: &[Declared], tenant: &str, subject: &str, but: Option<&Declared>) {
    let (caller, bob) = (site.caller(tenant, subject, &all_but(&[])), site.caller(tenant, "bob", &all_but(&[])));
    for operation in operations.iter().filter(|operation| operation.method == Method::PUT) {
        let scopes = if operation.has_scope() { &[None, Some("global"), Some(BOB)][..] } else { &[None] };
        for scope in scopes {
            operation.call(&caller, *scope).send().await.expect(201);
        }
        if operation.has_session() {
            operation.call(&bob, Some(BOB)).send().await.expect(201);
        }
    }
    let others = operations.iter().filter(|operation| !but.is_some_and(|but| std::ptr::eq(but, *operation)));
    for making in others.filter_map(|operation| operation.making(operations, &caller)) {
        making.send().await.expect(201);
    }
}

/// Everything in the tenant, as its administrator reads it.
async fn everything(site: &Site, operations: &[Declared], tenant: &str) -> BTreeMap<String, (u16, String)> {
    let mut all = BTreeMap::new();
    for operation in operations.iter().filter(|operation| operation.method == Method::GET && !operation.is_open()) {
        for scope in [None, Some("global"), Some(BOB), Some(OWN)].into_iter().filter(|_| operation.is_of_a_tenant()) {
            let answer = operation.call(&site.admin(tenant), scope).send().await;
            let body = if answer.status.is_success() { answer.text().to_owned() } else { answer.verdict().1 };
            all.insert(operation.path(scope), (answer.status.as_u16(), body));
        }
    }
    all
}

/// All cells of the document at this server, in which nothing was written yet.
async fn run(site: &Site, document: &Value) -> Report {
    let mut report = Report::default();
    let all = Declared::all(document);
    let open: Vec<String> = all.iter().filter(|one| one.is_open() && one.method != Method::HEAD).map(Declared::name).collect();
    if open != OPEN {
        report.failures.push(format!("the open operations are {open:?}"));
    }
    for operation in all.iter().filter(|operation| operation.is_open()) {
        report.add(operation, "no token", is_success(&operation.call(&site.app.anonymous(), None).send().await));
    }
    let guarded: Vec<Declared> = all.into_iter().filter(|operation| !operation.is_open()).collect();
    for operation in guarded.iter().filter(|operation| operation.operation["security"] != json!([{"bearer": []}])) {
        report.failures.push(format!("{}: another security than a bearer token", operation.name()));
    }

    let ada = site.caller("acme", "ada", &all_but(&["delegate"]));
    let strangers = strangers(site, &guarded, &ada, "before").await;
    prepare(site, &guarded, "acme", "admin", None).await;
    let before = everything(site, &guarded, "acme").await;
    for (operation, (tenant, user)) in guarded.iter().zip(&strangers) {
        if let Some(was) = user {
            report.add(operation, "another user", saw_nothing(operation, was, &user_cell(operation, &ada).await));
        }
        if operation.is_of_a_user() || operation.has_session() {
            let begun = site.store.calls();
            let is = user_cell(operation, &ada).await;
            let calls = site.store.calls() - begun;
            let own = own_cell(site, operation).await;
            // How long the answer takes must not tell either: no call, or those that an absent one takes.
            let usual = if operation.has_session() { site.store.calls() - begun - calls } else { 0 };
            report.add(operation, "another user", is_refused_with(&is, 404).and(is_untouched(usual, calls)));
            report.add(operation, "another user", looks_absent(operation, &is, &own));
        }
        if let Some(was) = tenant {
            let is = tenant_cell(site, operation, "after").await;
            report.add(operation, "another tenant", saw_nothing(operation, was, &is));
        }
    }
    let other = TestIssuer::start_realm("other", site.app.clock.clone()).await;
    for operation in &guarded {
        refusals(site, operation, &other, &mut report).await;
    }
    let after = everything(site, &guarded, "acme").await;
    report
        .failures
        .extend(before.iter().filter(|(path, was)| after.get(*path) != Some(was)).map(|(path, _)| format!("{path} has changed")));

    for (index, operation) in guarded.iter().enumerate() {
        let tenant = format!("exact-{index}");
        prepare(site, &guarded, &tenant, "ada", Some(operation)).await;
        let permissions = operation.permissions();
        let caller = site.caller(&tenant, "ada", &permissions);
        report.add(operation, "exactly the permissions", is_success(&operation.call(&caller, None).send().await));
        for (permission, scope, _) in operation.conditions() {
            let caller = site.caller(&tenant, "ada", &[&permissions[..], &[permission]].concat());
            report.add(operation, permission, is_success(&operation.call(&caller, Some(scope)).send().await));
        }
    }
    report
}

/// What another tenant and another user see of each operation's object.
async fn strangers(site: &Site, operations: &[Declared], ada: &Caller, when: &str) -> Vec<(Option<Answer>, Option<Answer>)> {
    let mut seen = Vec::new();
    for operation in operations {
        let tenant = if operation.is_of_a_tenant() { Some(tenant_cell(site, operation, when).await) } else { None };
        // A save begins a session where none is, and its id may tell that it is taken.
        let has_user = operation.is_of_a_user() || operation.lists_own() || operation.has_session() && !operation.saves_session();
        let user = if has_user { Some(user_cell(operation, ada).await) } else { None };
        seen.push((tenant, user));
    }
    seen
}

/// A tenant for each operation, because a PUT makes something of its own there.
async fn tenant_cell(site: &Site, operation: &Declared, when: &str) -> Answer {
    let id = operation.operation["operationId"].as_str().unwrap();
    operation.call(&site.admin(&format!("{when}-{}-{id}", operation.method)), None).send().await
}

async fn user_cell(operation: &Declared, ada: &Caller) -> Answer {
    operation.call(ada, Some(BOB)).send().await
}

/// The user's own scope or session, in a tenant for each operation: nothing is there.
async fn own_cell(site: &Site, operation: &Declared) -> Answer {
    let id = operation.operation["operationId"].as_str().unwrap();
    let caller = site.caller(&format!("own-{}-{id}", operation.method), "ada", &all_but(&["delegate"]));
    operation.call(&caller, Some(OWN)).send().await
}

/// The callers that the guard turns away, before the store hears of them.
async fn refusals(site: &Site, operation: &Declared, other: &TestIssuer, report: &mut Report) {
    let good = |issuer: &TestIssuer| issuer.token().tenant("acme").subject("ada").realm_roles(&["nworkflow-admin"]).expires_in(86_400);
    let with = |roles: &[&str]| site.caller("acme", "ada", roles);
    let bearer = |token: String| site.app.bearer(token);
    let mut callers = vec![
        ("no token".to_owned(), site.app.anonymous(), None, 401, Code::TokenMissing),
        ("an expired token".to_owned(), bearer(good(&site.issuer).expires_in(-60).build()), None, 401, Code::TokenExpired),
        ("another audience".to_owned(), bearer(good(&site.issuer).claim("aud", "account").build()), None, 401, Code::TokenInvalid),
        ("another issuer".to_owned(), bearer(good(other).build()), None, 401, Code::TokenInvalid),
        (
            "another issuer's name".to_owned(),
            bearer(good(&site.issuer).claim("iss", other.issuer()).build()),
            None,
            401,
            Code::TokenInvalid,
        ),
        ("no permission".to_owned(), with(&[]), None, 403, Code::PermissionMissing),
    ];
    for permission in operation.permissions() {
        callers.push((format!("all but {permission}"), with(&all_but(&[permission])), None, 403, Code::PermissionMissing));
    }
    for (permission, scope, status) in operation.conditions().into_iter().filter(|(_, _, status)| *status == 403) {
        callers.push((format!("all but {permission}"), with(&all_but(&[permission])), Some(scope), status, Code::PermissionMissing));
    }
    for (name, caller, scope, status, code) in callers {
        let calls = site.store.calls();
        let answer = operation.call(&caller, scope).send().await;
        let named = match name.strip_prefix("all but ") {
            Some(permission) if !answer.body.is_empty() && !answer.text().contains(permission) => Err(format!("{permission} is not named")),
            _ => Ok(()),
        };
        report.add(operation, &name, is_refused(&answer, status, code).and(named).and(is_untouched(calls, site.store.calls())));
    }
}

async fn every_operation_keeps_to_its_declaration(backend: Backend) {
    let site = Site::on(backend).await;
    let report = run(&site, &DOCUMENT).await;
    assert!(report.failures.is_empty(), "{} of {} cells:\n{}", report.failures.len(), report.cells, report.failures.join("\n"));
    // Not by the macro, which the test harness would swallow.
    writeln!(std::io::stderr(), "authorisation: {} cells of the API document on {}", report.cells, backend.as_str()).unwrap();
    let operations = Declared::all(&DOCUMENT).iter().filter(|operation| !operation.is_open()).count();
    assert!(report.cells > 8 * operations, "{} cells for {operations} operations", report.cells);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_keeps_to_its_declaration_on_sqlite() {
    every_operation_keeps_to_its_declaration(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_keeps_to_its_declaration_on_postgres() {
    every_operation_keeps_to_its_declaration(Backend::Postgres).await;
}

/// The other way round: a document that says something else than the server does must be noticed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_declaration_that_is_wrong_is_noticed() {
    let state = "/paths/~1workflows~1{workflow_id}~1executions~1{execution_id}~1state";
    let variable = "/paths/~1variables~1{scope}~1{name}/put";
    let lies = [
        (
            format!("{state}/get/x-permissions/0"),
            json!("audit:read"),
            "GET /workflows/{workflow_id}/executions/{execution_id}/state, exactly",
        ),
        (format!("{state}/get/x-permissions/0"), json!("audit:read"), "state, all but audit:read: expected 403"),
        (format!("{state}/delete/security"), json!([]), "the open operations are"),
        (format!("{state}/put/security"), json!([{"basic": []}]), "another security"),
        (
            format!("{variable}/x-permissions-conditional/0/permission"),
            json!("audit:read"),
            "PUT /variables/{scope}/{name}, all but audit:read",
        ),
        ("/paths/~1limits/get/security".to_owned(), json!([{"bearer": []}]), "the open operations are"),
    ];
    for (pointer, lie, complaint) in lies {
        let mut document = DOCUMENT.clone();
        *document.pointer_mut(&pointer).unwrap() = lie;
        if pointer.contains("limits") {
            document["paths"]["/limits"]["get"]["x-permissions"] = json!(["stats:read"]);
        }
        let report = run(&Site::on(Backend::Sqlite).await, &document).await;
        assert!(report.failures.iter().any(|failure| failure.contains(complaint)), "{pointer}: {:?}", report.failures);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_wrong_is_noticed() {
    let site = Site::on(Backend::Sqlite).await;
    let operations = Declared::all(&DOCUMENT);
    let get = operations.iter().find(|operation| operation.operation["operationId"] == "getState").unwrap();
    let admin = site.admin("acme");
    let refused = get.call(&site.app.anonymous(), None).send().await;
    assert!(is_refused(&refused, 401, Code::TokenMissing).is_ok());
    assert!(is_refused(&refused, 401, Code::TokenInvalid).is_err() && is_refused(&refused, 403, Code::TokenMissing).is_err());
    assert!(is_success(&refused).is_err() && is_refused_with(&refused, 404).is_err());

    let calls = site.store.calls();
    let absent = get.call(&admin, None).send().await;
    assert!(saw_nothing(get, &absent, &absent).is_ok());
    assert!(is_untouched(calls, site.store.calls()).is_err());
    let elsewhere = admin.get("/workflows/order/executions/e1/state?version=1").send().await;
    assert!(saw_nothing(get, &absent, &elsewhere).is_err(), "another code and detail");
    let before = everything(&site, &operations, "acme").await;
    prepare(&site, &operations, "acme", "admin", None).await;
    let present = get.call(&admin, None).send().await;
    assert!(saw_nothing(get, &absent, &present).is_err() && saw_nothing(get, &present, &present).is_err());
    assert_ne!(before, everything(&site, &operations, "acme").await);
}
