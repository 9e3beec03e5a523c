//! Migrations, and what the server's role is granted on the tables.

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use super::connect;
use super::error::{OpenError, said};
use super::grants;
use super::transaction::quote_identifier;
use crate::config::DatabaseConfig;
use crate::store::migrate::{MigrationReport, Standing, standing};

/// The tables of the store. All of them have row level security.
pub(super) const TABLES: [&str; 9] =
    ["tenant", "execution_state", "state_version", "checkpoint", "session", "variable", "idempotency", "change_log", "removed_state"];
/// The role that `dev` makes for its queries.
pub(super) const DEVELOPMENT_ROLE: &str = "nworkflow_app";
/// Key of the advisory lock under which one process at a time migrates and grants: GRANT fails when two run at once.
const LOCK: i64 = 0x6e77_6f72_6b66_6c6f;

fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("./migrations/postgres");
    // While servers are replaced, an old one may start on tables that a new one has migrated already.
    migrator.set_ignore_missing(true);
    migrator
}

/// Migrates with the login of `database.migrate_url`, else of `database.url`, and grants what the server needs to `app_role`; without
/// one to `database.role`, or to the login of `database.url` when the tables have an owner apart.
///
/// Processes that do this at once wait for each other: one migrates, all succeed.
///
/// # Errors
/// The database cannot be reached, a migration fails or was changed after it had been applied, or the role does not exist.
pub async fn migrate(config: &DatabaseConfig, app_role: Option<&str>) -> Result<MigrationReport, OpenError> {
    let login = connect::login(config)?;
    let owner = connect::owner(config)?;
    let grantee = match (app_role, &owner) {
        (Some(role), _) => Some(role),
        (None, _) if !config.role.is_empty() => Some(config.role.as_str()),
        (None, Some(_)) => Some(login.get_username()),
        (None, None) => None,
    };
    migrate_as(owner.as_ref().unwrap_or(&login), grantee, false).await
}

/// Migrates with this login, which owns what it makes, and grants to `grantee`; makes that role first when asked to.
pub(super) async fn migrate_as(login: &PgConnectOptions, grantee: Option<&str>, create_role: bool) -> Result<MigrationReport, OpenError> {
    let mut connection = connect::connect(login).await?;
    sqlx::query("SELECT pg_advisory_lock($1)")
        .bind(LOCK)
        .execute(&mut connection)
        .await
        .map_err(OpenError::during("the wait for other migrations"))?;
    let before = applied(&mut connection).await?;
    let migrator = migrator();
    if let Standing::Changed(version) = standing(&migrator, &before) {
        return Err(changed(version));
    }
    migrator
        .run(&mut connection)
        .await
        .map_err(|error| OpenError::Migrations(format!("A migration of the database failed, nothing of it was kept: {}.", why(&error))))?;
    let mut applied = applied(&mut connection).await?;
    applied.retain(|(version, _)| before.iter().all(|(earlier, _)| earlier != version));
    if !applied.is_empty() {
        analyze(&mut connection).await?;
    }
    if create_role {
        create_development_role(&mut connection).await?;
    }
    if let Some(grantee) = grantee {
        grant(&mut connection, grantee).await?;
    }
    // The lock ends with the connection.
    connection.close().await.map_err(OpenError::during("the end of the migration"))?;
    Ok(MigrationReport { applied: applied.into_iter().map(|(version, _)| version).collect(), granted_to: grantee.map(str::to_owned) })
}

/// A migration may have rewritten tables: plans are made on what is known of them. Of an empty table it is better to know nothing: the
/// planner believes a known emptiness, and plans to read the table from one end to the other.
async fn analyze(connection: &mut PgConnection) -> Result<(), OpenError> {
    let filled: Vec<String> =
        sqlx::query_scalar("SELECT t.name FROM unnest($1::text[]) AS t(name) WHERE pg_relation_size(t.name::regclass) > 0")
            .bind(&TABLES[..])
            .fetch_all(&mut *connection)
            .await
            .map_err(OpenError::during("the look at the tables' sizes"))?;
    for table in filled {
        run(connection, format!("ANALYZE {table}"), "ANALYZE").await?;
    }
    Ok(())
}

fn why(error: &MigrateError) -> String {
    match error {
        MigrateError::Execute(error) => said(error),
        MigrateError::ExecuteMigration(error, version) => format!("migration {version}: {}", said(error)),
        error => error.to_string(),
    }
}

/// Refuses when migrations are pending. `role` is the one that is to serve.
pub(super) async fn check(connection: &mut PgConnection, role: &str) -> Result<(), OpenError> {
    let applied = match applied(connection).await {
        Err(OpenError::Statement { error, .. }) if is_forbidden(&error) => {
            grants::check(connection, role).await?;
            return Err(not_granted(role));
        }
        applied => applied?,
    };
    match standing(&migrator(), &applied) {
        Standing::Current => Ok(()),
        Standing::Changed(version) => Err(changed(version)),
        Standing::Pending(versions) => {
            // Without the right to use the schema its tables are not to be seen.
            grants::check(connection, role).await?;
            let advice = if is_owner(connection).await? { owner_advice(role) } else { advice(role) };
            let versions = versions.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
            Err(OpenError::Migrations(format!("The database has pending migrations ({versions}). {advice}")))
        }
    }
}

