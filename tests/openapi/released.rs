//! The documents of this version beside those of the last release.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use nworkflow_state::app::{OpenApiVersion, openapi_document};
use serde_json::Value;

use super::compatibility::{added_parameters, breaking_changes};

fn read(file: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi/released").join(file);
    let text = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}: run `make release-document`", path.display()));
    serde_json::from_slice(&text).unwrap()
}

/// The version of the last release, in the names of its documents.
fn version() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi/released");
    let names = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut versions: Vec<String> = names
        .filter_map(|name| Some(name.strip_prefix("openapi-")?.strip_suffix(".json")?.to_owned()))
        .filter(|version| !version.ends_with("-3.0"))
        .collect();
    assert_eq!(versions.len(), 1, "openapi/released has the documents of one release, the last: {versions:?}");
    versions.remove(0)
}

fn documents() -> [(Value, Value); 2] {
    let version = version();
    [(format!("openapi-{version}.json"), OpenApiVersion::V3_1), (format!("openapi-{version}-3.0.json"), OpenApiVersion::V3_0)]
        .map(|(file, version)| (read(&file), serde_json::from_str(&openapi_document(version).unwrap()).unwrap()))
}

/// What the last release said that was never so, or refused and now does: whoever followed it gains by the correction and loses nothing. Of each: the
/// end of the place, what the comparison says, and why nobody breaks. The next baseline has the corrected document, and then the list is emptied.
const CORRECTED: &[(&str, &str, &str)] = &[
    (
        "parameter If-Match",
        "its pattern was",
        "it left out versions from 9 000 000 000 000 000 on; the new one takes all that the old one took",
    ),
    ("parameter If-None-Match", "its pattern was", "the same"),
    ("answer 204 header Location", "it is gone", "only what creates has ever sent it"),
    ("answer 204 header Preference-Applied", "it is gone", "what has no representation leaves none out, and said so of no preference"),
    ("header Age", "it is gone", "of lists, which always come from the store, and of sessions that are not there"),
    (
        "answer 404 header Cache-Status",
        "it is gone",
        "of sessions and scopes that are not there: it would tell whether somebody else has them",
    ),
    ("/health/live answer 503", "it is gone", "probes are answered also when no place is free"),
    ("/health/ready answer 503", "the code overloaded is gone", "the same"),
    (
        "answer 400",
        "the code invalid_json is gone",
        "of operations that take no JSON; a body that breaks off is invalid_request, as a malformed head is",
    ),
    (
        "/checkpoints/{checkpoint_id}/fork answer 400",
        "the code precondition_not_allowed is gone",
        "a fork refused preconditions and now takes them; without one, which is all that ever succeeded, it does what it did",
    ),
];

/// The correction that a fault is.
fn correction(fault: &str) -> Option<usize> {
    CORRECTED
        .iter()
        .position(|(place, what, _)| fault.split_once(": ").is_some_and(|(at, says)| at.ends_with(place) && says.starts_with(what)))
}

#[test]
fn nothing_that_was_released_is_broken() {
    let mut used = BTreeSet::new();
    for (released, current) in documents() {
        assert_eq!(released["info"]["version"], version(), "the name of the file is not the version in it");
        let mut faults = breaking_changes(&released, &current);
        used.extend(faults.iter().filter_map(|fault| correction(fault)));
        faults.retain(|fault| correction(fault).is_none());
        assert!(
            faults.is_empty(),
            "clients of version {} break. Leave what there is as it is and add what is new beside it (docs/decisions/0018-*); OpenAPI {}:\n{}",
            released["info"]["version"],
            released["openapi"],
            faults.join("\n")
        );
    }
    assert_eq!(used.len(), CORRECTED.len(), "a correction that corrects nothing any more: take it out of the list");
}

/// Where JSON is taken, nobody may lose its code; where something is created, nobody may lose the place of it.
#[test]
fn corrections_are_about_what_was_never_so() {
    for (released, current) in documents() {
        for (path, item) in current["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let responses = &operation["responses"];
                let has_json = responses["400"]["x-codes"].as_array().unwrap().contains(&"invalid_json".into());
                assert_eq!(has_json, operation["requestBody"].is_object(), "{method} {path}");
                let creates = responses["201"].is_object();
                assert_eq!(responses["201"]["headers"]["Location"].is_object(), creates, "{method} {path}");
                let is_sent = creates && responses["204"].is_object();
                assert_eq!(responses["204"]["headers"]["Location"].is_object(), is_sent, "{method} {path}");
                assert_eq!(narrower_tags(&released["paths"][path][method], operation), Vec::<String>::new(), "{method} {path}");
                lost_headers_were_never_sent(path, method, &released["paths"][path][method], operation);
                // Whoever watches the server is answered also when there is no place for others.
                let before = &released["paths"][path][method]["responses"]["503"]["x-codes"];
                let had = before.as_array().is_some_and(|codes| codes.contains(&"overloaded".into()));
                let has = responses["503"]["x-codes"].as_array().is_some_and(|codes| codes.contains(&"overloaded".into()));
                assert!(!had || has != path.starts_with("/health/"), "{method} {path}");
            }
        }
    }
}

/// Tags whose pattern does not take what the old one took: the new one has one more digit, of any value.
fn narrower_tags(released: &Value, current: &Value) -> Vec<String> {
    let find = |operation: &Value, name: &str| {
        let mut parameters = operation["parameters"].as_array().into_iter().flatten();
        parameters.find(|parameter| parameter["name"] == name).map(|parameter| parameter["schema"]["pattern"].clone())
    };
    let narrower = |name: &&str| {
        let (Some(old), Some(new)) = (find(released, name), find(current, name)) else { return false };
        new != old.as_str().unwrap().replace("([1-9][0-9]{0,14}|[1-8][0-9]{15})", "[1-9][0-9]{0,15}")
    };
    ["If-Match", "If-None-Match"].into_iter().filter(|name| narrower(name)).map(str::to_owned).collect()
}

