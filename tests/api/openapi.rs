//! The API document: fresh, complete, and free of what breaks client generators.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use nworkflow_state::app::{OpenApiVersion, openapi_document};
use nworkflow_state::error::Code;
use serde_json::Value;

use super::app::{DOCUMENT, TestApp};
use super::on_both_stores;

on_both_stores!(the_server_serves_its_own_document, the_examples_of_patches_apply);

/// Every operation of the document: method, path, operation.
fn operations() -> Vec<(String, String, &'static Value)> {
    let paths = DOCUMENT["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, item)| item.as_object().unwrap().iter().map(move |(method, operation)| (method.clone(), path.clone(), operation)))
        .collect()
}

#[test]
fn the_committed_documents_are_fresh() {
    for (file, version) in [("openapi.json", OpenApiVersion::V3_1), ("openapi-3.0.json", OpenApiVersion::V3_0)] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi").join(file);
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == openapi_document(version).unwrap(),
            "openapi/{file} is not what the routes say: run `make openapi`, read the diff, commit it"
        );
    }
}

#[test]
fn every_operation_is_complete() {
    let mut faults = Vec::new();
    let mut ids = BTreeSet::new();
    let tags: BTreeSet<&str> = DOCUMENT["tags"].as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap()).collect();
    for (method, path, operation) in operations() {
        let mut fault = |what: &str| faults.push(format!("{method} {path}: {what}"));
        match operation["operationId"].as_str() {
            Some(id) if id.starts_with(|first: char| first.is_ascii_lowercase()) && id.chars().all(char::is_alphanumeric) => {
                if !ids.insert(id.to_lowercase()) {
                    fault("its operationId is taken");
                }
            }
            _ => fault("no operationId in camelCase"),
        }
        if operation["summary"].as_str().is_none_or(|summary| summary.is_empty() || summary.ends_with('.') || summary.len() > 60) {
            fault("no summary, or none of one short line");
        }
        match operation["tags"].as_array().map(Vec::as_slice) {
            Some([tag]) if tags.contains(tag.as_str().unwrap()) => {}
            _ => fault("not exactly one tag that is declared"),
        }
        if operation["security"].as_array().is_none() {
            fault("no security, not even an empty one");
        }
        let bodies = operation["requestBody"]["content"].as_object().into_iter().flat_map(|content| content.values());
        if !bodies.into_iter().all(|media| media.get("example").is_some()) {
            fault("a request body without an example");
        }
        for (status, response) in operation["responses"].as_object().unwrap() {
            if response["description"].as_str().is_none_or(str::is_empty) {
                fault(&format!("{status} without a description"));
            }
            for (kind, media) in response["content"].as_object().into_iter().flatten() {
                let is_text = kind.starts_with("text/") || media["schema"].get("$ref").is_none();
                if !is_text && media.get("example").is_none() {
                    fault(&format!("{status} without an example"));
                }
            }
        }
        let declared: BTreeSet<&str> = operation["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|own| own["in"] == "path")
            .map(|own| own["name"].as_str().unwrap())
            .collect();
        let in_path: BTreeSet<&str> = path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}')).collect();
        if declared != in_path {
            fault("its path parameters are not those of its path");
        }
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            if parameter["description"].as_str().is_none_or(str::is_empty) || parameter.get("schema").is_none() {
                fault(&format!("parameter {} without description or schema", parameter["name"]));
            }
        }
    }
    assert!(faults.is_empty(), "complete the declaration beside the handler (http/routes) or its #[utoipa::path]:\n{}", faults.join("\n"));
}

#[test]
fn errors_and_security_follow_from_the_declaration() {
    for (method, path, operation) in operations() {
        let guarded = !operation["security"].as_array().unwrap().is_empty();
        let responses = operation["responses"].as_object().unwrap();
        assert_eq!(guarded, operation.get("x-permissions").is_some(), "{method} {path}");
        assert_eq!(guarded, responses.contains_key("401") && responses.contains_key("403"), "{method} {path}");
        for (status, response) in responses.iter().filter(|(status, _)| status.as_str() >= "400") {
            let codes = response["x-codes"].as_array().unwrap();
            assert!(!codes.is_empty(), "{method} {path} {status}");
            for code in codes {
                let code = Code::from_name(code.as_str().unwrap()).unwrap();
                assert_eq!(code.status().to_string(), *status, "{method} {path}: {}", code.name());
                assert!(response["description"].as_str().unwrap().contains(code.name()));
            }
            if method != "head" {
                assert_eq!(
                    response["content"]["application/problem+json"]["schema"]["$ref"], "#/components/schemas/Problem",
                    "{method} {path} {status}"
                );
            }
        }
        for scheme in operation["security"].as_array().unwrap().iter().flat_map(|scheme| scheme.as_object().unwrap().keys()) {
            assert!(DOCUMENT["components"]["securitySchemes"].get(scheme).is_some());
        }
    }
}

