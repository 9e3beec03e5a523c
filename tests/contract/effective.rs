//! Variables looked through scope by scope.

use nworkflow_state::domain::id::WorkflowId;
use nworkflow_state::domain::variable::{Expiry, Scope, ScopeLife, VariableDocument};
use nworkflow_state::domain::version::Expected;
use nworkflow_state::store::{VariableQuery, WriteContext};

use super::bench::{Bench, applied, lasting, live, name, plain, session, user, variable};

fn everything() -> VariableQuery {
    VariableQuery { limit: 1000, max_bytes: usize::MAX, ..VariableQuery::default() }
}

struct Fixture {
    writer: WriteContext,
    scopes: Vec<(Scope, ScopeLife)>,
}

impl Fixture {
    /// Session over user over workflow over global.
    async fn make(bench: &Bench) -> Self {
        let writer = bench.writer();
        let life = bench.put_session(&writer, &session("s"), &lasting(3600)).await.life;
        let scopes = vec![
            (Scope::Session(session("s")), Some(life)),
            (Scope::User(user("u")), None),
            (Scope::Workflow(WorkflowId::parse("w").unwrap()), None),
            (Scope::Global, None),
        ];
        Self { writer, scopes }
    }

    async fn put(&self, bench: &Bench, scope: usize, text: &str, value: &str) {
        let (scope, life) = &self.scopes[scope];
        let key = variable(scope.clone(), text);
        applied(bench.store.put_variable(&self.writer, &key, *life, Expected::Any, &plain(value)).await.unwrap());
    }

    /// Names with the number of the scope that they come from and their values.
    async fn read(&self, bench: &Bench, scopes: &[(Scope, ScopeLife)], query: &VariableQuery) -> (Vec<(String, usize, String)>, bool) {
        let page = bench.store.effective_variables(&self.writer.tenant, scopes, query).await.unwrap();
        let origin = |scope: &Scope| self.scopes.iter().position(|(own, _)| own == scope).unwrap();
        let item = |record: nworkflow_state::domain::variable::VariableRecord| {
            (record.key.name.as_str().to_owned(), origin(&record.key.scope), record.value.to_string())
        };
        (page.items.into_iter().map(item).collect(), page.more)
    }
}

fn expect(items: &[(&str, usize, &str)]) -> Vec<(String, usize, String)> {
    items.iter().map(|(name, scope, value)| ((*name).to_owned(), *scope, (*value).to_owned())).collect()
}

pub(super) async fn the_first_scope_wins(bench: &Bench) {
    let fixture = Fixture::make(bench).await;
    for (name, scopes) in [("all", vec![0, 1, 2, 3]), ("b", vec![1, 3]), ("c", vec![2, 3]), ("d", vec![3]), ("é", vec![0, 3])] {
        for scope in scopes {
            fixture.put(bench, scope, name, &scope.to_string()).await;
        }
    }
    fixture.put(bench, 2, "d", "null").await;
    let scopes = &fixture.scopes;
    let all = expect(&[("all", 0, "0"), ("b", 1, "1"), ("c", 2, "2"), ("d", 2, "null"), ("é", 0, "0")]);
    assert_eq!(fixture.read(bench, scopes, &everything()).await, (all.clone(), false), "null shadows");
    let without = expect(&[("all", 2, "2"), ("b", 3, "3"), ("c", 2, "2"), ("d", 2, "null"), ("é", 3, "3")]);
    assert_eq!(fixture.read(bench, &scopes[2..], &everything()).await, (without, false));
    let reversed: Vec<_> = scopes.iter().rev().cloned().collect();
    let other = expect(&[("all", 3, "3"), ("b", 3, "3"), ("c", 3, "3"), ("d", 3, "3"), ("é", 3, "3")]);
    assert_eq!(fixture.read(bench, &reversed, &everything()).await, (other, false));
    assert_eq!(fixture.read(bench, &[], &everything()).await, (Vec::new(), false));

    let record = &bench.store.effective_variables(&fixture.writer.tenant, scopes, &everything()).await.unwrap().items[1];
    let one = bench.store.get_variable(&fixture.writer.tenant, &variable(scopes[1].0.clone(), "b"), None).await.unwrap();
    assert_eq!(record, &live(one), "whole records");
    assert!(bench.store.effective_variables(&bench.writer().tenant, scopes, &everything()).await.unwrap().items.is_empty());

    let names = VariableQuery { names: vec![name("d"), name("all"), name("nowhere"), name("d")], ..everything() };
    assert_eq!(fixture.read(bench, scopes, &names).await, (expect(&[("all", 0, "0"), ("d", 2, "null")]), false));
    let prefix = VariableQuery { prefix: "é".into(), ..everything() };
    assert_eq!(fixture.read(bench, scopes, &prefix).await, (expect(&[("é", 0, "0")]), false));
}

pub(super) async fn what_is_gone_shadows_nothing(bench: &Bench) {
    let fixture = Fixture::make(bench).await;
    for text in ["deleted", "expired"] {
        fixture.put(bench, 3, text, "3").await;
    }
    fixture.put(bench, 1, "deleted", "1").await;
    let (scope, _) = &fixture.scopes[1];
    bench.delete_variable(&fixture.writer, &variable(scope.clone(), "deleted")).await;
    let short = VariableDocument { expiry: Expiry::In(10), ..plain("1") };
    applied(bench.store.put_variable(&fixture.writer, &variable(scope.clone(), "expired"), None, Expected::Any, &short).await.unwrap());
    let before = expect(&[("deleted", 3, "3"), ("expired", 1, "1")]);
    assert_eq!(fixture.read(bench, &fixture.scopes, &everything()).await, (before, false));
    bench.clock.advance_seconds(11);
    let after = expect(&[("deleted", 3, "3"), ("expired", 3, "3")]);
    assert_eq!(fixture.read(bench, &fixture.scopes, &everything()).await, (after, false));
}

pub(super) async fn page_after_page(bench: &Bench) {
    let fixture = Fixture::make(bench).await;
    for number in 0..40 {
        for scope in 0..4 {
            if number % (scope + 2) == 0 || scope == 3 {
                fixture.put(bench, scope, &format!("n{number:02}"), &scope.to_string()).await;
            }
        }
    }
    let (all, more) = fixture.read(bench, &fixture.scopes, &everything()).await;
    assert_eq!((all.len(), more), (40, false));
    assert!(all.iter().enumerate().all(|(number, (_, scope, _))| *scope == (0..3).find(|scope| number % (scope + 2) == 0).unwrap_or(3)));
    for limit in [1, 7, 20, 39, 40] {
        let mut read = Vec::new();
        let mut after = None;
        loop {
            let query = VariableQuery { after: after.clone(), limit, ..everything() };
            let (items, more) = fixture.read(bench, &fixture.scopes, &query).await;
            assert!(items.len() == limit || !more, "a full page, or the last");
            after = items.last().map(|(text, ..)| name(text));
            read.extend(items);
            if !more {
                break;
            }
        }
        assert_eq!(read, all, "pages of {limit}");
    }
    let (items, more) = fixture.read(bench, &fixture.scopes, &VariableQuery { max_bytes: 3, ..everything() }).await;
    assert_eq!((items, more), (all[..3].to_vec(), true), "each value is one byte");
    let (items, more) = fixture.read(bench, &fixture.scopes, &VariableQuery { max_bytes: 0, ..everything() }).await;
    assert_eq!((items, more), (all[..1].to_vec(), true), "at least one");
}
