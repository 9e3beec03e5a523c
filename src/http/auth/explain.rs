//! Every check of a token, one by one, for the operator: what a refused client is told in one sentence, and what comes after it.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use serde::de::IgnoredAny;

use super::bearer::Selection;
use super::claims::{self, Claims, text_of};
use super::issuer::Issuer;
use super::keys::Found;
use super::token::Token;
use super::{Authenticator, is_about_claims};
use crate::domain::clock::Timestamp;
use crate::domain::diagnosis::{Diagnosis, Verdict};
use crate::domain::principal::{Permission, Permissions};
use crate::error::{Code, Error};

/// Most characters of a token's own words that are shown.
const MAX_SHOWN: usize = 200;

impl Authenticator {
    /// Looks at a token, check by check, in the order in which requests are checked; goes on after one that fails as long as the next one
    /// makes sense. What it says is for the operator: it repeats claims of the token.
    pub async fn explain(&self, text: &str) -> Vec<Diagnosis> {
        let mut found = Vec::new();
        self.look(text, &mut found).await;
        // What the checks above might miss, the check of requests does not.
        let verdict = match format!("Bearer {text}").parse() {
            Ok(value) => self.check(&HeaderMap::from_iter([(AUTHORIZATION, value)])).await.map(|(principal, _)| principal),
            Err(_) => Err(Error::new(Code::TokenInvalid, "The token holds characters that no header holds.")),
        };
        let is_well = found.iter().all(|check| check.verdict != Verdict::Wrong);
        match verdict {
            Ok(principal) => {
                let until = principal.expires_at;
                found.push(Diagnosis::fine("token", format!("accepted, until {until}")));
            }
            Err(error) if is_well && error.code != Code::TenantForbidden => found.push(wrong("token", &error)),
            Err(_) => {}
        }
        found
    }

    async fn look(&self, text: &str, found: &mut Vec<Diagnosis>) {
        if text.len() > self.max_token_bytes {
            let detail = format!("it has {} bytes, more than auth.max_token_bytes ({})", text.len(), self.max_token_bytes);
            found.push(
                Diagnosis::wrong("token size", detail).advise("Have the issuer put less into it (roles, groups), or raise the setting."),
            );
            return;
        }
        let token = match Token::parse(text) {
            Ok(token) => token,
            Err(error) => {
                let advice = "Copy the access token whole, without quotes: three parts with dots between them. If it is whole, have the issuer sign with RS256, PS256, ES256 or EdDSA.";
                return found.push(Diagnosis::wrong("token form", error.detail).advise(advice));
            }
        };
        let form = format!("a signed JWT, algorithm {:?}, key {}", token.algorithm, shown(&token.kid));
        found.push(Diagnosis::fine("token form", form));
        let claims = token.claims();
        let issuer = match self.select(&claims) {
            Ok((_, issuer)) => issuer,
            Err(error) => {
                let configured: Vec<&str> = self.issuers.iter().map(|issuer| &*issuer.issuer).collect();
                let named = claims.raw("iss").and_then(text_of).unwrap_or_default();
                let detail = format!("{} It names {}; configured: {}", error.detail, shown(&named), configured.join(", "));
                let advice = "Correct auth.issuers.NAME.issuer to what the token names, or get a token of a configured issuer. Keycloak puts the host \
                              there by which its user reached it, unless its hostname is set.";
                return found.push(Diagnosis::wrong("token issuer", detail).advise(advice));
            }
        };
        found.push(Diagnosis::fine("token issuer", &*issuer.issuer));
        found.push(self.signature(issuer, text, &token).await);
        let now = self.clock.now();
        found.push(result(
            "token type",
            claims::check_profile(issuer.profile, token.header_type, &claims).map(|()| "an access token".to_owned()),
        ));
        found.push(times(&claims, now, self.leeway_seconds));
        found.push(audience(issuer, &claims));
        found.push(result("token user", claims::subject(&claims).map(|subject| shown(subject.as_str()))));
        found.push(client(issuer, &claims));
        found.push(tenant(issuer, &claims));
        found.push(self.permissions(issuer, &claims));
    }