#[test]
fn every_code_can_be_answered_by_some_operation() {
    // What belongs to no operation stands beside them: paths and methods that are not there.
    let beside = DOCUMENT["components"]["responses"].as_object().unwrap();
    let declared: BTreeSet<&str> = operations()
        .iter()
        .flat_map(|(_, _, operation)| operation["responses"].as_object().unwrap().values())
        .chain(beside.values())
        .flat_map(|response| response["x-codes"].as_array().into_iter().flatten())
        .map(|code| code.as_str().unwrap())
        .collect();
    let unused: Vec<&str> = Code::ALL.iter().map(|code| code.name()).filter(|code| !declared.contains(code)).collect();
    assert!(unused.is_empty(), "remove these codes from src/error.rs, or declare them where they are answered: {unused:?}");
}

#[test]
fn schemas_are_fit_for_generators() {
    let schemas = DOCUMENT["components"]["schemas"].as_object().unwrap();
    let reserved = ["Error", "Response", "Type", "Object", "Map", "Any", "Event", "File"];
    for (name, schema) in schemas {
        assert!(name.chars().all(char::is_alphanumeric) && !reserved.contains(&name.as_str()), "schema {name}: another name");
        assert!(schema["description"].as_str().is_some_and(|text| !text.is_empty()), "schema {name}: a doc comment");
        assert!(schema.get("example").is_some(), "schema {name}: an example");
        for (member, described) in schema["properties"].as_object().into_iter().flatten() {
            // In a merge patch null takes a member away.
            let is_merge = name.ends_with("MergePatch");
            assert!(is_merge || !described["type"].is_array(), "schema {name}: {member} is nullable; leave it out instead");
            let has_text = described["description"].as_str().is_some_and(|text| !text.is_empty()) || described.get("$ref").is_some();
            assert!(has_text, "schema {name}: {member} has no doc comment");
        }
    }
    let text = DOCUMENT.to_string();
    let used: BTreeSet<&str> = text.split("#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(used, schemas.keys().map(String::as_str).collect(), "every schema is used, and every reference is defined");
}

/// Whatever a request body holds: its members are all named, and the server refuses others (`unknown_member`).
#[test]
fn the_schemas_of_request_bodies_say_what_is_refused() {
    fn below<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| below(item, found)),
            Value::Object(members) => {
                if let Some(name) = members.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next())
                    && found.insert(name)
                {
                    below(&DOCUMENT["components"]["schemas"][name], found);
                }
                members.values().for_each(|member| below(member, found));
            }
            _ => {}
        }
    }
    let mut names = BTreeSet::new();
    operations().into_iter().for_each(|(_, _, operation)| below(&operation["requestBody"], &mut names));
    assert!(names.contains("StateWrite") && names.contains("PatchOperation") && names.len() >= 12, "{names:?}");
    let schemas = &DOCUMENT["components"]["schemas"];
    for name in names.into_iter().filter(|name| schemas[name]["type"] == "object") {
        assert_eq!(schemas[name]["additionalProperties"], false, "{name}");
    }
    // A secret variable keeps its value when none is sent.
    assert!(schemas["VariableWrite"].get("required").is_none(), "{}", schemas["VariableWrite"]["required"]);
    let merge = &schemas["StateMergePatch"]["properties"];
    assert_eq!(merge["status"]["type"], serde_json::json!(["string", "null"]));
    assert_eq!(merge["marking"]["type"], "object");
    assert_eq!(schemas["StateWrite"]["properties"]["marking"]["additionalProperties"]["type"], serde_json::json!(["integer", "array"]));
}

#[test]
fn examples_have_the_members_of_their_schemas() {
    for (name, schema) in DOCUMENT["components"]["schemas"].as_object().unwrap() {
        let (Some(properties), Some(example)) = (schema["properties"].as_object(), schema["example"].as_object()) else { continue };
        let unknown: Vec<&String> = example.keys().filter(|member| !properties.contains_key(*member)).collect();
        let missing: Vec<&Value> =
            schema["required"].as_array().into_iter().flatten().filter(|member| !example.contains_key(member.as_str().unwrap())).collect();
        assert!(unknown.is_empty() && missing.is_empty(), "example of {name}: unknown {unknown:?}, missing {missing:?}");
    }
}

