//! `dev`: the server for trying it. Prints what to paste once it is ready.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use super::process::{self, MetricsPort, Server};
use super::{Failure, Result, block_on, loopback_client, print, settings};
use crate::app::AppOptions;
use crate::domain::clock::Clock;
use crate::http::auth::{DevelopmentClaims, DevelopmentIssuer};

/// How often readiness is asked for before it is given up.
const READINESS_TRIES: u32 = 300;
/// The pause between two questions.
const READINESS_PAUSE: Duration = Duration::from_millis(100);

pub(super) fn run(settings: &settings::SettingsArguments) -> Result<ExitCode> {
    let config = settings.load(&[("auth.development", "true")])?;
    process::open_log(&config)?;
    process::warn_about_unused(&config);
    let data_dir = config.data_dir.clone();
    block_on(async {
        let server = Server::start(config, AppOptions { development: true }, MetricsPort::Optional).await?;
        match introduce(&server, &data_dir).await {
            Ok(()) => Ok(server.run().await),
            Err(failure) => {
                let _ = server.shut_down().await;
                Err(failure)
            }
        }
    })?
}

/// Waits until the server is ready and prints how to talk to it.
async fn introduce(server: &Server, data_dir: &Path) -> Result<()> {
    tokio::select! {
        ready = wait_until_ready(server.address) => ready?,
        // The signal is dealt with where every other is.
        () = server.lifecycle().soft().cancelled() => return Ok(()),
    }
    let fail = |error: crate::http::auth::DevelopmentKeyError| Failure::Other(error.to_string());
    let token =
        DevelopmentIssuer::load(data_dir).and_then(|issuer| issuer.sign(&DevelopmentClaims::default(), &Clock::new())).map_err(fail)?;
    print(&introduction(server.address, &token))
}

async fn wait_until_ready(address: SocketAddr) -> Result<()> {
    let client = loopback_client()?;
    let mut last = String::new();
    for _ in 0..READINESS_TRIES {
        match client.get(format!("http://{address}/health/ready")).send().await {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(answer) => last = format!("/health/ready answers {}", answer.status()),
            Err(error) => last = error.to_string(),
        }
        tokio::time::sleep(READINESS_PAUSE).await;
    }
    Err(Failure::Other(format!("the server does not become ready: {last}")))
}

/// Each command works in a fresh shell, so each carries the token.
fn introduction(address: SocketAddr, token: &str) -> String {
    let hours = DevelopmentClaims::DEFAULT_TTL_SECONDS / 3600;
    let (tenant, subject, role) = (DevelopmentClaims::DEFAULT_TENANT, DevelopmentClaims::DEFAULT_SUBJECT, DevelopmentClaims::DEFAULT_ROLE);
    let base = format!("http://{address}");
    let authorization = format!("-H 'Authorization: Bearer {token}'");
    let json = "-H 'Content-Type: application/json'";
    let state = format!("{base}/workflows/order/executions/1/state");
    let scope = format!("{base}/variables/workflow:order");
    format!(
        "\
nworkflow-state {version} is ready.

Address:        {base}
Documentation:  {base}/docs
Token:          {token}
                tenant {tenant}, subject {subject}, role {role}, valid for {hours} hours;
                others: nworkflow-state token --tenant T --subject S --role R

Save a state:
curl -sS -w '\\n' -X PUT {authorization} {json} -d '{{\"marking\":{{\"received\":1}},\"metadata\":{{\"customer\":\"c-7\"}}}}' '{state}'

Read it back:
curl -sS -w '\\n' {authorization} '{state}'

Set a variable and list its scope:
curl -sS -w '\\n' -X PUT {authorization} {json} -d '{{\"value\":42}}' '{scope}/limit' && curl -sS -w '\\n' {authorization} '{scope}'

Ctrl-C stops the server.
",
        version = env!("CARGO_PKG_VERSION"),
    )
}
