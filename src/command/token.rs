//! `token`: a token of the development issuer, alone on the standard output, so that scripts can take it.

use std::process::ExitCode;

use super::{Failure, Result, print, settings};
use crate::domain::clock::Clock;
use crate::domain::id::{TenantId, UserId};
use crate::http::auth::{DevelopmentClaims, DevelopmentIssuer};

/// Longest life of a development token, in seconds: a year.
const MAX_TTL_SECONDS: u64 = 365 * 24 * 3600;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The tenant
    #[arg(long, default_value = DevelopmentClaims::DEFAULT_TENANT, value_parser = tenant)]
    tenant: TenantId,
    /// The user
    #[arg(long, default_value = DevelopmentClaims::DEFAULT_SUBJECT, value_parser = subject)]
    subject: UserId,
    /// A role; may be repeated
    #[arg(long, default_value = DevelopmentClaims::DEFAULT_ROLE)]
    role: Vec<String>,
    /// Seconds until the token expires
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = DevelopmentClaims::DEFAULT_TTL_SECONDS,
        value_parser = clap::value_parser!(u64).range(1..=MAX_TTL_SECONDS)
    )]
    ttl: u64,
}

pub(super) fn run(settings: &settings::SettingsArguments, arguments: &Arguments) -> Result<ExitCode> {
    let config = settings.load(&[])?;
    let fail = |error: crate::http::auth::DevelopmentKeyError| Failure::Other(error.to_string());
    let issuer = DevelopmentIssuer::load(&config.data_dir).map_err(fail)?;
    let claims = DevelopmentClaims {
        tenant: arguments.tenant.clone(),
        subject: arguments.subject.clone(),
        roles: arguments.role.clone(),
        ttl_seconds: arguments.ttl,
    };
    let token = issuer.sign(&claims, &Clock::new()).map_err(fail)?;
    print(&format!("{token}\n"))?;
    Ok(ExitCode::SUCCESS)
}

fn tenant(text: &str) -> std::result::Result<TenantId, String> {
    TenantId::parse(text).map_err(|error| error.to_string())
}

fn subject(text: &str) -> std::result::Result<UserId, String> {
    UserId::parse(text).map_err(|error| error.to_string())
}