#[test]
fn the_older_document_says_nothing_that_only_the_newer_can() {
    let older: Value = serde_json::from_str(&openapi_document(OpenApiVersion::V3_0).unwrap()).unwrap();
    fn walk(value: &Value, path: &str, faults: &mut Vec<String>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| walk(item, path, faults)),
            Value::Object(members) => {
                for (name, member) in members.iter().filter(|(name, _)| *name != "example") {
                    let newer = matches!(
                        name.as_str(),
                        "const" | "examples" | "propertyNames" | "$defs" | "contentMediaType" | "if" | "then" | "else"
                    ) || (name == "type" && member.is_array());
                    if newer && !path.ends_with("/properties") {
                        faults.push(format!("{path}/{name}"));
                    }
                    walk(member, &format!("{path}/{name}"), faults);
                }
            }
            _ => {}
        }
    }
    let mut faults = Vec::new();
    walk(&older, "", &mut faults);
    assert!(faults.is_empty(), "{faults:?}");
    assert_eq!(older["openapi"], "3.0.3");
    let paths = |document: &Value| -> BTreeMap<String, usize> {
        document["paths"].as_object().unwrap().iter().map(|(path, item)| (path.clone(), item.as_object().unwrap().len())).collect()
    };
    let newer: Value = serde_json::from_str(&openapi_document(OpenApiVersion::V3_1).unwrap()).unwrap();
    assert_eq!(paths(&older), paths(&newer));
}

/// What the generators of clients/ stop at, warn at, or lose types over; docs/decisions/0019 has the list.
#[test]
fn the_older_document_has_one_body_and_one_success_for_each_operation() {
    let older: Value = serde_json::from_str(&openapi_document(OpenApiVersion::V3_0).unwrap()).unwrap();
    let mut faults = Vec::new();
    for (path, item) in older["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let mut fault = |what: &str| faults.push(format!("{method} {path}: {what}"));
            let responses = operation["responses"].as_object().unwrap();
            let successes: BTreeSet<String> = responses
                .iter()
                .filter(|(status, _)| status.starts_with('2'))
                .map(|(_, response)| response.get("content").map(Value::to_string).unwrap_or_default())
                .collect();
            if successes.len() != 1 {
                fault("more than one kind of success");
            }
            let parameters = operation["parameters"].as_array().map_or(&[][..], Vec::as_slice);
            let told = responses.values().any(|response| response["headers"].get("Preference-Applied").is_some());
            if told || parameters.iter().any(|parameter| parameter["name"] == "Prefer") {
                fault("a preference, whose answer is not described");
            }
            let bodies = operation["requestBody"]["content"].as_object().into_iter().flatten();
            let kinds: Vec<&str> = bodies.clone().map(|(kind, _)| kind.as_str()).collect();
            if !matches!(kinds[..], [] | ["application/json"]) {
                fault("a body that is not JSON alone");
            }
            let known = ["application/json", "application/problem+json"];
            let answers = responses.values().flat_map(|response| response["content"].as_object().into_iter().flatten());
            if answers.into_iter().any(|(kind, _)| !known.contains(&kind.as_str())) {
                fault("an answer that is no JSON");
            }
            for (_, media) in bodies {
                let name = media["schema"]["$ref"].as_str().unwrap().rsplit('/').next().unwrap();
                if media["example"] == older["components"]["schemas"][name]["example"] {
                    fault("an example that its schema has already");
                }
            }
        }
    }
    assert!(faults.is_empty(), "generators take no such operations (src/http/openapi_30.rs):\n{}", faults.join("\n"));
    let text = older.to_string();
    let used: BTreeSet<&str> = text.split("#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(used, older["components"]["schemas"].as_object().unwrap().keys().map(String::as_str).collect());
}

