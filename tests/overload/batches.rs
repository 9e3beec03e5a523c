//! O14: batches that are too long, and that say a thing twice.

use super::say;
use crate::api::app::TestApp;
use crate::api::on_both_stores;

on_both_stores!(batches_have_limits);

async fn batches_have_limits(app: TestApp) {
    let ada = app.admin("acme");
    let patch = |body: String| ada.call(reqwest::Method::PATCH, "/variables/global").body(body).header("content-type", "application/json");
    let names = |count: usize, value: &str| (0..count).map(|number| format!("\"n{number}\"{value}")).collect::<Vec<_>>().join(",");
    let mut verdicts = Vec::new();
    for (body, status, code) in [
        (format!("{{\"set\":{{{}}}}}", names(70_000, ":1")), 422, "too_many_elements"),
        (format!("{{\"delete\":[{}]}}", names(70_000, "")), 422, "too_many_elements"),
        (format!("{{\"set\":{{}},\"if_versions\":{{{}}}}}", names(70_000, ":0")), 422, "too_many_elements"),
        (format!("{{\"set\":{{{}}}}}", names(100_000, ":1")), 413, "body_too_large"),
        (format!("{{\"set\":{{{}}}}}", names(1001, ":1")), 422, "too_many_elements"),
        (format!("{{\"set\":{{{}}},\"delete\":[\"x\"]}}", names(1000, ":1")), 422, "too_many_elements"),
        (r#"{"set":{"a":1,"a":2}}"#.to_owned(), 400, "duplicate_member"),
        (r#"{"delete":["a","a"]}"#.to_owned(), 400, "duplicate_name"),
        (r#"{"set":{"a":1},"delete":["a"]}"#.to_owned(), 400, "duplicate_name"),
        (r#"{"if_versions":{"a":1,"a":2}}"#.to_owned(), 400, "duplicate_member"),
    ] {
        let begin = &body[..body.len().min(40)].to_owned();
        let answer = patch(body).send().await;
        assert_eq!(answer.verdict(), (status, code.to_owned()), "{begin}: {}", &answer.text()[..answer.text().len().min(500)]);
        verdicts.push(status);
    }
    let query = (0..1200).map(|number| format!("name=n{number}")).collect::<Vec<_>>().join("&");
    let refused = ada.get(&format!("/variables/global?{}", &query[..8000])).send().await;
    assert!(matches!(refused.status.as_u16(), 200 | 400), "{refused:?}");
    assert!(ada.get("/variables/global").send().await.expect(200).json()["items"].as_array().unwrap().is_empty(), "something was stored");
    patch(format!("{{\"set\":{{{}}}}}", names(1000, ":1"))).send().await.expect(200);
    say("batch_limits", format!("{} refused, none of them 5xx, nothing stored", verdicts.len()));
}
