//! From roles to permissions.

use nworkflow_state::domain::principal::Permission;
use serde_json::json;

use super::Rig;

#[tokio::test]
async fn roles_come_from_the_realm_and_from_this_servers_client_only() {
    let rig = Rig::start().await;
    let token = || rig.issuer.token();
    let held = |token: crate::support::tokens::TokenBuilder| {
        let rig = &rig;
        async move {
            let principal = rig.call(&token.build()).await.unwrap();
            Permission::ALL.into_iter().filter(|permission| principal.may(*permission)).count()
        }
    };
    assert_eq!(held(token()).await, 0);
    assert_eq!(held(token().realm_roles(&["nworkflow-reader"])).await, 5);
    assert_eq!(held(token().realm_roles(&["nworkflow-writer"])).await, 9);
    assert_eq!(held(token().realm_roles(&["nworkflow-engine"])).await, 12);
    assert_eq!(held(token().realm_roles(&["nworkflow-admin"])).await, Permission::ALL.len());
    assert_eq!(held(token().client_roles("nworkflow-state", &["states:read"])).await, 1);
    assert_eq!(held(token().client_roles("nworkflow-state", &["nworkflow-reader"]).realm_roles(&["cache:clear"])).await, 6);
    // Another client's roles, scopes, groups and unknown names grant nothing.
    assert_eq!(held(token().client_roles("realm-management", &["admin", "nworkflow-admin"])).await, 0);
    assert_eq!(held(token().claim("scope", "openid nworkflow-admin states:read")).await, 0);
    assert_eq!(held(token().claim("groups", json!(["/nworkflow-admin"])).claim("roles", json!(["admin"]))).await, 0);
    assert_eq!(held(token().realm_roles(&["NWORKFLOW-ADMIN", "states:*", "operator", ""])).await, 0);
    assert_eq!(held(token().claim("realm_access", json!({}))).await, 0);
}

#[tokio::test]
async fn the_role_table_is_configuration() {
    let rig = Rig::start_both(|_, config| {
        config.roles.clear();
        config.roles.insert("clerk".to_owned(), vec!["states:read".to_owned(), "delegate".to_owned()]);
    })
    .await;
    let principal = rig.call(&rig.issuer.token().realm_roles(&["clerk", "nworkflow-admin"]).build()).await.unwrap();
    assert!(principal.may(Permission::Delegate) && principal.may(Permission::StatesRead));
    assert!(!principal.may(Permission::StatesWrite));
}
