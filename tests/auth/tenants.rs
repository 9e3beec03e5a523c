//! From tokens to tenants.

use nworkflow_state::error::Code;
use serde_json::json;

use super::Rig;

#[tokio::test]
async fn a_claim_names_the_tenant_and_the_header_cannot_change_it() {
    let rig = Rig::start().await;
    let token = rig.issuer.token().tenant("globex").build();
    assert_eq!(rig.call(&token).await.unwrap().tenant.as_str(), "globex");
    assert_eq!(rig.call_as(&token, "globex").await.unwrap().tenant.as_str(), "globex");
    for other in ["acme", "", "GLOBEX", "globex,acme"] {
        assert_eq!(rig.call_as(&token, other).await.unwrap_err().code, Code::TenantForbidden, "{other}");
    }
    for missing in
        [rig.issuer.token().without("tenant_id"), rig.issuer.token().claim("tenant_id", json!(null)), rig.issuer.token().tenant("")]
    {
        assert_eq!(rig.code(&missing.build()).await, Some(Code::TenantMissing));
    }
}

#[tokio::test]
async fn an_organization_is_the_default_and_several_need_a_choice() {
    let rig = Rig::start_with(|issuer| issuer.tenant = "organization".to_owned()).await;
    let with = |value| rig.issuer.token().claim("organization", value).build();
    for one in [json!(["acme"]), json!({"acme": {"id": "42c3e46f", "groups": ["/a"]}})] {
        let token = with(one);
        assert_eq!(rig.call(&token).await.unwrap().tenant.as_str(), "acme");
        assert_eq!(rig.call_as(&token, "acme").await.unwrap().tenant.as_str(), "acme");
        assert_eq!(rig.call_as(&token, "globex").await.unwrap_err().code, Code::TenantForbidden);
    }
    for two in [json!(["acme", "globex"]), json!({"acme": {}, "globex": {}})] {
        let token = with(two);
        assert_eq!(rig.code(&token).await, Some(Code::TenantForbidden));
        // One token, two tenants: the cache must tell them apart, hit or miss.
        for tenant in ["acme", "globex", "acme", "globex"] {
            assert_eq!(rig.call_as(&token, tenant).await.unwrap().tenant.as_str(), tenant);
        }
        assert_eq!(rig.call_as(&token, "initech").await.unwrap_err().code, Code::TenantForbidden);
        assert_eq!(rig.code(&token).await, Some(Code::TenantForbidden));
    }
    for missing in [rig.issuer.token().build(), with(json!([])), with(json!({})), with(json!(null))] {
        assert_eq!(rig.code(&missing).await, Some(Code::TenantMissing));
        assert_eq!(rig.call_as(&missing, "acme").await.unwrap_err().code, Code::TenantMissing);
    }
    for wrong in [json!("acme"), json!([1]), json!(7), json!(["a/b"]), json!([["acme"]])] {
        assert_eq!(rig.code(&with(wrong)).await, Some(Code::TokenInvalid));
    }
}

#[tokio::test]
async fn realm_and_fixed_come_from_the_configuration() {
    for rule in ["realm", "fixed:acme"] {
        let rig = Rig::start_with(|issuer| issuer.tenant = rule.to_owned()).await;
        let token = rig.issuer.token().tenant("evil").build();
        assert_eq!(rig.call(&token).await.unwrap().tenant.as_str(), "acme");
        assert_eq!(rig.call_as(&token, "evil").await.unwrap_err().code, Code::TenantForbidden);
    }
}

#[tokio::test]
async fn a_list_of_tenants_holds_for_every_rule() {
    for (rule, claim) in [("claim:tenant_id", "tenant_id"), ("organization", "organization")] {
        let rig = Rig::start_with(|issuer| {
            issuer.tenant = rule.to_owned();
            issuer.tenants = vec!["acme".to_owned(), "initech".to_owned()];
        })
        .await;
        let with = |tenant: &str| {
            let value = if claim == "organization" { json!([tenant]) } else { json!(tenant) };
            rig.issuer.token().claim(claim, value).build()
        };
        assert!(rig.call(&with("acme")).await.is_ok());
        assert_eq!(rig.code(&with("globex")).await, Some(Code::TokenInvalid), "{rule}");
        assert_eq!(rig.call_as(&with("globex"), "globex").await.unwrap_err().code, Code::TokenInvalid, "{rule}");
    }
}
