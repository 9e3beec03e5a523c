//! The operations as the document declares them, and requests made from its examples.

use nworkflow_state::domain::principal::Permission;
use reqwest::Method;
use serde_json::{Value, json};

use crate::api::app::{Call, Caller};

/// The operations about the server and not about a tenant.
const OF_THE_SERVER: &[&str] = &["/metrics", "/stats", "/cache"];
/// The user whose scope and session others must not reach, as a scope.
pub(super) const BOB: &str = "user:bob";
/// The scope of the caller, as long as that of [`BOB`], so that the lengths of answers are equal.
pub(super) const OWN: &str = "user:ada";
/// A variable that exists nowhere: the document's example holds no number.
const COUNTER: &str = "counter";

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

    pub(super) fn has_session(&self) -> bool {
        self.template.contains("{session_id}")
    }

    /// Whether it is about a user's scope, which is refused before the store hears of it.
    pub(super) fn is_of_a_user(&self) -> bool {
        self.has_scope() || self.template == "/effective-variables"
    }

    /// Whether it lists what belongs to the caller.
    pub(super) fn lists_own(&self) -> bool {
        self.template == "/sessions" && matches!(self.method, Method::GET | Method::HEAD)
    }

    /// Whether it saves what an id tells is taken when it is another's (API.md, section 3).
    pub(super) fn saves_session(&self) -> bool {
        self.has_session() && self.method == Method::PUT
    }

    pub(super) fn is_of_a_tenant(&self) -> bool {
        !OF_THE_SERVER.contains(&self.template.as_str())
    }

    /// The operation that makes what this collection holds, where only a POST does: with the id that the paths of its items have.
    pub(super) fn making(&self, all: &[Self], caller: &Caller) -> Option<Call> {
        let items = |one: &&Self| one.template.strip_prefix(&format!("{}/{{", self.template)).is_some_and(|rest| rest.ends_with('}'));
        let items: Vec<&Self> = all.iter().filter(items).collect();
        if self.method != Method::POST || items.is_empty() || items.iter().any(|one| one.method == Method::PUT) {
            return None;
        }
        let id = items[0].path(None).rsplit('/').next().unwrap().to_owned();
        let name = items[0].template.rsplit('/').next().unwrap().trim_matches(['{', '}']).to_owned();
        let (media_type, mut body) = self.body(None)?;
        body[name] = json!(id);
        Some(caller.call(Method::POST, &self.path(None)).header("content-type", &media_type).body(body.to_string()))
    }

    /// The path with the document's examples; about this scope, or what belongs to its user, where one is given.
    pub(super) fn path(&self, scope: Option<&str>) -> String {
        let mut path = self.template.clone();
        let user = scope.and_then(|scope| scope.strip_prefix("user:"));
        for parameter in self.operation["parameters"].as_array().into_iter().flatten().filter(|parameter| parameter["in"] == "path") {
            let name = parameter["name"].as_str().unwrap();
            let example = parameter["example"].as_str().map_or_else(|| parameter["example"].to_string(), str::to_owned);
            let value = match (name, scope, user) {
                ("scope", Some(scope), _) => scope.to_owned(),
                ("session_id", _, Some(user)) => format!("{user}-session"),
                ("name", _, _) if self.template.ends_with("/increment") => COUNTER.to_owned(),
                _ => example,
            };
            path = path.replace(&format!("{{{name}}}"), &value);
        }
        assert!(!path.contains('{'), "{}: the document has no example for a parameter of the path", self.name());
        match user {
            Some(user) if self.template == "/effective-variables" => format!("{path}?user_id={user}"),
            _ => path,
        }
    }

    /// The document's example of a body and its media type. Of a patch the merge patch, whose example fits the example of the resource.
    fn body(&self, scope: Option<&str>) -> Option<(String, Value)> {
        let content = self.operation.pointer("/requestBody/content").and_then(Value::as_object)?;
        let merge = content.get_key_value("application/merge-patch+json");
        let (media_type, media) = merge.or_else(|| content.iter().next())?;
        let mut body = media["example"].clone();
        if self.template == "/sessions" {
            // An id that is known beforehand, and another for each owner.
            body["session_id"] = json!("begun");
            if let Some(user) = scope.and_then(|scope| scope.strip_prefix("user:")) {
                body["session_id"] = json!(format!("begun-for-{user}"));
                body["owner"] = json!(user);
            }
        }
        Some((media_type.clone(), body))
    }

    /// The request with the document's example as its body.
    pub(super) fn call(&self, caller: &Caller, scope: Option<&str>) -> Call {
        let call = caller.call(self.method.clone(), &self.path(scope));
        match self.body(scope) {
            Some((media_type, body)) => call.header("content-type", &media_type).body(body.to_string()),
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
            "for the session of another user" if self.has_session() => (BOB, 404),
            // A list shows less; see the cells of another user.
            "for the session of another user" if self.lists_own() => (BOB, 200),
            "for the session of another user" if self.template == "/sessions" => (BOB, 403),
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
