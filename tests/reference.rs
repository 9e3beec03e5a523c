//! The pages that are made from the code say what the code does, and all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use nworkflow_state::app::{OpenApiVersion, openapi_document};
use nworkflow_state::cache::dragonfly::ACL_RULES;
use nworkflow_state::config::{Config, Source, load};
use nworkflow_state::error::{Code, Retry};

fn page(name: &str) -> String {
    std::fs::read_to_string(format!("{}/docs/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap_or_else(|_| panic!("docs/{name} is missing"))
}

/// The cells of the rows of all tables of a page.
fn rows(page: &str) -> Vec<Vec<String>> {
    let lines = page.lines().filter(|line| line.starts_with("| "));
    let cells = |line: &str| line.replace("\\|", "\u{1}").split('|').map(|cell| cell.trim().replace('\u{1}', "|")).collect::<Vec<_>>();
    lines.map(|line| cells(line.trim_matches('|'))).collect()
}

#[test]
fn the_pages_are_fresh() {
    for (name, argument) in [("configuration.md", "configuration"), ("errors.md", "errors")] {
        let output = Command::new(env!("CARGO_BIN_EXE_nworkflow-state")).args(["docs", argument]).env_clear().output().unwrap();
        assert!(output.status.success());
        assert!(
            String::from_utf8(output.stdout).unwrap() == page(name),
            "docs/{name} is not what the code says: run `make docs`, read the diff, commit it"
        );
    }
}

/// The environment variables of the page, with the defaults that stand beside them.
fn variables() -> BTreeMap<String, String> {
    let rows = rows(&page("configuration.md")).into_iter().filter(|row| row.get(1).is_some_and(|cell| cell.starts_with("`NWORKFLOW__")));
    rows.map(|row| (row[1].trim_matches('`').to_owned(), row[3].trim_matches('`').to_owned())).collect()
}

#[test]
fn every_variable_of_the_page_is_known_and_its_default_is_the_one_in_force() {
    let plain = toml::to_string(&load(&Source::default()).unwrap()).unwrap();
    let variables = variables();
    assert!(variables.len() > 100, "{}", variables.len());
    for (variable, default) in &variables {
        if variable.contains("__ROLES__") || variable.contains("__ISSUERS__") {
            continue;
        }
        // A list is a text with commas there.
        let text = if default == "[]" { "" } else { default.trim_matches('"') };
        let source = Source { environment: BTreeMap::from([(variable.clone(), text.to_owned())]), ..Source::default() };
        let config = load(&source).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(toml::to_string(&config).unwrap(), plain, "{variable}");
    }
    // An unknown one would be refused, so that the loop above can fail.
    assert!(
        load(&Source { environment: BTreeMap::from([("NWORKFLOW__LOG__LEVLE".to_owned(), "info".to_owned())]), ..Source::default() })
            .is_err()
    );
}

#[test]
fn every_setting_is_on_the_page() {
    fn names(prefix: &str, table: &toml::Table, found: &mut BTreeSet<String>) {
        for (key, value) in table {
            let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            match value {
                toml::Value::Table(inner) => names(&name, inner, found),
                _ => drop(found.insert(name)),
            }
        }
    }
    // As the type has them, not as the default file does: with an issuer, and with every secret's file.
    let mut config: Config = load(&Source::default()).unwrap();
    let issuer = "issuer = 'https://sso.example/realms/acme'\naudience = 'a'\ntenant = 'realm'\n";
    config.auth.issuers.insert("NAME".to_owned(), toml::from_str(issuer).unwrap());
    let file = Some("f".into());
    config.database.url_file = file.clone();
    config.database.password_file = file.clone();
    config.database.migrate_url_file = file.clone();
    config.dragonfly.url_file = file.clone();
    config.dragonfly.password_file = file.clone();
    config.secrets.key_file = file;
    let mut known = BTreeSet::new();
    names("", &toml::Table::try_from(&config).unwrap(), &mut known);
    let variable = |name: &String| format!("NWORKFLOW__{}", name.replace('.', "__").replace('-', "_").to_uppercase());
    assert_eq!(known.iter().map(variable).collect::<BTreeSet<_>>(), variables().into_keys().collect());
}

#[test]
fn every_code_that_an_operation_names_is_on_the_page_and_every_code_of_the_page_can_be_answered() {
    let document: serde_json::Value = serde_json::from_str(&openapi_document(OpenApiVersion::V3_1).unwrap()).unwrap();
    let operations = document["paths"].as_object().unwrap().values().flat_map(|item| item.as_object().unwrap().values());
    let responses = operations.flat_map(|operation| operation["responses"].as_object().unwrap().values());
    let named: BTreeSet<String> = responses
        .flat_map(|response| response["x-codes"].as_array().into_iter().flatten())
        .map(|code| code.as_str().unwrap().to_owned())
        .collect();
    let shown: BTreeMap<String, Vec<String>> = rows(&page("errors.md"))
        .into_iter()
        .filter(|row| row.len() == 6 && row[1].starts_with('`'))
        .map(|row| (row[1].trim_matches('`').to_owned(), row))
        .collect();
    assert_eq!(named.iter().filter(|code| !shown.contains_key(*code)).collect::<Vec<_>>(), Vec::<&String>::new());
    // What belongs to no operation: paths and methods that are not there, and what is no request.
    let elsewhere = [Code::RouteNotFound, Code::MethodNotAllowed, Code::InvalidRequest].map(Code::name);
    let idle: Vec<&String> = shown.keys().filter(|code| !named.contains(*code) && !elsewhere.contains(&code.as_str())).collect();
    assert!(idle.is_empty(), "no operation names {idle:?}");
    for code in Code::ALL {
        let row = &shown[code.name()];
        assert_eq!(
            [&row[0], &row[2], &row[3], &row[4], &row[5]],
            [&code.status().to_string(), code.title(), code.meaning(), code.action(), code.retry().name()]
        );
    }
}

/// What a client may do again by itself must not be what changes something twice.
#[test]
fn what_may_be_sent_again_follows_from_the_status() {
    for code in Code::ALL {
        let expected: &[Retry] = match code.status() {
            503 => &[Retry::Safe, Retry::WithKey],
            500 | 504 => &[Retry::WithKey],
            408 | 429 => &[Retry::Safe],
            412 => &[Retry::AfterReading, Retry::Safe],
            409 => &[Retry::Changed, Retry::AfterReading, Retry::Safe],
            _ => &[Retry::Changed],
        };
        assert!(expected.contains(&code.retry()), "{}", code.name());
    }
    assert_eq!(Code::OutcomeUnknown.retry(), Retry::WithKey);
}

#[test]
fn the_rules_for_the_second_tiers_user_are_those_that_doctor_advises() {
    assert!(page("operation.md").contains(ACL_RULES), "docs/operation.md has other rules than {ACL_RULES}");
}

/// A bound between two settings stands at both: whoever changes one of them reads the other's name beside it.
#[test]
fn settings_that_bound_each_other_say_so_both() {
    let rows = rows(&page("configuration.md"));
    let described: BTreeMap<String, String> = rows
        .into_iter()
        .filter(|row| row.get(1).is_some_and(|cell| cell.starts_with("`NWORKFLOW__")))
        .map(|row| {
            (row[1].trim_matches('`').replace("NWORKFLOW__", "").replace("__", ".").to_lowercase(), row.last().cloned().unwrap_or_default())
        })
        .collect();
    let words = |text: &str| -> Vec<String> {
        text.split(|character: char| !(character.is_alphanumeric() || "._".contains(character)))
            .map(|word| word.trim_end_matches('.').to_owned())
            .collect()
    };
    let mut pairs = 0;
    for (name, text) in &described {
        let section = name.rsplit_once('.').map_or("", |(section, _)| section);
        // The part of a sentence with the bound.
        for bound in text.split([';', ',']).filter(|part| part.contains("at least ") || part.contains("at most ")) {
            for word in words(bound) {
                let other = if described.contains_key(&word) { word } else { format!("{section}.{word}") };
                let Some(back) = described.get(&other).filter(|_| other != *name) else { continue };
                let own = [name.as_str(), name.rsplit('.').next().unwrap()];
                let says = |part: &str| {
                    (part.contains("at least ") || part.contains("at most ")) && words(part).iter().any(|word| own.contains(&word.as_str()))
                };
                assert!(back.split([';', ',']).any(says), "{other} does not say that {name} bounds it: {back}");
                pairs += 1;
            }
        }
    }
    assert!(pairs >= 12, "{pairs}");
    for name in ["auth.max_token_bytes", "server.drain_timeout_ms", "jobs.floor_seconds", "dragonfly.silence_ms", "server.max_uri_bytes"] {
        assert!(words(&described[name]).len() > 3, "{name}");
    }
}

/// Refusals that the fuzzer excuses by their code: one that is no code of the server excuses nothing, and hides a misspelt one.
#[test]
fn codes_that_the_fuzzer_excuses_exist() {
    let hooks = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/hooks.py")).unwrap();
    let codes = |name: &str| -> Vec<String> {
        let after = hooks.split(&format!("\n{name} = {{")).nth(1).unwrap_or_else(|| panic!("no {name}"));
        // A reason may have braces, too.
        let table = after.split(if after.starts_with('\n') { "\n}" } else { "}" }).next().unwrap();
        let entries = table.split(['\n', ',']).filter_map(|entry| entry.trim().strip_prefix('"')?.split('"').next().map(str::to_owned));
        entries.filter(|entry| entry.chars().all(|character| character.is_ascii_lowercase() || character == '_')).collect()
    };
    for (name, least) in [("DOCUMENTED", 20), ("RESULT_OF_PATCH", 5), ("IN_BYTES", 5)] {
        let codes = codes(name);
        let unknown: Vec<&String> = codes.iter().filter(|code| Code::from_name(code).is_none()).collect();
        assert!(unknown.is_empty() && codes.len() >= least, "{name} in tests/fuzz/hooks.py: {unknown:?} of {}", codes.len());
    }
}

/// What the page of the clients says that the document for generators leaves out is what it does leave out.
#[test]
fn the_page_of_the_clients_lists_what_the_older_document_leaves_out() {
    let [newer, older] = [OpenApiVersion::V3_1, OpenApiVersion::V3_0]
        .map(|version| serde_json::from_str::<serde_json::Value>(&openapi_document(version).unwrap()).unwrap());
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/clients/README.md")).unwrap();
    let list = readme.split("The 3.0 one leaves out").nth(1).unwrap().split("\n\n").next().unwrap().replace('\n', " ");
    let (mut parameters, mut examples) = (BTreeSet::new(), 0);
    for (path, item) in newer["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let now = &older["paths"][path][method];
            let names = |operation: &serde_json::Value| -> BTreeSet<String> {
                let parameters = operation["parameters"].as_array().into_iter().flatten();
                parameters.map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect()
            };
            parameters.extend(names(operation).difference(&names(now)).cloned());
            let has = |operation: &serde_json::Value| {
                operation["requestBody"]["content"]["application/json"]["example"] != serde_json::Value::Null
            };
            examples += usize::from(has(operation) && !has(now));
        }
    }
    assert!(parameters.contains("Prefer"));
    for name in parameters {
        assert!(list.contains(&format!("`{name}`")), "{name}: {list}");
    }
    assert!(examples > 0 && list.contains("examples of request bodies"), "{examples}: {list}");
}

/// What a client of this page needs is what the packages that it is made and run with ask for.
#[test]
fn the_page_of_the_clients_asks_for_a_node_that_all_packages_take() {
    let file = |name: &str| std::fs::read_to_string(format!("{}/clients/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let readme = file("README.md");
    for (language, folder) in [("TypeScript", "typescript"), ("SAP Cloud SDK", "sap-cloud-sdk")] {
        let row = readme.lines().find(|line| line.starts_with(&format!("| {language} |"))).unwrap();
        let said: u32 = row.split("Node ").nth(1).unwrap().split(|end: char| !end.is_ascii_digit()).next().unwrap().parse().unwrap();
        let lock: serde_json::Value = serde_json::from_str(&file(&format!("{folder}/package-lock.json"))).unwrap();
        for (package, facts) in lock["packages"].as_object().unwrap() {
            let Some(range) = facts["engines"]["node"].as_str() else { continue };
            // The oldest major version of any alternative.
            let least = range.split("||").filter_map(|part| {
                let digits: String = part.chars().skip_while(|one| !one.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
                digits.parse::<u32>().ok()
            });
            let least = least.min().unwrap_or(0);
            assert!(least <= said, "{package} wants Node {range}, clients/README.md says {said} for {language}");
        }
    }
}

/// A server that was told to stop still answers for a while; it only says so to those who ask whether to send it more.
#[test]
fn shutting_down_is_said_by_the_readiness_probe_alone() {
    let document: serde_json::Value = serde_json::from_str(&openapi_document(OpenApiVersion::V3_1).unwrap()).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        for operation in item.as_object().unwrap().values() {
            let codes = operation["responses"]["503"]["x-codes"].as_array();
            let says = codes.is_some_and(|codes| codes.contains(&Code::ShuttingDown.name().into()));
            assert_eq!(says, path == "/health/ready", "{path}");
        }
    }
    let meaning = Code::ShuttingDown.meaning();
    assert!(
        meaning.contains("/health/ready") && meaning.contains("server.stop_delay_ms") && !meaning.contains("no new requests"),
        "{meaning}"
    );
}
