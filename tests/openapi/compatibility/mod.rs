//! What of a released API document a newer one breaks, as a pure function over both.
//!
//! Broken is whoever follows the released document: a request that it allows is refused, an answer comes that it does not describe, or a
//! client that was generated from it has other names or types. What the comparison does not know counts as broken when it differs.

mod cases;
mod schema;

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use schema::{Direction, Schemas};

/// What `current` breaks of `released`, one sentence each. OpenAPI 3.0 and 3.1, without references outside of schemas.
pub(super) fn breaking_changes(released: &Value, current: &Value) -> Vec<String> {
    let mut comparison = Comparison { schemas: Schemas::new(released, current), faults: Vec::new() };
    if released["servers"] != current["servers"] {
        comparison.fault("the document", "its servers are others");
    }
    for (path, item) in members(&released["paths"]) {
        for (method, operation) in members(item) {
            let place = format!("{} {path}", method.to_uppercase());
            match current["paths"][path].get(method) {
                Some(now) => comparison.operation(&place, operation, now),
                None if current["paths"].get(path).is_none() => comparison.fault(&place, "the path is gone"),
                None => comparison.fault(&place, "the method is gone"),
            }
        }
    }
    comparison.faults
}

/// Optional parameters that `current` has and `released` has not, as `METHOD /path in name`. Requests go on as they are, but generators for languages without
/// optional arguments (Java) make an argument of each, in the order of the document: whoever calls the generated method does not compile any more.
pub(super) fn added_parameters(released: &Value, current: &Value) -> Vec<String> {
    let mut added = Vec::new();
    for (path, item) in members(&released["paths"]) {
        for (method, operation) in members(item) {
            let now = list(&current["paths"][path][method]["parameters"]);
            let known = |wanted: &&Value| list(&operation["parameters"]).iter().any(|one| same_parameter(one, wanted));
            let new = now.iter().filter(|parameter| parameter["required"] != true && !known(parameter));
            added.extend(new.map(|one| format!("{} {path} {} {}", method.to_uppercase(), text(&one["in"]), text(&one["name"]))));
        }
    }
    added
}

fn same_parameter(one: &Value, other: &Value) -> bool {
    one["in"] == other["in"] && one["name"] == other["name"]
}

struct Comparison<'a> {
    schemas: Schemas<'a>,
    faults: Vec<String>,
}

impl<'a> Comparison<'a> {
    fn fault(&mut self, place: &str, what: &str) {
        self.faults.push(format!("{place}: {what}"));
    }

    fn schema(&mut self, place: &str, direction: Direction, released: &'a Value, current: &'a Value) {
        self.schemas.compare(place, direction, released, current, &mut self.faults);
    }

    fn operation(&mut self, place: &str, released: &'a Value, current: &'a Value) {
        // Methods and classes of generated clients.
        for (member, what) in [("operationId", "its operationId"), ("tags", "its tag")] {
            if released[member] != current[member] {
                self.fault(place, &format!("{what} was {}, now {}", released[member], current[member]));
            }
        }
        if released["security"] != current["security"] && current["security"] != Value::Array(Vec::new()) {
            self.fault(place, "it wants other credentials");
        }
        for permission in words(&current["x-permissions"]).difference(&words(&released["x-permissions"])) {
            self.fault(place, &format!("it wants the permission {permission} as well"));
        }
        self.parameters(place, released, current);
        self.request(place, &released["requestBody"], &current["requestBody"]);
        self.responses(place, &released["responses"], &current["responses"]);
    }

    fn parameters(&mut self, place: &str, released: &'a Value, current: &'a Value) {
        let find = |parameters: &'a Value, wanted: &Value| list(parameters).iter().find(|parameter| same_parameter(parameter, wanted));
        for before in list(&released["parameters"]) {
            let place = format!("{place} parameter {}", text(&before["name"]));
            let Some(now) = find(&current["parameters"], before) else {
                self.fault(&place, "it is gone");
                continue;
            };
            if before["required"] != true && now["required"] == true {
                self.fault(&place, "it has become required");
            }
            for member in ["style", "explode", "allowReserved", "content"] {
                if before[member] != now[member] {
                    self.fault(&place, &format!("its {member} is another"));
                }
            }
            self.schema(&place, Direction::Request, &before["schema"], &now["schema"]);
        }
        let order = |ours: &'a Value, theirs: &'a Value| -> Vec<&'a Value> {
            list(ours).iter().filter(|parameter| find(theirs, parameter).is_some()).map(|parameter| &parameter["name"]).collect()
        };
        if order(&released["parameters"], &current["parameters"]) != order(&current["parameters"], &released["parameters"]) {
            self.fault(place, "its parameters come in another order, which is that of generated positional arguments");
        }
        for now in list(&current["parameters"]) {
            if now["required"] == true && find(&released["parameters"], now).is_none() {
                self.fault(&format!("{place} parameter {}", text(&now["name"])), "it is new and required");
            }
        }
    }

    fn request(&mut self, place: &str, released: &'a Value, current: &'a Value) {
        let place = format!("{place} body");
        if released["required"] != true && current["required"] == true {
            self.fault(&place, "it has become required");
        }
        self.content(&place, Direction::Request, &released["content"], &current["content"]);
    }

    fn responses(&mut self, place: &str, released: &'a Value, current: &'a Value) {
        for (status, before) in members(released) {
            let place = format!("{place} answer {status}");
            let Some(now) = current.get(status) else {
                self.fault(&place, "it is gone");
                continue;
            };
            self.content(&place, Direction::Response, &before["content"], &now["content"]);
            for (name, header) in members(&before["headers"]) {
                let place = format!("{place} header {name}");
                match now["headers"].get(name) {
                    Some(now) => self.schema(&place, Direction::Response, &header["schema"], &now["schema"]),
                    None => self.fault(&place, "it is gone"),
                }
            }
            // A client that tells errors apart by their code meets another one now.
            for code in words(&before["x-codes"]).difference(&words(&now["x-codes"])) {
                self.fault(&place, &format!("the code {code} is gone"));
            }
        }
        // Every client takes every status from 400 on for a problem; a new success is unknown to all of them.
        for status in members(current).map(|(status, _)| status).filter(|status| released.get(status).is_none()) {
            if !status.starts_with(['4', '5']) {
                self.fault(&format!("{place} answer {status}"), "it is new and no error");
            }
        }
    }

    fn content(&mut self, place: &str, direction: Direction, released: &'a Value, current: &'a Value) {
        for (kind, before) in members(released) {
            let place = format!("{place} {kind}");
            match current.get(kind) {
                Some(now) => self.schema(&place, direction, &before["schema"], &now["schema"]),
                None => self.fault(&place, "the media type is gone"),
            }
        }
    }
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn words(value: &Value) -> BTreeSet<&str> {
    list(value).iter().map(text).collect()
}
