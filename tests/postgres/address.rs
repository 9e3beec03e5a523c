//! Where the database is: how that is said, and what is said when nobody is there.

use std::sync::Arc;

use nworkflow_state::app::StartError;
use nworkflow_state::config::{DatabaseConfig, Secret};
use nworkflow_state::domain::clock::Clock;
use nworkflow_state::domain::commit::NoObserver;
use nworkflow_state::lifecycle::Lifecycle;
use nworkflow_state::store::Store;
use nworkflow_state::store::postgres::{OpenMode, PostgresStore};

use super::{assert_says, put_state, tenant};
use crate::support::postgres::{APP, TestDatabase, config_of, open, server};

#[tokio::test]
async fn an_unreachable_database_is_named_without_its_password() {
    let error = match open(&config_of("postgres://u:secret@127.0.0.1:1/db".into()), Clock::new()).await {
        Err(error) => error.to_string(),
        Ok(_) => panic!("the store opened"),
    };
    assert_says(&error, &["127.0.0.1:1/db", "does not answer"]);
    assert!(!error.contains("secret"));
}

#[tokio::test]
async fn a_database_that_answers_is_quoted() {
    let database = TestDatabase::migrated().await;
    for (url, said) in [
        (database.url("nobody_at_all"), "role \"nobody_at_all\" does not exist"),
        (format!("{}_missing", database.url(APP)), "_missing\" does not exist"),
    ] {
        let error = database.refusal(&config_of(url), OpenMode::Serve).await;
        // As the process tells it.
        let error = StartError::from(error).to_string();
        assert_says(&error, &["refuses the connection", said]);
        assert!(!error.contains("does not answer") && !error.contains("at line"), "{error}");
    }
    let config = DatabaseConfig { role: "nobody_at_all".into(), ..database.config() };
    let error = StartError::from(database.refusal(&config, OpenMode::Serve).await).to_string();
    assert_says(&error, &["SET ROLE", "role \"nobody_at_all\" does not exist"]);
    assert!(!error.contains("at line"), "{error}");
}

#[tokio::test]
async fn the_place_can_be_given_in_parts() {
    let database = TestDatabase::migrated().await;
    let config = DatabaseConfig {
        host: server().get_host().to_owned(),
        port: server().get_port(),
        database: database.name().to_owned(),
        username: APP.to_owned(),
        password: Secret::from("any".to_owned()),
        ..config_of(String::new())
    };
    open(&config, Clock::new()).await.unwrap().close().await;
}

#[tokio::test]
async fn development_needs_one_url() {
    for options in ["LOGIN SUPERUSER", "LOGIN CREATEROLE"] {
        let database = TestDatabase::empty().await;
        let role = database.role(options).await;
        database.execute(format!("ALTER DATABASE {} OWNER TO {role}", database.name())).await;
        let config = config_of(database.url(&role));
        for _ in 0..2 {
            let store =
                PostgresStore::open(&config, Clock::new(), OpenMode::Development, &Lifecycle::new(), Arc::new(NoObserver)).await.unwrap();
            put_state(&store, &tenant("dev"), "e").await.unwrap();
            store.close().await;
        }
        let owners: Vec<String> = sqlx::query_scalar(
            "SELECT DISTINCT tableowner::text FROM pg_tables WHERE schemaname = 'public' AND tablename <> '_sqlx_migrations'",
        )
        .fetch_all(&mut database.superuser().await)
        .await
        .unwrap();
        assert_eq!(owners, [role]);
    }
}