fn changed(version: i64) -> OpenError {
    OpenError::Migrations(format!(
        "Migration {version} was applied to the database with another text than this server has. Use the server that migrated it, or a later one."
    ))
}

/// The role lacks rights on our tables.
pub(super) fn not_granted(role: &str) -> OpenError {
    OpenError::Migrations(format!("The server's role {role} has no rights on the tables. {}", advice(role)))
}

/// The command that migrates and grants to this role.
fn advice(role: &str) -> String {
    let is_word = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '-' | '.');
    let word = if role.chars().all(is_word) { role.to_owned() } else { format!("'{}'", role.replace('\'', r"'\''")) };
    format!(
        "Run `nworkflow-state migrate --app-role {word}` with the owner's login in database.url, or set database.migrate_url to that login."
    )
}

/// Whether the role of this connection is, or could become, the one that owns the tables or, where there are none yet, the database.
async fn is_owner(connection: &mut PgConnection) -> Result<bool, OpenError> {
    sqlx::query_scalar(
        "SELECT pg_has_role(current_user, coalesce((SELECT relowner FROM pg_class WHERE oid = to_regclass('_sqlx_migrations')), datdba), 'MEMBER')
         FROM pg_database WHERE datname = current_database()",
    )
    .fetch_one(connection)
    .await
    .map_err(OpenError::during("the look at the owner"))
}

/// What to do when the server was given the owner's login, to which nothing may be granted: it must not serve.
fn owner_advice(role: &str) -> String {
    format!(
        "Their owner is {role} itself, as whom the server must not serve: set database.migrate_url to this login, and database.url to a login that owns nothing \
         (`CREATE ROLE nworkflow_app LOGIN PASSWORD '...'`); the server then migrates and grants at its start, or `nworkflow-state migrate` does."
    )
}

/// Whether the server refused for lack of rights.
pub(super) fn is_forbidden(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).as_deref() == Some("42501")
}

/// Versions and checksums of the applied migrations.
async fn applied(connection: &mut PgConnection) -> Result<Vec<(i64, Vec<u8>)>, OpenError> {
    let action = "the look at the applied migrations";
    let exists: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await
        .map_err(OpenError::during(action))?;
    if !exists {
        return Ok(Vec::new());
    }
    sqlx::query_as("SELECT version, checksum FROM _sqlx_migrations WHERE success ORDER BY version")
        .fetch_all(connection)
        .await
        .map_err(OpenError::during(action))
}

/// Rights on the rows of our tables and nothing else: no TRUNCATE, which row level security does not filter, and no ownership.
async fn grant(connection: &mut PgConnection, role: &str) -> Result<(), OpenError> {
    let schema: String = sqlx::query_scalar("SELECT current_schema()")
        .fetch_one(&mut *connection)
        .await
        .map_err(OpenError::during("the look at the schema"))?;
    let (schema, role, tables) = (quote_identifier(&schema), quote_identifier(role), TABLES.join(", "));
    for statement in [
        format!("GRANT USAGE ON SCHEMA {schema} TO {role}"),
        format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO {role}"),
        format!("GRANT USAGE ON SEQUENCE change_log_seq TO {role}"),
        format!("GRANT SELECT ON _sqlx_migrations TO {role}"),
    ] {
        run(connection, statement, "the grant to the server's role").await?;
    }
    Ok(())
}

/// Makes the role without a login that `dev` assumes, and lets the present login assume it.
async fn create_development_role(connection: &mut PgConnection) -> Result<(), OpenError> {
    let role = quote_identifier(DEVELOPMENT_ROLE);
    let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)")
        .bind(DEVELOPMENT_ROLE)
        .fetch_one(&mut *connection)
        .await
        .map_err(OpenError::during("the look at the roles"))?;
    if !exists {
        let created = run(connection, format!("CREATE ROLE {role} NOLOGIN NOINHERIT"), "CREATE ROLE").await;
        // Roles belong to the whole cluster, the lock to one database: another may have been quicker.
        if let Err(OpenError::Statement { action, error }) = created
            && !error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == "42710" || code == "23505")
        {
            return Err(OpenError::Statement { action, error });
        }
    }
    let is_superuser: bool = sqlx::query_scalar("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        .fetch_one(&mut *connection)
        .await
        .map_err(OpenError::during("the look at the roles"))?;
    if !is_superuser {
        // When the login is a member already this may be refused, and if it is not, SET ROLE will say so.
        let granted = run(connection, format!("GRANT {role} TO CURRENT_USER"), "GRANT").await;
        if let Err(error) = granted {
            tracing::debug!(%error, "the development role was not granted");
        }
    }
    Ok(())
}

async fn run(connection: &mut PgConnection, statement: String, action: &'static str) -> Result<(), OpenError> {
    connection.execute(AssertSqlSafe(statement)).await.map(drop).map_err(OpenError::during(action))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_can_be_pasted() {
        assert!(advice("app-role_1.x").contains("`nworkflow-state migrate --app-role app-role_1.x` "));
        assert!(advice("o'app; x").contains(r"--app-role 'o'\''app; x'` "));
    }
}
