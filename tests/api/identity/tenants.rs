//! Tenants, profiles and roles of tokens, as they decide about requests.

use nworkflow_state::config::TokenProfile;
use nworkflow_state::store::Backend;
use serde_json::json;

use super::{BODY, STATE};
use crate::api::site::Site;
use crate::support::tokens::TokenBuilder;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_of_two_organizations_selects_one_of_them_and_no_other() {
    let site = Site::sqlite_with(|issuer, _| issuer.tenant = "organization".to_owned()).await;
    let of = |organizations| {
        site.app.bearer(
            site.issuer.token().without("tenant_id").realm_roles(&["nworkflow-writer"]).claim("organization", organizations).build(),
        )
    };
    let member = of(json!({"acme": {"id": "1"}, "globex": {"id": "2"}}));
    member.put(STATE, BODY).header("x-tenant-id", "acme").send().await.expect(201);
    // One token, remembered by now, and the other organization: its own empty world.
    member.get(STATE).header("x-tenant-id", "globex").send().await.problem(404, "state_not_found");
    member.get(STATE).header("x-tenant-id", "acme").send().await.expect(200);
    of(json!(["globex"])).get(STATE).send().await.problem(404, "state_not_found");
    of(json!(["acme"])).get(STATE).send().await.expect(200);

    let calls = site.store.calls();
    let refused = [
        member.get(STATE),
        member.get(STATE).header("x-tenant-id", "initech"),
        member.get(STATE).header("x-tenant-id", ""),
        member.get(STATE).header("x-tenant-id", "ACME"),
        member.get(STATE).header("x-tenant-id", "acme,globex"),
        member.get(STATE).header("x-tenant-id", "acme").header("x-tenant-id", "globex"),
        member.get(STATE).header("x-tenant-id", "acme").header("x-tenant-id", "acme"),
        of(json!(["globex"])).get(STATE).header("x-tenant-id", "acme"),
    ];
    for call in refused {
        let answer = call.send().await.problem(403, "tenant_forbidden");
        assert_eq!(answer.header("www-authenticate"), None);
    }
    for nothing in [json!([]), json!({}), json!(null)] {
        let answer = of(nothing).get(STATE).header("x-tenant-id", "acme").send().await.problem(401, "tenant_missing");
        assert!(answer.json()["detail"].as_str().unwrap().contains("scope organization"));
    }
    assert_eq!(site.store.calls(), calls);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_header_never_moves_a_token_of_one_tenant() {
    let site = Site::on(Backend::Sqlite).await;
    let ada = site.admin("acme");
    ada.put(STATE, BODY).header("x-tenant-id", "acme").send().await.expect(201);
    for other in ["globex", "", "acme "] {
        let call = ada.get(STATE).header("x-tenant-id", other);
        // White space around a header's value is no part of it.
        let wanted = if other.trim_end() == "acme" { 200 } else { 403 };
        call.send().await.expect(wanted);
    }
    let none = site.app.bearer(site.issuer.token().without("tenant_id").realm_roles(&["nworkflow-admin"]).build());
    none.get(STATE).header("x-tenant-id", "acme").send().await.problem(401, "tenant_missing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_rfc_9068_work_and_those_of_keycloak_do_not() {
    let site = Site::sqlite_with(|issuer, _| issuer.profile = TokenProfile::Rfc9068).await;
    let token = || TokenBuilder::rfc9068(site.issuer.issuer(), &site.issuer.key(), &site.app.clock);
    let writer = site.app.bearer(token().claim("roles", json!(["nworkflow-writer"])).build());
    let created = writer.put(STATE, BODY).send().await.expect(201);
    assert_eq!(created.json()["updated_by"], "auth0|5ba552d67");
    let reader = site.app.bearer(token().build());
    reader.get(STATE).send().await.expect(200);
    reader.put(STATE, BODY).send().await.problem(403, "permission_missing");
    writer.put("/variables/user:me/theme", r#"{"value":"dark"}"#).send().await.expect(201);
    reader.get("/variables/user:auth0%7C5ba552d67/theme").send().await.expect(200);

    let calls = site.store.calls();
    for (wrong, code) in [
        (site.issuer.token().realm_roles(&["nworkflow-admin"]), "token_invalid"),
        (token().header("typ", "JWT"), "token_invalid"),
        (token().without("tenant_id"), "tenant_missing"),
        (token().expires_in(-60), "token_expired"),
    ] {
        site.app.bearer(wrong.build()).get(STATE).send().await.problem(401, code);
    }
    let scoped = token().without("roles").claim("scope", "states:read admin").realm_roles(&["nworkflow-admin"]);
    site.app.bearer(scoped.build()).get(STATE).send().await.problem(403, "permission_missing");
    assert_eq!(site.store.calls(), calls);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_of_other_clients_and_scopes_grant_nothing() {
    let site = Site::on(Backend::Sqlite).await;
    let base = || site.issuer.token();
    for token in [
        base().client_roles("workflow-ui", &["nworkflow-admin"]),
        base().claim("scope", "nworkflow-admin states:read"),
        base().claim("roles", json!(["nworkflow-admin"])),
        base().claim("groups", json!(["/nworkflow-admin"])),
        base().realm_roles(&["NWORKFLOW-ADMIN", "nworkflow-admin ", "states:*"]),
    ] {
        site.app.bearer(token.build()).get(STATE).send().await.problem(403, "permission_missing");
    }
    assert_eq!(site.store.calls(), 0);
    site.app.bearer(base().client_roles("nworkflow-state", &["nworkflow-reader"]).build()).get(STATE).send().await.expect(404);
}
