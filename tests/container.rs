//! The image, the composition of containers and the realm of Keycloak, held against the server: what they set exists, is allowed, and fits together.
//! Containers themselves are not run here.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nworkflow_state::config::{Config, IssuerConfig, Source, load};
use nworkflow_state::domain::clock::Clock;
use nworkflow_state::domain::principal::Permission;
use nworkflow_state::http::auth::Authenticator;
use nworkflow_state::lifecycle::Lifecycle;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::issuer::TestIssuer;
use crate::support::tokens::TokenBuilder;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn composition() -> Value {
    let mut value: Value = serde_saphyr::from_str(&text("compose.yaml")).unwrap();
    let Value::Object(services) = value["services"].take() else { panic!("no services") };
    // Whether the reader has laid the anchors out already or not.
    let merged = services.into_iter().map(|(name, service)| (name, merge(service)));
    value["services"] = Value::Object(merged.collect());
    value
}

fn merge(mut value: Value) -> Value {
    if let Some(base) = value.as_object_mut().and_then(|map| map.remove("<<")) {
        for (key, inherited) in merge(base).as_object().unwrap().clone() {
            value.as_object_mut().unwrap().entry(key).or_insert(inherited);
        }
    }
    value
}

fn realm() -> Value {
    serde_json::from_str(&text("config/keycloak/realm.json")).unwrap()
}

/// What `scripts/compose-secrets` makes, in a folder of the test.
fn secrets() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("scripts")).unwrap();
    let script = folder.path().join("scripts/compose-secrets");
    std::fs::copy(root().join("scripts/compose-secrets"), &script).unwrap();
    let made = Command::new("bash").arg(&script).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    folder
}

/// The environment of a service, with its secrets in that folder.
fn environment(service: &Value, folder: &Path) -> BTreeMap<String, String> {
    let files = composition()["secrets"].clone();
    let variables = service["environment"].as_object().unwrap().iter();
    let variables = variables.map(|(name, value)| (name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned)));
    variables
        .map(|(name, value)| match value.strip_prefix("/run/secrets/") {
            Some(secret) => {
                let given = service["secrets"].as_array().unwrap();
                assert!(given.iter().any(|given| given == secret), "{name} reads the secret {secret}, which the service is not given");
                let file = folder.join(files[secret]["file"].as_str().unwrap().trim_start_matches("./"));
                assert!(file.is_file(), "scripts/compose-secrets does not make {}", file.display());
                (name, file.to_str().unwrap().to_owned())
            }
            None => (name, value),
        })
        .collect()
}

/// The settings of a service, as the server itself reads them, and as `config check` finds them.
fn settings(service: &str) -> Config {
    let folder = secrets();
    let environment = environment(&composition()["services"][service], folder.path());
    let mut command = Command::new(env!("CARGO_BIN_EXE_nworkflow-state"));
    let checked = command.args(["config", "check"]).env_clear().envs(&environment).current_dir(folder.path()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&checked.stdout), "ok\n", "{service}: {}", String::from_utf8_lossy(&checked.stderr));
    load(&Source { environment, ..Source::default() }).unwrap()
}

#[test]
fn the_settings_of_the_composition_are_known_and_pass_their_check() {
    let (server, migrate) = (settings("server"), settings("migrate"));
    assert_eq!(server.database.username, "nworkflow");
    assert_eq!(migrate.database.username, "nworkflow_owner");
    assert_eq!(server.database.host, migrate.database.host);
    assert_eq!(server.database.database, migrate.database.database);
    assert!(server.dragonfly.is_configured() && !server.auth.development && !server.server.listen.ip().is_loopback());
    assert_eq!(composition()["services"]["migrate"]["command"], json!(["migrate", "--app-role", server.database.username]));
    let sql = text("config/postgres/roles.sql");
    for role in [&server.database.username, &migrate.database.username] {
        assert!(sql.contains(&format!("CREATE ROLE {role} LOGIN")), "{role} is not made");
    }
    assert!(sql.contains(&format!("CREATE DATABASE {} OWNER {}", server.database.database, migrate.database.username)));
    assert!(sql.contains(&format!("GRANT CONNECT ON DATABASE {} TO {}", server.database.database, server.database.username)));
}

#[test]
fn a_setting_that_does_not_exist_would_be_found() {
    let folder = secrets();
    let mut service = composition()["services"]["server"].clone();
    service["environment"]["NWORKFLOW__SERVER__LISTN"] = json!("0.0.0.0:80");
    assert!(load(&Source { environment: environment(&service, folder.path()), ..Source::default() }).is_err());
}

