//! Identity through the whole server: tokens in, status codes and log lines out.

mod forged;
mod keys;
mod logs;
mod tenants;

const STATE: &str = "/workflows/order/executions/e1/state";
const BODY: &str = r#"{"marking":{"p":1}}"#;
