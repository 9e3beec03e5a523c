//! From a verified token to its tenant.

use std::collections::BTreeSet;

use crate::domain::document::Kind;
use crate::domain::id::TenantId;
use crate::error::{Code, Error};

use super::bearer::{Selection, invalid};
use super::claims::{self, Claims};
use super::issuer::AuthConfigError;

/// Where an issuer's tokens name their tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TenantRule {
    /// A claim of the token's top object.
    Claim(String),
    /// Keycloak's claim `organization`: one of several.
    Organization,
    /// Always this one: `fixed:NAME`, or `realm` with the issuer's last path segment.
    Fixed(TenantId),
}

impl TenantRule {
    /// Reads `claim:NAME`, `organization`, `realm` or `fixed:NAME`.
    pub(super) fn parse(text: &str, issuer: &str) -> Result<Self, AuthConfigError> {
        let tenant = |name: &str, what: &str| {
            TenantId::parse(name).map(Self::Fixed).map_err(|why| AuthConfigError(format!("{what} {why}, so it is no tenant")))
        };
        match text.split_once(':') {
            None if text == "organization" => Ok(Self::Organization),
            None if text == "realm" => {
                let path = issuer.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, path)| path);
                tenant(path.trim_end_matches('/').rsplit('/').next().unwrap_or_default(), "the issuer's last path segment")
            }
            Some(("claim", name)) if !name.is_empty() => Ok(Self::Claim(name.to_owned())),
            Some(("fixed", name)) => tenant(name, "the name after fixed:"),
            _ => Err(AuthConfigError(format!("{text:?} is none of claim:NAME, organization, realm, fixed:NAME"))),
        }
    }

    /// The tenants that the rule can yield, given the issuer's list; `None`: any.
    pub(super) fn reach(&self, tenants: &BTreeSet<TenantId>) -> Option<BTreeSet<TenantId>> {
        match self {
            Self::Fixed(tenant) => Some(BTreeSet::from([tenant.clone()])),
            Self::Claim(_) | Self::Organization => (!tenants.is_empty()).then(|| tenants.clone()),
        }
    }

    /// The tenant of a request: the one that the token names or, of several, the one that the header selects.
    pub(super) fn tenant(&self, claims: &Claims<'_>, selection: Selection<'_>) -> Result<TenantId, Error> {
        let tenant = match self {
            Self::Fixed(tenant) => tenant.clone(),
            Self::Claim(name) => single(claims, name)?,
            Self::Organization => return organization(claims, selection),
        };
        match selection {
            Selection::None => Ok(tenant),
            Selection::Tenant(selected) if selected == tenant.as_str() => Ok(tenant),
            Selection::Tenant(_) => Err(forbidden("X-Tenant-Id is not the token's tenant: leave the header out.")),
            Selection::Unusable => Err(unusable()),
        }
    }
}

fn single(claims: &Claims<'_>, name: &str) -> Result<TenantId, Error> {
    let missing = || {
        let detail = format!("The token has no claim {name}: have the issuer put the tenant there, for this user or this client.");
        Error::new(Code::TenantMissing, detail)
    };
    let raw = claims.raw(name).filter(|raw| *raw != "null").ok_or_else(missing)?;
    let text = claims::text_of(raw).ok_or_else(|| invalid(format!("The claim {name} is not one string, so it names no tenant.")))?;
    if text.is_empty() {
        return Err(missing());
    }
    TenantId::parse(&text).map_err(|why| invalid(format!("The tenant in the claim {name} {why}.")))
}

/// The claim has two shapes, by the mapper's settings: an array of aliases, or an object whose members' names are the aliases.
fn organization(claims: &Claims<'_>, selection: Selection<'_>) -> Result<TenantId, Error> {
    let missing = || {
        let detail = "The token names no organization: ask the issuer for the scope organization, and make the user a member of one.";
        Error::new(Code::TenantMissing, detail)
    };
    let raw = claims.raw("organization").filter(|raw| *raw != "null").ok_or_else(missing)?;
    let shape = || invalid("The claim organization is neither an array of strings nor an object.");
    let aliases: Vec<String> = match crate::domain::document::kind(raw) {
        Kind::Object => crate::domain::document::members(raw).map(|(alias, _)| alias.into_owned()).collect(),
        Kind::Array => claims::texts_of(raw).ok_or_else(shape)?,
        _ => return Err(shape()),
    };
    let chosen = match (selection, aliases.as_slice()) {
        (_, []) => return Err(missing()),
        (Selection::None, [alias]) => alias,
        (Selection::None, _) => return Err(forbidden("The token names several organizations: select one with the header X-Tenant-Id.")),
        (Selection::Tenant(selected), _) => aliases
            .iter()
            .find(|alias| *alias == selected)
            .ok_or_else(|| forbidden("X-Tenant-Id is none of the organizations that the token names."))?,
        (Selection::Unusable, _) => return Err(unusable()),
    };
    TenantId::parse(chosen).map_err(|why| invalid(format!("The organization's alias {why}, so it is no tenant.")))
}

fn forbidden(detail: &str) -> Error {
    Error::new(Code::TenantForbidden, detail)
}

fn unusable() -> Error {
    forbidden("X-Tenant-Id is sent several times or is not ASCII: send it once or not at all.")
}
