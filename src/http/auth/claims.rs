//! The checks of a token's claims, after its signature was verified.
//!
//! Every claim that is read is checked for its type here: a claim of the wrong type refuses the token and is never taken for absent.
//! Times are compared with the injected clock, which is why they are checked here and not by the library.

use std::borrow::Cow;

use crate::config::TokenProfile;
use crate::domain::clock::Timestamp;
use crate::domain::document::{self, Kind};
use crate::domain::id::{UserId, check_user_id};
use crate::error::{Code, Error};

use super::bearer::invalid;
use super::issuer::Issuer;
use super::token::HeaderType;

/// The last second of the year 9999: the greatest time that a claim may name.
const MAX_SECONDS: i64 = 253_402_300_799;

/// The members of a validated JSON object, by name. Their names are all different.
#[derive(Debug)]
pub(super) struct Claims<'a>(Vec<(Cow<'a, str>, &'a str)>);

impl<'a> Claims<'a> {
    pub(super) fn read(object: &'a str) -> Self {
        Self(document::members(object).collect())
    }

    /// The raw JSON of a claim.
    pub(super) fn raw(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(claim, _)| claim == name).map(|(_, raw)| *raw)
    }

    /// A claim that is a string when it is there.
    fn text(&self, name: &str) -> Result<Option<Cow<'a, str>>, Error> {
        self.raw(name).map(|raw| text_of(raw).ok_or_else(|| invalid(format!("The claim {name} is not a string.")))).transpose()
    }

    /// A claim that is a time in whole seconds when it is there.
    fn time(&self, name: &str) -> Result<Option<i64>, Error> {
        let wrong = || invalid(format!("The claim {name} is not a time in whole seconds since 1970."));
        self.raw(name).map(|raw| raw.parse().ok().filter(|seconds| (1..=MAX_SECONDS).contains(seconds)).ok_or_else(wrong)).transpose()
    }
}

/// The text of a raw JSON string.
pub(super) fn text_of(raw: &str) -> Option<Cow<'_, str>> {
    (document::kind(raw) == Kind::String).then(|| document::unescape(raw))
}

/// The texts of a raw JSON array of strings.
pub(super) fn texts_of(raw: &str) -> Option<Vec<String>> {
    if document::kind(raw) != Kind::Array {
        return None;
    }
    document::elements(raw).map(|element| text_of(element).map(Cow::into_owned)).collect()
}

/// What the checked claims say, apart from tenant and roles.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) subject: UserId,
    pub(super) client: Option<String>,
    pub(super) actor: Option<String>,
    pub(super) expires_at: Timestamp,
}

/// Checks everything but tenant and roles.
pub(super) fn check(issuer: &Issuer, header_type: HeaderType, claims: &Claims<'_>, now: Timestamp, leeway: i64) -> Result<Checked, Error> {
    check_profile(issuer.profile, header_type, claims)?;
    let expires_at = check_times(claims, now.as_seconds(), leeway)?;
    check_audience(&issuer.audience, claims)?;
    let subject = subject(claims)?;
    let client = check_client(&issuer.clients, claims)?;
    Ok(Checked { subject, client, actor: actor(claims)?, expires_at })
}

/// Keeps out what the issuer signs with the same key but did not make for calling an API.
pub(super) fn check_profile(profile: TokenProfile, header_type: HeaderType, claims: &Claims<'_>) -> Result<(), Error> {
    match profile {
        TokenProfile::Keycloak => {
            if header_type == HeaderType::Other {
                return Err(invalid("The token's header typ is neither JWT nor at+jwt: it is no access token."));
            }
            if claims.text("typ")?.as_deref() != Some("Bearer") {
                return Err(invalid("The claim typ is not Bearer: send the access token, no ID, refresh or logout token."));
            }
        }
        TokenProfile::Rfc9068 => {
            if header_type != HeaderType::AccessToken {
                return Err(invalid("The token's header typ is not at+jwt: send an access token of RFC 9068."));
            }
        }
    }
    if claims.raw("nonce").is_some() || claims.raw("at_hash").is_some() {
        return Err(invalid("The token has a claim that only ID tokens have: send the access token."));
    }
    // Taking such a token without the proof would silently undo the binding for which the client asked.
    if claims.raw("cnf").is_some() {
        return Err(invalid("The token is bound to a key of the client (cnf): this server takes only plain bearer tokens."));
    }
    Ok(())
}

