//! Lists of variables.

use nworkflow_state::domain::id::VariableName;
use nworkflow_state::domain::variable::{Expiry, Scope, VariableDocument};
use nworkflow_state::domain::version::Expected;
use nworkflow_state::store::{VariableQuery, WriteContext};

use super::bench::{Bench, applied, global, plain};

fn everything() -> VariableQuery {
    VariableQuery { limit: 1000, max_bytes: usize::MAX, ..VariableQuery::default() }
}

async fn fill(bench: &Bench, names: &[&str]) -> WriteContext {
    let writer = bench.writer();
    for name in names.iter().rev() {
        bench.put_variable(&writer, &global(name), "1").await;
    }
    writer
}

async fn list(bench: &Bench, writer: &WriteContext, query: &VariableQuery) -> (Vec<String>, bool) {
    let page = bench.store.list_variables(&writer.tenant, &Scope::Global, None, query).await.unwrap();
    (page.items.iter().map(|record| record.key.name.as_str().to_owned()).collect(), page.more)
}

fn name(text: &str) -> VariableName {
    VariableName::parse(text).unwrap()
}

pub(super) async fn in_the_order_of_bytes(bench: &Bench) {
    let names = ["!", "Z", "a", "a/b", "aB", "aa", "b", "e", "z", "é", "日本", "\u{FFFD}", "\u{1F980}", "\u{10FFFF}"];
    assert!(names.is_sorted_by_key(|name| name.as_bytes()));
    let writer = fill(bench, &names).await;
    assert_eq!(list(bench, &writer, &everything()).await, (names.map(str::to_owned).to_vec(), false));
    let record = bench.variable(&writer, &global("é")).await;
    let page = bench.store.list_variables(&writer.tenant, &Scope::Global, None, &everything()).await.unwrap();
    assert!(page.items.iter().any(|item| nworkflow_state::store::Lookup::Live(item.clone()) == record), "whole records");
}

pub(super) async fn by_prefix(bench: &Bench) {
    let names = [
        "%",
        "%a",
        "A",
        "_",
        "_a",
        "a",
        "a%",
        "a%b",
        "a_",
        "a_b",
        "ab",
        "b",
        "q\u{10FFFF}",
        "q\u{10FFFF}\u{10FFFF}",
        "r",
        "\u{D7FF}x",
        "\u{E000}",
        "\u{10FFFF}",
        "\u{10FFFF}z",
    ];
    assert!(names.is_sorted_by_key(|name| name.as_bytes()));
    let writer = fill(bench, &names).await;
    for prefix in ["", "a", "a%", "a_", "%", "_", "a%b", "ab", "abc", "A", "q", "q\u{10FFFF}", "\u{D7FF}", "\u{10FFFF}", "é", "a\\"] {
        let expected: Vec<_> = names.iter().filter(|name| name.starts_with(prefix)).map(|name| (*name).to_owned()).collect();
        let query = VariableQuery { prefix: prefix.into(), ..everything() };
        assert_eq!(list(bench, &writer, &query).await, (expected, false), "{prefix:?}");
    }
    let query = VariableQuery { prefix: "a".into(), after: Some(name("a%")), ..everything() };
    assert_eq!(list(bench, &writer, &query).await.0, ["a%b", "a_", "a_b", "ab"]);
    let behind = VariableQuery { prefix: "a".into(), after: Some(name("b")), ..everything() };
    assert_eq!(list(bench, &writer, &behind).await.0, Vec::<String>::new());
    let before = VariableQuery { prefix: "a".into(), after: Some(name("A")), limit: 1, ..everything() };
    assert_eq!(list(bench, &writer, &before).await, (vec!["a".to_owned()], true));
}

pub(super) async fn by_names(bench: &Bench) {
    let writer = fill(bench, &["a", "b", "c", "it's \"d\"", "é"]).await;
    let names = |texts: &[&str]| texts.iter().map(|text| name(text)).collect::<Vec<_>>();
    let query = VariableQuery { names: names(&["é", "it's \"d\"", "b", "b", "nowhere"]), ..everything() };
    assert_eq!(list(bench, &writer, &query).await, (["b", "it's \"d\"", "é"].map(str::to_owned).to_vec(), false), "in order, once each");
    assert_eq!(
        list(bench, &writer, &VariableQuery { limit: 2, ..query.clone() }).await,
        (["b", "it's \"d\""].map(str::to_owned).to_vec(), true)
    );
    assert_eq!(list(bench, &writer, &VariableQuery { after: Some(name("b")), limit: 2, ..query.clone() }).await.0, ["it's \"d\"", "é"]);
    assert_eq!(list(bench, &writer, &VariableQuery { prefix: "b".into(), ..query }).await.0, ["b"]);
    let none = VariableQuery { names: names(&["nowhere"]), ..everything() };
    assert_eq!(list(bench, &writer, &none).await, (Vec::new(), false));
}

pub(super) async fn page_after_page(bench: &Bench) {
    let names = ["a", "aa", "ab", "b", "ba", "c", "é"];
    let writer = fill(bench, &names).await;
    for limit in 1..=8 {
        let mut query = VariableQuery { limit, ..everything() };
        let mut seen = Vec::new();
        loop {
            let (page, more) = list(bench, &writer, &query).await;
            assert!(page.len() == limit || !more, "a full page unless it is the last");
            assert!(!page.is_empty(), "`more` promised items");
            query.after = page.last().map(|last| name(last));
            seen.extend(page);
            if !more {
                break;
            }
        }
        assert_eq!(seen, names, "limit {limit}");
    }
    let gone = VariableQuery { after: Some(name("aZ")), limit: 2, ..everything() };
    assert_eq!(list(bench, &writer, &gone).await, (["aa", "ab"].map(str::to_owned).to_vec(), true), "behind a name that is not there");
}

pub(super) async fn within_bytes(bench: &Bench) {
    let writer = bench.writer();
    for name in ["a", "b", "c", "d"] {
        bench.put_variable(&writer, &global(name), &format!("\"{}\"", "x".repeat(98))).await;
    }
    for (max_bytes, expected, more) in
        [(0, 1, true), (1, 1, true), (100, 1, true), (101, 2, true), (300, 3, true), (301, 4, false), (400, 4, false)]
    {
        let (names, follows) = list(bench, &writer, &VariableQuery { max_bytes, ..everything() }).await;
        assert_eq!((names.len(), follows), (expected, more), "{max_bytes} bytes");
    }
}

pub(super) async fn without_the_dead(bench: &Bench) {
    let writer = fill(bench, &["a", "b", "d"]).await;
    let short = VariableDocument { expiry: Expiry::In(60), ..plain("1") };
    applied(bench.store.put_variable(&writer, &global("c"), None, Expected::Any, &short).await.unwrap());
    bench.delete_variable(&writer, &global("b")).await;
    assert_eq!(list(bench, &writer, &everything()).await.0, ["a", "c", "d"]);
    bench.clock.advance_seconds(61);
    assert_eq!(list(bench, &writer, &everything()).await.0, ["a", "d"]);
    let names = VariableQuery { names: vec![name("b"), name("c"), name("d")], ..everything() };
    assert_eq!(list(bench, &writer, &names).await.0, ["d"]);
    assert_eq!(list(bench, &writer, &VariableQuery { limit: 1, ..everything() }).await, (vec!["a".to_owned()], true));
    assert!(!list(bench, &writer, &VariableQuery { limit: 2, ..everything() }).await.1, "the dead promise no further page");
    bench.put_variable(&writer, &global("c"), "2").await;
    assert_eq!(list(bench, &writer, &everything()).await.0, ["a", "c", "d"], "a new life");
}