#[test]
fn every_container_has_few_rights_and_bounds() {
    let composition = composition();
    for (name, service) in composition["services"].as_object().unwrap() {
        assert_eq!(service["cap_drop"], json!(["ALL"]), "{name}");
        assert_eq!(service["security_opt"], json!(["no-new-privileges:true"]), "{name}");
        let limits = &service["deploy"]["resources"]["limits"];
        assert!(limits["cpus"].is_string() && limits["memory"].is_string() && limits["pids"].is_number(), "{name}: {limits}");
        assert!(service["privileged"].is_null() && service["network_mode"].is_null() && service["pid"].is_null(), "{name}");
        assert!(service["read_only"] == true || name == "keycloak", "{name} may write to its file system");
        assert!(service["networks"].as_array().is_some_and(|networks| !networks.is_empty()), "{name}");
        for port in service["ports"].as_array().into_iter().flatten() {
            assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "{name} is open to the network: {port}");
        }
        // Nothing that is secret stands in the file.
        for (variable, value) in service["environment"].as_object().into_iter().flatten() {
            let is_secret = variable.split('_').any(|word| ["PASSWORD", "SECRET", "KEY"].contains(&word));
            assert!(!is_secret || value.as_str().unwrap().starts_with("/run/secrets/"), "{name}: {variable} is no file of a secret");
        }
        for secret in service["secrets"].as_array().into_iter().flatten() {
            assert!(composition["secrets"].get(secret.as_str().unwrap()).is_some(), "{name}: {secret} is not declared");
        }
        if let Some(image) = service["image"].as_str().filter(|_| service["build"].is_null()) {
            assert_pinned(image);
        }
        if name != "migrate" {
            assert!(service["healthcheck"].is_object() || service["build"].is_string(), "{name} has no health check");
        }
    }
    assert_eq!(composition["networks"]["data"]["internal"], true);
    assert_eq!(composition["services"]["server"]["user"], "65532:65532");
    let needs = &composition["services"]["server"]["depends_on"];
    assert_eq!(needs["migrate"]["condition"], "service_completed_successfully");
    assert_eq!(composition["services"]["migrate"]["depends_on"]["postgres"]["condition"], "service_healthy");
}

#[test]
fn each_secret_is_made_by_the_script_once_and_for_nobody_else() {
    let folder = secrets();
    let read = || {
        let secrets = composition()["secrets"].as_object().unwrap().clone();
        secrets
            .into_iter()
            .map(|(name, secret)| (name, std::fs::read(folder.path().join(secret["file"].as_str().unwrap())).unwrap()))
            .collect::<BTreeMap<_, _>>()
    };
    let first = read();
    assert!(first.values().all(|secret| secret.len() >= 48), "a secret is short");
    assert_eq!(first.values().collect::<BTreeSet<_>>().len(), first.len(), "two secrets are the same");
    let again = Command::new("bash").arg(folder.path().join("scripts/compose-secrets")).output().unwrap();
    assert!(again.status.success() && read() == first, "what was there is made anew");
    let mode = std::fs::metadata(folder.path().join("secrets")).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "others may look into the folder");
    assert!(text(".gitignore").lines().any(|line| line == "/secrets"), "secrets could be committed");
    assert!(text(".dockerignore").lines().any(|line| line == "*"), "secrets could be in the context of the build");
}

/// Flags of Dragonfly v1.40.1 that are set here, each seen in its sources at that tag (`ABSL_FLAG`). It ends at one that it does not know.
const DRAGONFLY: (&str, &[&str]) =
    ("v1.40.1", &["cache_mode", "dbfilename", "dir", "logtostderr", "maxmemory", "proactor_threads", "requirepass"]);

/// It takes each variable `DFLY_x` for the flag `x`, letter by letter.
#[test]
fn the_flags_of_the_second_tier_exist() {
    let service = &composition()["services"]["dragonfly"];
    let (version, known) = DRAGONFLY;
    let image = service["image"].as_str().unwrap();
    assert!(image.ends_with(&format!(":{version}")), "{image}: look its flags up in the sources of that version");
    let command = service["command"][0].as_str().unwrap();
    let variables = service["environment"].as_object().into_iter().flatten().map(|(name, _)| name.as_str());
    let words = command.split_whitespace().chain(variables).filter_map(|word| word.split('=').next());
    let set: BTreeSet<&str> = words.filter_map(|word| word.strip_prefix("DFLY_").or_else(|| word.strip_prefix("--"))).collect();
    let unknown: Vec<&&str> = set.iter().filter(|flag| !known.contains(flag)).collect();
    assert!(unknown.is_empty(), "Dragonfly {version} has no flags {unknown:?}");
    assert_eq!(set.len(), known.len(), "flags that nothing sets any more, or sets in another way: {set:?}");
}