pub(super) fn check_times(claims: &Claims<'_>, now: i64, leeway: i64) -> Result<Timestamp, Error> {
    let expiry = claims.time("exp")?.ok_or_else(|| invalid("The token has no claim exp: a token that never ends is not accepted."))?;
    let not_before = claims.time("nbf")?;
    let issued = claims.time("iat")?;
    if expiry.saturating_add(leeway) <= now {
        return Err(Error::new(Code::TokenExpired, "The time in the claim exp has passed: get a new token."));
    }
    if not_before.is_some_and(|time| time > now.saturating_add(leeway)) {
        return Err(invalid("The time in the claim nbf has not come yet: compare the clocks of issuer and server."));
    }
    if issued.is_some_and(|time| time > now.saturating_add(leeway)) {
        return Err(invalid("The time in the claim iat is in the future: compare the clocks of issuer and server."));
    }
    Ok(Timestamp::from_microseconds(0).plus_seconds(expiry))
}

pub(super) fn check_audience(audience: &str, claims: &Claims<'_>) -> Result<(), Error> {
    let missing = || invalid(format!("aud does not contain {audience}: add an Audience mapper for this server's client."));
    let raw = claims.raw("aud").ok_or_else(missing)?;
    let contained = match text_of(raw) {
        Some(text) => text == audience,
        None => {
            let texts = texts_of(raw).ok_or_else(|| invalid("The claim aud is neither a string nor an array of strings."))?;
            texts.iter().any(|text| text == audience)
        }
    };
    if contained { Ok(()) } else { Err(missing()) }
}

/// The user.
pub(super) fn subject(claims: &Claims<'_>) -> Result<UserId, Error> {
    let subject = claims.text("sub")?.ok_or_else(|| {
        invalid("The token has no claim sub: give the client a scope that brings it (in Keycloak the client scope basic).")
    })?;
    UserId::parse(&subject).map_err(|why| invalid(format!("The claim sub {why}, so it is no user id.")))
}

/// The client that obtained the token: `azp`, else `client_id`. Each that is there must be among the allowed ones.
pub(super) fn check_client(allowed: &[String], claims: &Claims<'_>) -> Result<Option<String>, Error> {
    let named = [("azp", claims.text("azp")?), ("client_id", claims.text("client_id")?)];
    let mut client = None;
    for (claim, text) in named {
        let Some(text) = text else { continue };
        check_user_id(&text).map_err(|why| invalid(format!("The claim {claim} {why}.")))?;
        if !allowed.is_empty() && !allowed.iter().any(|name| *name == text) {
            return Err(invalid(format!("The claim {claim} names a client that may not call this server.")));
        }
        client = client.or(Some(text.into_owned()));
    }
    if client.is_none() && !allowed.is_empty() {
        return Err(invalid("The token names no client (azp, client_id), and only some clients may call this server."));
    }
    Ok(client)
}

/// RFC 8693 section 4.1: who acts for the subject. For logs only.
fn actor(claims: &Claims<'_>) -> Result<Option<String>, Error> {
    let Some(raw) = claims.raw("act") else { return Ok(None) };
    let wrong = || invalid("The claim act does not name an actor.");
    if document::kind(raw) != Kind::Object {
        return Err(wrong());
    }
    let Some(subject) = Claims::read(raw).text("sub")? else { return Ok(None) };
    check_user_id(&subject).map_err(|_| wrong())?;
    Ok(Some(subject.into_owned()))
}

/// The roles that count at this server: never another client's, never `scope`.
pub(super) fn roles(issuer: &Issuer, claims: &Claims<'_>) -> Result<Vec<String>, Error> {
    match issuer.profile {
        TokenProfile::Keycloak => {
            let mut roles = nested_roles(claims, "realm_access")?;
            if let Some(raw) = claims.raw("resource_access") {
                roles.extend(nested_roles(&object(raw, "resource_access")?, &issuer.audience)?);
            }
            Ok(roles)
        }
        TokenProfile::Rfc9068 => {
            let name = issuer.roles_claim.as_str();
            let Some(raw) = claims.raw(name) else { return Ok(Vec::new()) };
            texts_of(raw).ok_or_else(|| invalid(format!("The claim {name} is not an array of strings.")))
        }
    }
}

fn nested_roles(claims: &Claims<'_>, name: &str) -> Result<Vec<String>, Error> {
    let Some(raw) = claims.raw(name) else { return Ok(Vec::new()) };
    let Some(raw) = object(raw, name)?.raw("roles") else { return Ok(Vec::new()) };
    texts_of(raw).ok_or_else(|| invalid(format!("The roles of {name} are not an array of strings.")))
}

fn object<'a>(raw: &'a str, name: &str) -> Result<Claims<'a>, Error> {
    if document::kind(raw) == Kind::Object { Ok(Claims::read(raw)) } else { Err(invalid(format!("The member {name} is not an object."))) }
}