/// Headers of answers that the document has no more are those of answers that never had them.
fn lost_headers_were_never_sent(path: &str, method: &str, released: &Value, current: &Value) {
    let has_representation = ["200", "201"].iter().any(|status| current["responses"][status].is_object());
    // What may come from a cache takes X-Min-Version; lists always come from the store.
    let may_be_cached = current["parameters"].as_array().into_iter().flatten().any(|parameter| parameter["name"] == "X-Min-Version");
    for (status, answer) in current["responses"].as_object().unwrap() {
        for name in released["responses"][status]["headers"].as_object().into_iter().flat_map(|headers| headers.keys()) {
            // Whether a session or a scope is there is told to nobody, nor who knew it.
            let is_hidden = status == "404"
                && answer["x-codes"].as_array().unwrap().iter().all(|code| code == "session_not_found" || code == "scope_not_found");
            let is_sent = match name.as_str() {
                "Preference-Applied" => status != "204" || has_representation,
                "Age" => may_be_cached && !is_hidden,
                "Cache-Status" => !is_hidden,
                "Location" => status == "201" || current["responses"]["201"].is_object(),
                _ => true,
            };
            assert_eq!(answer["headers"][name].is_object(), is_sent, "{method} {path} {status} {name}");
        }
    }
}

#[test]
fn a_narrower_pattern_of_either_precondition_is_found() {
    let path = "/workflows/{workflow_id}/executions/{execution_id}/state";
    for (released, current) in documents() {
        let (released, current) = (&released["paths"][path]["put"], &current["paths"][path]["put"]);
        for name in ["If-Match", "If-None-Match"] {
            let mut narrow = current.clone();
            let mut parameters = narrow["parameters"].as_array_mut().unwrap().iter_mut();
            parameters.find(|parameter| parameter["name"] == name).unwrap()["schema"]["pattern"] = "^\"[1-9]\"$".into();
            assert_eq!(narrower_tags(released, &narrow), [name]);
        }
    }
}

/// New parameters that someone accepted in spite of the callers of generated methods: one in a line, lines with `#` are words.
const ACCEPTED: &str = "openapi/released/accepted-parameters.txt";

#[test]
fn new_parameters_change_generated_arguments_and_are_accepted_by_name() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(ACCEPTED);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{ACCEPTED}: {error}"));
    let accepted: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let added: BTreeSet<String> = documents().iter().flat_map(|(released, current)| added_parameters(released, current)).collect();
    let missing: Vec<&String> = added.iter().filter(|added| !accepted.contains(&added.as_str())).collect();
    let stale: Vec<&&str> = accepted.iter().filter(|accepted| !added.contains(**accepted)).collect();
    assert!(
        missing.is_empty(),
        "changes generated positional arguments: a call of the Java client of the released version does not compile any more. Do without, or \
         write these lines into {ACCEPTED} and say so in the changelog: {missing:#?}"
    );
    assert!(stale.is_empty(), "{ACCEPTED} has lines without such a new parameter: {stale:#?}");
}

/// Clients made from it would have one more argument in every method that reads (docs/decisions/0023-*).
#[test]
fn the_older_document_has_no_parameter_of_the_handshake() {
    let [newer, older] = [OpenApiVersion::V3_1, OpenApiVersion::V3_0].map(|version| {
        let document: Value = serde_json::from_str(&openapi_document(version).unwrap()).unwrap();
        let operations = document["paths"].as_object().unwrap().values().flat_map(|item| item.as_object().unwrap().values());
        let parameters = operations.flat_map(|operation| operation["parameters"].as_array().into_iter().flatten());
        parameters.filter(|parameter| parameter["name"].as_str().is_some_and(|name| name.eq_ignore_ascii_case("X-CSRF-Token"))).count()
    });
    assert!(newer > 0 && older == 0, "{newer} {older}");
}

/// The guard on the real documents: whatever is taken away from them is found.
#[test]
fn whatever_is_taken_away_is_found() {
    for (released, _) in documents() {
        let mut gone = Vec::new();
        let mut current = released.clone();
        for (path, item) in current["paths"].as_object_mut().unwrap() {
            gone.extend(item.as_object().unwrap().keys().map(|method| format!("{} {path}: the method is gone", method.to_uppercase())));
            item.as_object_mut().unwrap().clear();
        }
        // Members that lead to other schemas stay, so that those are reached.
        let mut smaller = released.clone();
        for (name, schema) in smaller["components"]["schemas"].as_object_mut().unwrap() {
            let Some(members) = schema["properties"].as_object_mut() else { continue };
            members.retain(|member, described| {
                let leads_on = described.to_string().contains("\"$ref\"");
                if !leads_on {
                    gone.push(format!("{name}: the member {member} is gone"));
                }
                leads_on
            });
        }
        let faults = [breaking_changes(&released, &current), breaking_changes(&released, &smaller)].concat();
        let faults: Vec<String> = faults.iter().map(|fault| fault.replace(", in requests:", ":").replace(", in answers:", ":")).collect();
        let missed: Vec<&String> = gone.iter().filter(|gone| !faults.contains(gone)).collect();
        assert!(gone.len() > 200 && missed.is_empty(), "nobody would notice: {missed:?}");
    }
}