    async fn signature(&self, issuer: &Issuer, text: &str, token: &Token) -> Diagnosis {
        let subject = "token signature";
        let set = match issuer.keys.find(&token.kid).await {
            Found::Known(set) => set,
            Found::Unknown => {
                return Diagnosis::wrong(subject, format!("the issuer publishes no usable key {}", shown(&token.kid))).advise(
                    "Get a new token: the key was withdrawn, or is another issuer's of the same name. An HS512 token is a refresh token.",
                );
            }
            Found::NoKeys => {
                return Diagnosis::wrong(subject, "the keys of the issuer are not there, so nothing can be verified")
                    .advise("See what is said about the issuer above.");
            }
        };
        let Some(key) = set.get(&token.kid).filter(|key| key.allows(token.algorithm)) else {
            return Diagnosis::wrong(subject, format!("the key {} is not for the algorithm {:?}", shown(&token.kid), token.algorithm))
                .advise("Get a new token of this issuer.");
        };
        let Some(validation) = issuer.validation(token.algorithm) else {
            return Diagnosis::wrong(subject, format!("the algorithm {:?} is not accepted", token.algorithm));
        };
        match jsonwebtoken::decode::<IgnoredAny>(text, &key.decoding, validation) {
            Err(error) if !is_about_claims(error.kind()) => {
                Diagnosis::wrong(subject, "it does not fit the issuer's key: the token was changed, or another key signed it")
                    .advise("Copy the token whole, or get a new one.")
            }
            _ => Diagnosis::fine(subject, format!("fits the issuer's key {}", shown(&token.kid))),
        }
    }

    fn permissions(&self, issuer: &Issuer, claims: &Claims<'_>) -> Diagnosis {
        let subject = "token permissions";
        let roles = match claims::roles(issuer, claims) {
            Ok(roles) => roles,
            Err(error) => return wrong(subject, &error),
        };
        let granted = self.roles.grant(roles.iter().map(String::as_str));
        let names = list(roles.iter().map(|role| shown(role)));
        if granted == Permissions::default() {
            let place = match issuer.profile {
                crate::config::TokenProfile::Keycloak => format!("realm_access.roles and resource_access[{:?}].roles", issuer.audience),
                crate::config::TokenProfile::Rfc9068 => format!("the claim {}", issuer.roles_claim),
            };
            return Diagnosis::wrong(
                subject,
                format!("its roles ({names}) grant nothing, so that every request is answered 403; they were looked for in {place}"),
            )
            .advise("Give the user a role of auth.roles, such as nworkflow-reader, or one named like a permission, and get a new token.");
        }
        let permissions: Vec<&str> = Permission::ALL.into_iter().filter(|one| granted.contains(*one)).map(Permission::name).collect();
        Diagnosis::fine(subject, format!("the roles {names} grant {}", permissions.join(", ")))
    }
}

fn times(claims: &Claims<'_>, now: Timestamp, leeway: i64) -> Diagnosis {
    let subject = "token times";
    let second = |name: &str| claims.raw(name).and_then(|raw| raw.parse::<i64>().ok());
    let told = |name: &str| {
        let away = second(name)?.saturating_sub(now.as_seconds());
        Some(if away < 0 { format!("{name} was {} s ago", away.unsigned_abs()) } else { format!("{name} is in {away} s") })
    };
    let all = list(["exp", "nbf", "iat"].into_iter().filter_map(told));
    match claims::check_times(claims, now.as_seconds(), leeway) {
        Ok(_) => Diagnosis::fine(subject, all),
        Err(error) => {
            let advice = match error.code {
                Code::TokenExpired => {
                    "Get a new token. If it is new, the clock of this machine or of the issuer is wrong: set both by NTP."
                }
                _ if claims.raw("exp").is_none() => "Have the issuer put the claim exp into its tokens.",
                _ => "Set the clocks of this machine and of the issuer by NTP.",
            };
            Diagnosis::wrong(subject, format!("{} By the clock of this machine {all}; auth.leeway_seconds is {leeway}", error.detail))
                .advise(advice)
        }
    }
}

