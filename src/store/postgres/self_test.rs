//! The test at start: whoever could bypass row level security, or lose commits, does not serve.

use sqlx::postgres::PgConnection;

use super::error::OpenError;
use super::migrate::TABLES;
use super::transaction::quote_identifier;

/// For each major version the oldest minor without known holes in row level security: 15.20 and what was released with it.
const SECURE_MINORS: [(u32, u32); 5] = [(14, 25), (15, 20), (16, 16), (17, 12), (18, 6)];

const ROLE: &str = "
    SELECT r.rolname::text, r.rolsuper, r.rolbypassrls, current_setting('synchronous_commit'), current_setting('server_version_num')::int4,
           current_setting('server_version'), has_schema_privilege(current_schema(), 'CREATE')
    FROM pg_roles r WHERE r.rolname = current_user";

/// A role for which row level security does not hold, and which ours could assume: of a member without INHERIT too, SET ROLE makes it.
const POWERFUL: &str = "
    SELECT r.rolname::text, r.rolsuper FROM pg_roles r
    WHERE (r.rolsuper OR r.rolbypassrls) AND pg_has_role(current_user, r.oid, 'MEMBER')
    ORDER BY r.rolsuper DESC, r.rolname LIMIT 1";

/// One row per table that we expect: whether it exists, whose it is, whether ours is that role or could assume it, and whether it is
/// protected. A policy counts with its name, what it is for, for
/// whom, and whether its expressions look at the tenant.
const TABLE: &str = "
    SELECT t.name, pg_get_userbyid(c.relowner)::text,
           coalesce(pg_has_role(current_user, c.relowner, 'MEMBER'), false),
           coalesce(c.relrowsecurity AND c.relforcerowsecurity, false),
           ARRAY(SELECT p.polname || ' ' || p.polcmd::text || ' ' || p.polroles::text || ' '
                        || (pg_get_expr(p.polqual, c.oid) LIKE '%app.tenant%')::text || ' '
                        || coalesce((pg_get_expr(p.polwithcheck, c.oid) LIKE '%app.tenant%')::text, '-')
                 FROM pg_policy p WHERE p.polrelid = c.oid AND p.polpermissive ORDER BY p.polname)
    FROM unnest($1::text[]) AS t(name) LEFT JOIN pg_class c ON c.oid = to_regclass(t.name)";

/// A row of [`TABLE`]: name, owner, whether ours could become the owner, whether row level security is forced, policies.
type Table = (String, Option<String>, bool, bool, Vec<String>);

/// The policy of every table.
const ISOLATION: &str = "tenant_isolation * {0} true true";
/// The second one of `tenant`: background jobs walk the tenants.
const TENANT_READ: &str = "tenant_read r {0} false -";

/// Tests the role that this connection of the pool acts as, and answers its name.
pub(super) async fn test_role(connection: &mut PgConnection) -> Result<String, OpenError> {
    let (role, superuser, bypasses, synchronous_commit, version_number, version, creates): (
        String,
        bool,
        bool,
        String,
        i32,
        String,
        Option<bool>,
    ) = sqlx::query_as(ROLE).fetch_one(&mut *connection).await.map_err(OpenError::during("the self test of the role"))?;
    if superuser {
        return Err(OpenError::Unsafe(format!(
            "The server's queries would run as {role}, a superuser, for whom row level security does not hold. {ADVICE}"
        )));
    }
    if bypasses {
        return Err(OpenError::Unsafe(format!(
            "The server's queries would run as {role}, which has BYPASSRLS, so that row level security does not hold for it. Run `ALTER ROLE {role} NOBYPASSRLS`, or use another role. {ADVICE}"
        )));
    }
    if let Some((other, superuser)) = powerful(connection).await? {
        let what = if superuser { "a superuser" } else { "which has BYPASSRLS" };
        return Err(OpenError::Unsafe(format!("{} {ADVICE}", membership(&role, &other, what))));
    }
    if synchronous_commit == "off" {
        return Err(OpenError::Unsafe(
            "synchronous_commit is off: a crash of the database would lose writes that were answered. Set it to on for the server's role."
                .to_owned(),
        ));
    }
    warn_of_version(version_number.unsigned_abs(), &version);
    if creates == Some(true) {
        tracing::warn!(%role, "the server's role may create objects in the schema of its tables: REVOKE CREATE ON SCHEMA it from the role and from PUBLIC");
    }
    Ok(role)
}

const ADVICE: &str =
    "Set database.url to a login that owns nothing and database.migrate_url to the owner's, or database.role to a role that owns nothing.";

async fn powerful(connection: &mut PgConnection) -> Result<Option<(String, bool)>, OpenError> {
    sqlx::query_as(POWERFUL).fetch_optional(connection).await.map_err(OpenError::during("the self test of the role's memberships"))
}

/// That a role could become another, and what ends that.
fn membership(role: &str, other: &str, what: &str) -> String {
    format!(
        "The server's role {role} is a member of {other}, {what}, and could switch row level security off after SET ROLE. Run `REVOKE {} FROM {}` (or from the role between them), or use another role.",
        quote_identifier(other),
        quote_identifier(role)
    )
}

/// Tests the tables as this connection of the pool sees them.
pub(super) async fn test_tables(connection: &mut PgConnection, role: &str) -> Result<(), OpenError> {
    let tables: Vec<Table> =
        sqlx::query_as(TABLE).bind(&TABLES[..]).fetch_all(connection).await.map_err(OpenError::during("the self test of the tables"))?;
    for (table, owner, member, forced, policies) in tables {
        let Some(owner) = owner else {
            return Err(OpenError::Migrations(format!(
                "Table {table} is missing although all migrations are applied. Restore it from a backup."
            )));
        };
        if owner == role {
            return Err(OpenError::Unsafe(format!(
                "The server's role {role} owns table {table} and could switch row level security off. {ADVICE}"
            )));
        }
        if member {
            return Err(OpenError::Unsafe(format!("{} {ADVICE}", membership(role, &owner, &format!("which owns table {table}")))));
        }
        if !forced {
            return Err(OpenError::Unsafe(format!(
                "Table {table} lacks row level security. Run `ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY` as its owner, and find out who switched it off."
            )));
        }
        let expected: &[&str] = if table == "tenant" { &[ISOLATION, TENANT_READ] } else { &[ISOLATION] };
        if policies != expected {
            return Err(OpenError::Unsafe(format!(
                "The policies of table {table} are not those of the migrations: tenants could see each other's rows. Restore policy tenant_isolation and drop any other, and find out who changed them."
            )));
        }
    }
    Ok(())
}

fn warn_of_version(number: u32, version: &str) {
    if !is_secure(number) {
        tracing::warn!(%version, "this version of PostgreSQL has known holes in row level security: update to its newest minor version");
    }
}

/// Whether the version (`server_version_num`) has no known hole.
pub(super) fn is_secure(number: u32) -> bool {
    let (major, minor) = (number / 10_000, number % 10_000);
    match SECURE_MINORS.iter().find(|(known, _)| *known == major) {
        Some((_, secure)) => minor >= *secure,
        None => SECURE_MINORS.iter().all(|(known, _)| major > *known),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_minors_are_warned_of() {
        for secure in [150_020, 160_016, 180_007, 190_000] {
            assert!(is_secure(secure), "{secure}");
        }
        for hole in [130_023, 140_024, 150_019, 180_005] {
            assert!(!is_secure(hole), "{hole}");
        }
    }
}