#[test]
fn mounted_files_exist() {
    for (name, service) in composition()["services"].as_object().unwrap() {
        for volume in service["volumes"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if let Some(file) = volume.split(':').next().filter(|source| source.starts_with("./")) {
                assert!(root().join(file).is_file() && volume.ends_with(":ro"), "{name}: {volume}");
            }
        }
    }
}

#[test]
fn the_realm_has_the_roles_and_the_audience_of_the_server() {
    let (server, realm) = (settings("server"), realm());
    let roles: BTreeSet<&str> = realm["roles"]["realm"].as_array().unwrap().iter().map(|role| role["name"].as_str().unwrap()).collect();
    assert_eq!(roles, server.auth.roles.keys().map(String::as_str).collect());
    let issuer = &server.auth.issuers["keycloak"];
    assert!(issuer.issuer.ends_with(&format!("/realms/{}", realm["realm"].as_str().unwrap())));
    assert_eq!(issuer.jwks_url.split("/realms/").nth(1), Some("nworkflow/protocol/openid-connect/certs"));
    let environment = &composition()["services"]["keycloak"]["environment"];
    assert!(issuer.issuer.starts_with(environment["KC_HOSTNAME"].as_str().unwrap()));
    assert!(client(&realm, &issuer.audience).is_some(), "the audience {} is no client of the realm", issuer.audience);
    for user in realm["users"].as_array().unwrap() {
        for role in user["realmRoles"].as_array().unwrap() {
            assert!(roles.contains(role.as_str().unwrap()), "{user}");
        }
        for credential in user["credentials"].as_array().into_iter().flatten() {
            assert_eq!(credential["value"], "${NWORKFLOW_DEMO_PASSWORD}", "a password stands in the file");
            assert!(user["attributes"]["demo"].is_array(), "{user} is not marked as a demo");
        }
    }
    // Only those scopes would be made that are listed, without `basic` and `roles`: no sub, no roles.
    assert!(realm["clientScopes"].is_null());
    for client in realm["clients"].as_array().unwrap() {
        assert_ne!(client["implicitFlowEnabled"], true);
        assert!(client["secret"].is_null() || client["secret"].as_str().unwrap().starts_with("${"), "a secret stands in the file");
    }
}

fn client<'a>(realm: &'a Value, name: &str) -> Option<&'a Value> {
    realm["clients"].as_array().unwrap().iter().find(|client| client["clientId"] == name)
}

/// A token as Keycloak makes it for a user of the realm by a client, with what the client's mappers put into it and nothing else.
fn token(realm: &Value, client_id: &str, user: &Value, issuer: &TestIssuer, clock: &Clock) -> String {
    let mut token = TokenBuilder::user(issuer.issuer(), &issuer.key(), clock).without("tenant_id").without("aud").claim("azp", client_id);
    for mapper in client(realm, client_id).unwrap()["protocolMappers"].as_array().unwrap() {
        let config = &mapper["config"];
        assert_eq!(config["access.token.claim"], "true", "{mapper}");
        let name = config["claim.name"].as_str().unwrap_or_default();
        token = match mapper["protocolMapper"].as_str().unwrap() {
            "oidc-audience-mapper" => token.claim("aud", config["included.client.audience"].clone()),
            "oidc-hardcoded-claim-mapper" => token.claim(name, config["claim.value"].clone()),
            "oidc-usermodel-attribute-mapper" => match user["attributes"][config["user.attribute"].as_str().unwrap()].get(0) {
                Some(value) => token.claim(name, value.clone()),
                None => token,
            },
            other => panic!("a mapper that the test does not know: {other}"),
        };
    }
    let roles: Vec<&str> = user["realmRoles"].as_array().unwrap().iter().map(|role| role.as_str().unwrap()).collect();
    token.realm_roles(&roles).build()
}

