//! What the server's role needs on the objects of the schema, and which of it is missing.

use sqlx::postgres::PgConnection;

use super::error::OpenError;
use super::migrate::TABLES;
use super::transaction::quote_identifier;

/// What is missing, one row for each object: its kind, its schema and name, the rights, and whether that is all that is needed on it. A schema that the
/// role may not use hides its tables from the names that are searched, so they are looked for in the schemas of the search path. No
/// object, no row: that is for the migrations to say.
const MISSING: &str = "
    WITH object AS (
        SELECT c.oid, c.relname, c.relkind, n.oid AS schema, n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relname = ANY($1::text[] || ARRAY['change_log_seq', '_sqlx_migrations'])
          AND n.nspname = (SELECT n.nspname
                           FROM unnest(string_to_array(replace(current_setting('search_path'), '\"', ''), ',')) WITH ORDINALITY AS p(entry, place)
                           JOIN pg_namespace n ON n.nspname = CASE trim(entry) WHEN '$user' THEN current_user ELSE trim(entry) END
                           JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = '_sqlx_migrations'
                           ORDER BY place LIMIT 1)
    ), needed AS (
        SELECT 'SCHEMA' AS kind, nspname::text AS name, ARRAY['USAGE'] AS needed,
               ARRAY_REMOVE(ARRAY[CASE WHEN NOT has_schema_privilege(schema, 'USAGE') THEN 'USAGE' END], NULL) AS missing, 0 AS place
        FROM (SELECT DISTINCT schema, nspname FROM object) AS used
        UNION ALL
        SELECT 'TABLE', relname::text, n.needed, ARRAY(SELECT r FROM unnest(n.needed) AS r WHERE NOT has_table_privilege(o.oid, r)), 1
        FROM object o, LATERAL (SELECT CASE relname WHEN '_sqlx_migrations' THEN ARRAY['SELECT']
                                ELSE ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'] END AS needed) n
        WHERE relkind IN ('r', 'p')
        UNION ALL
        SELECT 'SEQUENCE', relname::text, ARRAY['USAGE'],
               ARRAY_REMOVE(ARRAY[CASE WHEN NOT has_sequence_privilege(oid, 'USAGE') THEN 'USAGE' END], NULL), 2
        FROM object WHERE relkind = 'S'
    )
    SELECT kind, name, missing, missing = needed FROM needed WHERE cardinality(missing) > 0 ORDER BY place, name";

/// Rights on one object that the role lacks.
struct Missing {
    kind: String,
    name: String,
    rights: Vec<String>,
    /// Nothing of what is needed is there.
    all: bool,
}

/// Refuses when the role of this connection lacks a right that the server needs.
pub(super) async fn check(connection: &mut PgConnection, role: &str) -> Result<(), OpenError> {
    let rows: Vec<(String, String, Vec<String>, bool)> = sqlx::query_as(MISSING)
        .bind(&TABLES[..])
        .fetch_all(connection)
        .await
        .map_err(OpenError::during("the look at the role's rights"))?;
    let missing: Vec<Missing> = rows.into_iter().map(|(kind, name, rights, all)| Missing { kind, name, rights, all }).collect();
    let tables = missing.iter().filter(|one| one.kind == "TABLE" && one.all).count();
    if missing.is_empty() {
        Ok(())
    } else if tables > TABLES.len() {
        // Nobody has granted anything yet: one command does it.
        Err(super::migrate::not_granted(role))
    } else {
        Err(lacking(role, &missing))
    }
}

/// What is missing, and the statements that give it.
fn lacking(role: &str, missing: &[Missing]) -> OpenError {
    let mut words = Vec::new();
    let mut statements = Vec::new();
    for Missing { kind, name, rights, .. } in missing {
        let rights = rights.join(", ");
        words.push(format!("{rights} on {} {name}", kind.to_lowercase()));
        // A table's kind is the one that GRANT takes by itself.
        let object = if kind == "TABLE" { quote_identifier(name) } else { format!("{kind} {}", quote_identifier(name)) };
        statements.push(format!("`GRANT {rights} ON {object} TO {}`", quote_identifier(role)));
    }
    OpenError::Migrations(format!(
        "The server's role {role} lacks {}. Run {} as the owner of the tables.",
        words.join(", "),
        statements.join(" and ")
    ))
}
