//! What patches look like on the wire, for the API document. `domain::patch` reads them.
#![expect(dead_code, reason = "these types describe what domain::patch reads")]

use utoipa::ToSchema;

/// A merge patch (RFC 7396) of a state: members replace members, `null` removes one.
#[derive(ToSchema)]
#[schema(example = json!({"marking": {"review": null, "paid": 1}, "status": "completed"}))]
pub(in crate::http) struct StateMergePatch {
    /// Places to change; `null` removes a place.
    #[schema(required = false, nullable = false, value_type = std::collections::BTreeMap<String, serde_json::Value>)]
    marking: Option<serde_json::Value>,
    /// The status.
    #[schema(required = false, nullable = false, max_length = 32)]
    status: Option<String>,
    /// Members of the metadata to change.
    #[schema(required = false, nullable = false, value_type = std::collections::BTreeMap<String, serde_json::Value>)]
    metadata: Option<serde_json::Value>,
    /// The version of the schema.
    #[schema(required = false, nullable = false, minimum = 1)]
    schema_version: Option<i32>,
}

/// A merge patch (RFC 7396) of a session.
#[derive(ToSchema)]
#[schema(example = json!({"data": {"step": 3}}))]
pub(in crate::http) struct SessionMergePatch {
    /// What to change of the data.
    #[schema(required = false, value_type = serde_json::Value)]
    data: Option<serde_json::Value>,
    /// Seconds to live from now on.
    #[schema(required = false, nullable = false, minimum = 1, maximum = 315_360_000)]
    ttl_seconds: Option<i64>,
    /// Whether reads extend the session.
    #[schema(required = false, nullable = false)]
    sliding: Option<bool>,
    /// Seconds after its creation that it never outlives.
    #[schema(required = false, nullable = false, minimum = 1, maximum = 315_360_000)]
    max_ttl_seconds: Option<i64>,
}

/// A merge patch (RFC 7396) of a variable.
#[derive(ToSchema)]
#[schema(example = json!({"value": {"rate": 0.21}}))]
pub(in crate::http) struct VariableMergePatch {
    /// What to change of the value.
    #[schema(required = false, value_type = serde_json::Value)]
    value: Option<serde_json::Value>,
    /// What the variable is for.
    #[schema(required = false, nullable = false, max_length = 1024)]
    description: Option<String>,
    /// Seconds until the variable is gone, from now on; left out: as before; `null`: it stays.
    #[schema(required = false, nullable = false, minimum = 1, maximum = 315_360_000)]
    ttl_seconds: Option<i64>,
    /// Whether the value is kept encrypted and never shown. Refused while the server has no encryption key.
    #[schema(required = false, nullable = false)]
    secret: Option<bool>,
}

/// A JSON Patch (RFC 6902): at most 1000 operations, all or none. This example is one for a state.
#[derive(ToSchema)]
#[schema(example = json!([{"op": "test", "path": "/status", "value": "running"}, {"op": "replace", "path": "/status", "value": "waiting"}]), max_items = 1000)]
pub(in crate::http) struct JsonPatch(Vec<PatchOperation>);

/// One operation of a JSON Patch.
#[derive(ToSchema)]
#[schema(example = json!({"op": "replace", "path": "/status", "value": "waiting"}))]
pub(in crate::http) struct PatchOperation {
    /// What to do.
    op: PatchOperationKind,
    /// Where (RFC 6901).
    path: String,
    /// From where: for `move` and `copy`.
    #[schema(required = false, nullable = false)]
    from: Option<String>,
    /// The value: for `add`, `replace` and `test`.
    #[schema(required = false, value_type = serde_json::Value)]
    value: Option<serde_json::Value>,
}

/// What an operation of a JSON Patch does.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case", example = "replace")]
pub(in crate::http) enum PatchOperationKind {
    Add,
    Remove,
    Replace,
    Move,
    Copy,
    Test,
}