async fn the_server_serves_its_own_document(app: TestApp) {
    let anyone = app.anonymous();
    assert_eq!(anyone.get("/openapi.json").send().await.expect(200).json(), *DOCUMENT);
    assert_eq!(anyone.get("/openapi-3.0.json").send().await.expect(200).json()["openapi"], "3.0.3");
    let page = anyone.get("/docs/").unchecked().send().await.expect(200);
    assert!(page.text().contains("swagger-ui") && !page.text().contains("//cdn"), "{}", page.text());
    let script = anyone.get("/docs/swagger-initializer.js").unchecked().send().await.expect(200);
    assert!(script.text().contains("/openapi.json"));
    anyone.get("/docs/swagger-ui-bundle.js").unchecked().send().await.expect(200);
    for code in Code::ALL {
        let page = anyone.get(&format!("/errors/{}", code.name())).send().await.expect(200);
        // The same as docs/errors.md, which is made from the same table.
        for says in [code.title(), code.name(), code.meaning(), code.action(), code.retry().sentence()] {
            assert!(page.text().contains(says), "{}: {says}", code.name());
        }
    }
    let index = anyone.get("/errors").send().await.expect(200).text().to_owned();
    assert!(Code::ALL.iter().all(|code| index.contains(&format!("\"/errors/{}\"", code.name()))));
    assert_eq!(index.matches("href=").count(), Code::ALL.len());
    let limits = anyone.get("/limits").send().await.expect(200).json();
    assert_eq!((&limits["state_body_bytes"], &limits["depth"]), (&8_388_608.into(), &64.into()));
    // On the API's own port the metrics want a token.
    anyone.get("/metrics").send().await.problem(401, "token_missing");
    let metrics = app.admin("acme").get("/metrics").send().await.expect(200);
    let documented = DOCUMENT["paths"]["/metrics"]["get"]["responses"]["200"]["content"].as_object().unwrap();
    let media_type = metrics.header("content-type").unwrap().split(';').next().unwrap();
    assert!(documented.contains_key(media_type), "{media_type}");
    assert!(
        metrics.text().contains("nworkflow_http_requests_total{route=\"/limits\",method=\"GET\",status=\"200\"} 1"),
        "{}",
        metrics.text()
    );
    assert!(metrics.text().contains("nworkflow_http_problems_total{code=\"token_missing\"} 1"), "{}", metrics.text());
}

/// The path of a template with the examples of its parameters in it.
fn example_path(template: &str, operation: &Value) -> String {
    let parameters = operation["parameters"].as_array().unwrap().iter().filter(|parameter| parameter["in"] == "path");
    parameters.fold(template.to_owned(), |path, parameter| {
        let example = &parameter["example"];
        let text = example.as_str().map_or_else(|| example.to_string(), str::to_owned);
        path.replace(&format!("{{{}}}", parameter["name"].as_str().unwrap()), &text)
    })
}

/// Whoever pastes the examples one after the other, the resource and then the patch, sees them work.
async fn the_examples_of_patches_apply(app: TestApp) {
    let put = |template: &str| {
        let operation = &DOCUMENT["paths"][template]["put"];
        (example_path(template, operation), operation["requestBody"]["content"]["application/json"]["example"].to_string())
    };
    let mut tried = Vec::new();
    for (_, template, operation) in operations().into_iter().filter(|(method, ..)| method == "patch") {
        let path = example_path(&template, operation);
        for (kind, media) in operation["requestBody"]["content"].as_object().unwrap() {
            // A tenant of its own for each, so that versions are what the examples say.
            let ada = app.admin(&format!("tenant-{}", tried.len()));
            // The resource; of a scope, the variable in it.
            let (resource, body) = put(if template == "/variables/{scope}" { "/variables/{scope}/{name}" } else { template.as_str() });
            let before = ada.put(&resource, body).send().await.expect(201).json();
            let example = media["example"].to_string();
            let call = ada.call(reqwest::Method::PATCH, &path).header("content-type", kind).body(example.as_str());
            let answer = call.send().await.expect(200).json();
            let after = ada.get(&resource).send().await.expect(200).json();
            let member = ["marking", "data", "value"].into_iter().find(|member| before.get(member).is_some()).unwrap();
            assert!(after[member] != before[member] || after["status"] != before["status"], "{path} {example} changes nothing: {answer}");
            assert_eq!(after["version"], 2, "{path} {example}");
            tried.push(format!("{template} {kind}"));
        }
    }
    let kinds = ["application/merge-patch+json", "application/json-patch+json"];
    let resources = ["/workflows/{workflow_id}/executions/{execution_id}/state", "/sessions/{session_id}", "/variables/{scope}/{name}"];
    for wanted in resources.iter().flat_map(|resource| kinds.iter().map(move |kind| format!("{resource} {kind}"))) {
        assert!(tried.contains(&wanted), "{wanted} is not in {tried:?}");
    }
}

#[test]
fn each_path_parameter_has_an_example_of_its_own() {
    let mut examples: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (_, _, operation) in operations() {
        for parameter in operation["parameters"].as_array().into_iter().flatten().filter(|parameter| parameter["in"] == "path") {
            examples.entry(parameter["name"].as_str().unwrap()).or_default().insert(parameter["example"].to_string());
        }
    }
    assert!(examples.values().all(|all| all.len() == 1), "{examples:?}");
    let apart: BTreeSet<&String> = examples.values().flatten().collect();
    assert_eq!(apart.len(), examples.len(), "one example for two parameters: {examples:?}");
}