#[tokio::test]
async fn the_server_accepts_what_the_mappers_of_the_realm_make() {
    let (realm, clock, lifecycle) = (realm(), Clock::new(), Lifecycle::new());
    let mut auth = settings("server").auth;
    let issuer = TestIssuer::start_realm("nworkflow", clock.clone()).await;
    let configured = &auth.issuers["keycloak"];
    let here = IssuerConfig { issuer: issuer.issuer().to_owned(), jwks_url: issuer.jwks_url(), ..configured.clone() };
    auth.issuers.insert("keycloak".to_owned(), here);
    let authenticator = Authenticator::new(&auth, None, clock.clone(), &lifecycle).unwrap();
    let mut checked = 0;
    for user in realm["users"].as_array().unwrap() {
        let account = user["serviceAccountClientId"].as_str();
        let clients = account.map_or_else(|| vec!["workflow-ui", "workflow-demo"], |client| vec![client]);
        for client in clients {
            let token = token(&realm, client, user, &issuer, &clock);
            let header = http::HeaderMap::from_iter([(http::header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap())]);
            let principal = authenticator.authenticate(&header).await.unwrap_or_else(|error| panic!("{}: {error}", user["username"]));
            let tenant = user["attributes"]["tenant_id"][0].as_str().unwrap_or("acme");
            assert_eq!(principal.tenant.as_str(), tenant);
            assert!(principal.may(Permission::StatesRead));
            assert_eq!(principal.may(Permission::Delegate), account.is_some() || user["username"] == "otto");
            checked += 1;
        }
    }
    lifecycle.stop();
    assert_eq!(checked, 9);
}

/// The instructions of the Dockerfile, with their continued lines joined.
fn instructions() -> Vec<(String, String)> {
    let lines = text("Dockerfile").replace("\\\n", " ");
    let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once(' ').map(|(name, rest)| (name.to_owned(), rest.trim().to_owned())).unwrap()).collect()
}

/// Images without versions, whose tag is given to a newer one again and again: the Dockerfile says why that is wanted.
const MOVING: &[&str] = &["gcr.io/distroless/cc-debian12:nonroot"];

/// With a tag that has a version in it.
#[track_caller]
fn assert_pinned(image: &str) {
    let tag = image.rsplit('/').next().and_then(|name| name.split_once(':')).map(|(_, tag)| tag);
    let has_version = tag.is_some_and(|tag| tag.contains(|character: char| character.is_ascii_digit()));
    assert!(has_version || MOVING.contains(&image), "{image} is not pinned");
}

#[test]
fn a_tag_that_moves_is_explained() {
    for image in MOVING {
        let text = text("Dockerfile");
        let before = text.split(&format!("FROM {image}")).next().filter(|before| before.len() < text.len());
        let comment: String = before.unwrap().lines().rev().take_while(|line| line.starts_with('#')).collect();
        assert!(comment.contains("moves") && comment.contains("security"), "{image}: {comment}");
    }
    assert!(std::panic::catch_unwind(|| assert_pinned("example.org/name:stable")).is_err());
}

#[test]
fn the_image_is_built_from_what_is_there_and_runs_as_nobody() {
    let instructions = instructions();
    let of =
        |name: &str| instructions.iter().filter(|(instruction, _)| instruction == name).map(|(_, rest)| rest.as_str()).collect::<Vec<_>>();
    for image in of("FROM") {
        assert_pinned(image.split(' ').next().unwrap());
    }
    let ignored = text(".dockerignore");
    let kept: Vec<PathBuf> = ignored.lines().filter_map(|line| line.strip_prefix('!')).map(PathBuf::from).collect();
    let mut copied = 0;
    for copy in of("COPY").into_iter().filter(|copy| !copy.contains("--from=")) {
        let words: Vec<&str> = copy.split_whitespace().collect();
        for source in &words[..words.len() - 1] {
            assert!(root().join(source).exists(), "{source} does not exist");
            assert!(kept.iter().any(|kept| Path::new(source).starts_with(kept)), ".dockerignore keeps {source} out");
            copied += 1;
        }
    }
    assert_eq!(copied, kept.len(), "the context holds what nothing copies");
    // What the compiler reads beside src/: all of it is copied.
    for read in ["migrations", "config/default.toml", "build.rs", "Cargo.lock"] {
        assert!(of("COPY").iter().any(|copy| copy.contains(read)), "{read} is not copied");
    }
    let [user] = of("USER")[..] else { panic!("one user") };
    assert!(user.split(':').all(|id| id.parse::<u32>().is_ok_and(|id| id > 0)), "{user} is not a number, or is root");
    assert!(of("HEALTHCHECK")[0].ends_with(r#"CMD ["/usr/local/bin/nworkflow-state", "health"]"#));
    assert_eq!(of("ENTRYPOINT"), [r#"["/usr/local/bin/nworkflow-state"]"#]);
    // The stage that is shipped has no shell: nothing runs in it.
    let last = instructions.iter().rposition(|(name, _)| name == "FROM").unwrap();
    assert!(instructions[last..].iter().all(|(name, _)| name != "RUN"));
    let variables = of("ENV").join(" ");
    let environment: BTreeMap<String, String> = variables
        .split_whitespace()
        .map(|pair| pair.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap())
        .collect();
    let config = load(&Source { environment, ..Source::default() }).unwrap();
    assert!(!config.server.listen.ip().is_loopback(), "nobody outside the container could reach it");
}