fn audience(issuer: &Issuer, claims: &Claims<'_>) -> Diagnosis {
    let subject = "token audience";
    match claims::check_audience(&issuer.audience, claims) {
        Ok(()) => Diagnosis::fine(subject, format!("contains {}", issuer.audience)),
        Err(error) => {
            let is = claims
                .raw("aud")
                .map_or_else(|| "There is no claim aud".to_owned(), |raw| format!("aud is {}", shown(raw.trim_matches('"'))));
            let advice = format!(
                "In Keycloak, on the client that gets the token: client scopes, the dedicated one, add a mapper of type Audience with the included client \
                 audience {}, for the access token. Then get a new token.",
                issuer.audience
            );
            Diagnosis::wrong(subject, format!("{} {is}", error.detail)).advise(advice)
        }
    }
}

fn client(issuer: &Issuer, claims: &Claims<'_>) -> Diagnosis {
    let subject = "token client";
    let error = match claims::check_client(&issuer.clients, claims) {
        Ok(client) => return Diagnosis::fine(subject, client.map_or_else(|| "none is named".to_owned(), |name| shown(&name))),
        Err(error) => error,
    };
    let setting = format!("auth.issuers.{}.clients", issuer.name);
    let allowed = list(issuer.clients.iter().map(|name| shown(name)));
    let mut named = ["azp", "client_id"].into_iter().filter_map(|claim| Some((claim, claims.raw(claim).and_then(text_of)?)));
    if let Some((claim, name)) =
        named.clone().find(|(_, name)| !issuer.clients.is_empty() && !issuer.clients.iter().any(|known| known == name))
    {
        let name = shown(&name);
        return Diagnosis::wrong(subject, format!("the claim {claim} is {name}, which is not in {setting} ({allowed})"))
            .advise(format!("Add {name} to {setting}, if that client may call this server, or get the token with a client of that list."));
    }
    if named.next().is_none() && !issuer.clients.is_empty() {
        return Diagnosis::wrong(subject, format!("it has neither azp nor client_id, and {setting} lets in only {allowed}"))
            .advise(format!("Have the issuer put the client into the claim azp, or empty {setting}, which lets in every client."));
    }
    wrong(subject, &error)
}

fn tenant(issuer: &Issuer, claims: &Claims<'_>) -> Diagnosis {
    let subject = "token tenant";
    match issuer.tenant.tenant(claims, Selection::None) {
        Ok(tenant) if !issuer.tenants.is_empty() && !issuer.tenants.contains(&tenant) => {
            Diagnosis::wrong(subject, format!("it names the tenant {tenant}, which is missing in auth.issuers.{}.tenants", issuer.name))
                .advise(format!("Add {tenant:?} to auth.issuers.{}.tenants, if the issuer may name it.", issuer.name))
        }
        Ok(tenant) => Diagnosis::fine(subject, tenant.as_str()),
        // A choice that each request makes.
        Err(error) if error.code == Code::TenantForbidden => Diagnosis::note(subject, error.detail),
        Err(error) => wrong(subject, &error),
    }
}

fn result(subject: &str, result: Result<String, Error>) -> Diagnosis {
    match result {
        Ok(detail) => Diagnosis::fine(subject, detail),
        Err(error) => wrong(subject, &error),
    }
}

/// The sentence for clients says what is wrong, and behind its colon what to do.
fn wrong(subject: &str, error: &Error) -> Diagnosis {
    let sentence = error.detail.trim_end_matches('.');
    match sentence.split_once(": ") {
        Some((what, advice)) => {
            let mut advice = format!("{advice}.");
            if let Some(first) = advice.get_mut(..1) {
                first.make_ascii_uppercase();
            }
            Diagnosis::wrong(subject, what).advise(advice)
        }
        None => Diagnosis::wrong(subject, sentence).advise("Get a new access token of this issuer."),
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

/// A word of the token, so that it cannot draw on the terminal, and not without end.
fn shown(text: &str) -> String {
    let short: String = text.chars().take(MAX_SHOWN).collect();
    format!("{short:?}")
}
