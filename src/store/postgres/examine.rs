//! A look at the database before it is used, for the operator: what the start would not refuse, and what comes before it.

use sqlx::Row as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};

use super::error::OpenError;
use super::{connect, self_test, sweep};
use crate::config::DatabaseConfig;
use crate::domain::diagnosis::Diagnosis;

/// The oldest version that has what the statements need, as `server_version_num`.
const OLDEST_VERSION: u32 = 140_000;
/// Most characters of a parameter's name that are shown.
const MAX_NAME: usize = 64;
/// Connections of a server beside those of the pool and the sweeper: one that answers whether the database does, one that holds the lock of the
/// servers.
const OTHER_CONNECTIONS: u32 = 2;

/// All that may be connected at once, what is connected, and the limits of the role and of the database (-1: none).
const CONNECTIONS: &str = "
    SELECT current_setting('max_connections')::int8 - current_setting('superuser_reserved_connections')::int8
             - coalesce(current_setting('reserved_connections', true), '0')::int8,
           (SELECT coalesce(sum(numbackends), 0)::int8 FROM pg_stat_database),
           (SELECT rolconnlimit::int8 FROM pg_roles WHERE rolname = session_user),
           (SELECT datconnlimit::int8 FROM pg_database WHERE datname = current_database())";

/// Parameters of the settings' URLs that nothing reads: whoever wrote `ssl_mode=require` believes in a protection that is not there.
#[must_use]
pub fn unread_parameters(config: &DatabaseConfig) -> Vec<Diagnosis> {
    let found = connect::unread_parameters(config).into_iter().map(|(setting, name)| {
        let short: String = name.chars().take(MAX_NAME).collect();
        Diagnosis::wrong("postgresql url", format!("{setting} has the parameter {short:?}, which nothing reads: it has no effect")).advise(format!(
            "Remove it from {setting}, or correct its name: {} and options[NAME] are read. Time limits and sizes are settings of [database].",
            connect::PARAMETERS.join(", ")
        ))
    });
    found.collect()
}

/// Looks at version, pooler and number of connections. What comes after that the start itself tells.
///
/// # Errors
/// There is no connection, or it cannot be asked.
pub async fn examine(config: &DatabaseConfig) -> Result<Vec<Diagnosis>, OpenError> {
    let login = connect::login(config)?;
    let mut first = connect::connect(&login).await?;
    let version = first.server_version_num().unwrap_or_default();
    let mut found = vec![version_diagnosis(version)];
    found.push(pooler(&login, &mut first).await?);
    found.push(connections(config, &mut first).await?);
    Ok(found)
}

fn version_diagnosis(version: u32) -> Diagnosis {
    let (subject, shown) = ("postgresql version", format!("{}.{}", version / 10_000, version % 10_000));
    if version < OLDEST_VERSION {
        let oldest = OLDEST_VERSION / 10_000;
        return Diagnosis::wrong(subject, format!("{shown} is too old: the statements of the server need {oldest} or newer"))
            .advise("Upgrade PostgreSQL.");
    }
    if self_test::is_secure(version) {
        Diagnosis::fine(subject, shown)
    } else {
        Diagnosis::note(subject, format!("{shown} has known holes in row level security, which keeps tenants apart"))
            .advise("Update it to the newest minor version.")
    }
}

/// Two connections that are open at the same time have two processes, unless something between shares one among them.
async fn pooler(login: &PgConnectOptions, first: &mut PgConnection) -> Result<Diagnosis, OpenError> {
    let subject = "postgresql pooler";
    let one = process(first).await?;
    let mut second = connect::connect(login).await?;
    if process(&mut second).await? != one {
        return Ok(Diagnosis::fine(subject, "each connection has a process of its own"));
    }
    let detail = "two connections share one process of the database: a pooler gives it to one transaction after the other, so that SET ROLE, the \
                  time limits and the lock of the servers reach others or are lost";
    Ok(Diagnosis::wrong(subject, detail).advise("Connect to PostgreSQL directly, or set the pooler to share by session."))
}

/// Not as a prepared statement, which would be another one's on a shared connection.
async fn process(connection: &mut PgConnection) -> Result<i32, OpenError> {
    let row = sqlx::raw_sql("SELECT pg_backend_pid()").fetch_one(connection).await;
    row.and_then(|row| row.try_get(0)).map_err(OpenError::during("the look for a pooler"))
}

async fn connections(config: &DatabaseConfig, connection: &mut PgConnection) -> Result<Diagnosis, OpenError> {
    let subject = "postgresql connections";
    let row: (i64, i64, Option<i64>, Option<i64>) =
        sqlx::query_as(CONNECTIONS).fetch_one(connection).await.map_err(OpenError::during("the look at the connections"))?;
    let (all, used, of_role, of_database) = row;
    let needed = i64::from(config.pool_size.saturating_add(sweep::CONNECTIONS + OTHER_CONNECTIONS));
    let limits =
        [(Some(all), "max_connections"), (of_role, "the role's CONNECTION LIMIT"), (of_database, "the database's CONNECTION LIMIT")];
    for (limit, name) in limits {
        if let Some(limit) = limit.filter(|limit| (0..needed).contains(limit)) {
            let detail = format!(
                "a server may need {needed} (database.pool_size and {} more), and {name} leaves {limit}: requests would wait and be answered 503",
                needed - i64::from(config.pool_size)
            );
            return Ok(Diagnosis::wrong(subject, detail).advise("Raise that limit, or lower database.pool_size."));
        }
    }
    if all.saturating_sub(used) < needed {
        let detail = format!("a server may need {needed}, and {used} of {all} are in use now");
        return Ok(Diagnosis::note(subject, detail).advise(
            "If those are not this server's own, raise max_connections, lower database.pool_size, or find out who holds them (pg_stat_activity).",
        ));
    }
    Ok(Diagnosis::fine(subject, format!("a server may need {needed}, and there may be {all}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::diagnosis::Verdict;

    #[test]
    fn old_versions_are_told() {
        for (version, verdict) in [(130_023, Verdict::Wrong), (150_001, Verdict::Note), (190_000, Verdict::Fine)] {
            assert_eq!(version_diagnosis(version).verdict, verdict, "{version}");
        }
    }
}
