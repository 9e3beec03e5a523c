//! The operations as the document declares them, and requests made from its examples.

use nworkflow_state::domain::principal::Permission;
use reqwest::Method;
use serde_json::{Value, json};

use crate::api::app::{Call, Caller};

/// The operations about the server and not about a tenant.
const OF_THE_SERVER: &[&str] = &["/metrics"];
/// The user whose scope others must not reach.
pub(super) const BOB: &str = "user:bob";
/// The scope of the caller, as long as that of [`BOB`], so that the lengths of answers are equal.
pub(super) const OWN: &str = "user:ada";

/// An operation of the document.
pub(super) struct Declared {
    pub(super) method: Method,
    template: String,
    pub(super) operation: Value,
}

impl Declared {
    /// All of them, and HEAD wherever GET is.
    pub(super) fn all(document: &Value) -> Vec<Self> {
        let mut all = Vec::new();
        for (template, item) in document["paths"].as_object().unwrap() {
            for (verb, operation) in item.as_object().unwrap() {
                let method = Method::from_bytes(verb.to_uppercase().as_bytes()).unwrap();
                if method == Method::GET && item.get("head").is_none() {
                    all.push(Self { method: Method::HEAD, template: template.clone(), operation: operation.clone() });
                }
                all.push(Self { method, template: template.clone(), operation: operation.clone() });
            }
        }
        all
    }

    pub(super) fn name(&self) -> String {
        format!("{} {}", self.method, self.template)
    }

    pub(super) fn is_open(&self) -> bool {
        self.operation["security"] == json!([])
    }

    pub(super) fn has_scope(&self) -> bool {
        self.template.contains("{scope}")
    }

    pub(super) fn is_of_a_tenant(&self) -> bool {
        !OF_THE_SERVER.contains(&self.template.as_str())
    }

    /// The path with the document's examples, in this scope where one is given.
    pub(super) fn path(&self, scope: Option<&str>) -> String {
        let mut path = self.template.clone();
        for parameter in self.operation["parameters"].as_array().into_iter().flatten().filter(|parameter| parameter["in"] == "path") {
            let name = parameter["name"].as_str().unwrap();
            let example = parameter["example"].as_str().map_or_else(|| parameter["example"].to_string(), str::to_owned);
            let value = scope.filter(|_| name == "scope").unwrap_or(&example);
            path = path.replace(&format!("{{{name}}}"), value);
        }
        assert!(!path.contains('{'), "{}: the document has no example for a parameter of the path", self.name());
        path
    }

    /// The request with the document's example as its body.
    pub(super) fn call(&self, caller: &Caller, scope: Option<&str>) -> Call {
        let call = caller.call(self.method.clone(), &self.path(scope));
        let body = self.operation.pointer("/requestBody/content").and_then(Value::as_object).and_then(|content| content.iter().next());
        match body {
            Some((media_type, media)) => call.header("content-type", media_type).body(media["example"].to_string()),
            None => call,
        }
    }

    pub(super) fn permissions(&self) -> Vec<&str> {
        let permissions: Vec<&str> =
            self.operation["x-permissions"].as_array().into_iter().flatten().map(|name| name.as_str().unwrap()).collect();
        assert!(!permissions.is_empty(), "{}: guarded, but by no permission", self.name());
        permissions
    }

    /// The permissions that some requests need besides, each with a scope that needs it and the answer without it.
    pub(super) fn conditions(&self) -> Vec<(&str, &'static str, u16)> {
        let conditions = self.operation["x-permissions-conditional"].as_array().into_iter().flatten();
        let read = |condition: &'_ Value| match condition["when"].as_str().unwrap() {
            "for the scope global" => ("global", 403),
            "for the scope of another user" => (BOB, 404),
            when => panic!("{}: this test does not know a request that is {when}: teach it one", self.name()),
        };
        conditions
            .map(|condition| {
                let (scope, status) = read(condition);
                (condition["permission"].as_str().unwrap(), scope, status)
            })
            .collect()
    }
}

/// Every permission but these and `admin`, as roles.
pub(super) fn all_but(missing: &[&str]) -> Vec<&'static str> {
    Permission::ALL.map(Permission::name).into_iter().filter(|name| *name != "admin" && !missing.contains(name)).collect()
}
