//! What is believed of those who call through others, and what the log makes of what they send.

use serde_json::Value;

use super::{STATE, app_with};
use crate::api::raw;
use crate::process::Place;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transport_security_is_told_to_those_who_came_over_tls() {
    const PROXY: (&str, &str) = ("server.trusted_proxies", "127.0.0.0/8");
    let forwarded = ("server.proxy_header", "forwarded");
    for (settings, header, value, expected) in [
        (vec![], "x-forwarded-proto", "https", None),
        (vec![("server.trusted_proxies", "10.0.0.0/8")], "x-forwarded-proto", "https", None),
        (vec![PROXY], "x-forwarded-proto", "https", Some("max-age=31536000")),
        (vec![PROXY], "x-forwarded-proto", "http", None),
        (vec![PROXY], "x-forwarded-proto", "https, http", None),
        (vec![PROXY], "forwarded", "for=192.0.2.1;proto=https", None),
        (vec![PROXY, forwarded], "forwarded", "for=192.0.2.1;proto=https", Some("max-age=31536000")),
        (vec![PROXY, forwarded], "x-forwarded-proto", "https", None),
        (vec![PROXY, ("server.hsts_seconds", "60")], "x-forwarded-proto", "https", Some("max-age=60")),
        (vec![PROXY, ("server.hsts_seconds", "0"), ("server.hsts", "true")], "x-forwarded-proto", "https", None),
        (vec![("server.hsts", "true")], "x-other", "1", Some("max-age=31536000")),
    ] {
        let app = app_with(&settings).await;
        for path in ["/limits", "/nowhere", STATE] {
            let answer = app.anonymous().get(path).header(header, value).send().await;
            assert_eq!(answer.header("strict-transport-security"), expected, "{settings:?} {header}: {value} {path}");
        }
    }
}

/// S16: whatever is sent, a request is one line of the log, and that line is JSON.
#[test]
fn nobody_writes_lines_of_the_log() {
    let place = Place::new();
    let server = place.dev_with(&["--set", "server.trusted_proxies=127.0.0.1", "--set", "log.format=json"], &[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let send = |request: &[u8]| runtime.block_on(raw::exchange(server.address(), request));
    let token = server.printed_after("Token:").to_owned();
    let before = server.log().lines().count();
    let forged = r#"{"level":"ERROR","message":"forged"}"#;
    let requests: Vec<Vec<u8>> = [
        format!("GET /workflows/a%0d%0a{}/executions HTTP/1.1\r\nHost: a\r\n", forged.replace('"', "%22").replace(':', "%3a")),
        "GET /variables/global/%1b[2J%1b[31m HTTP/1.1\r\nHost: a\r\n".to_owned(),
        format!("GET /nowhere HTTP/1.1\r\nHost: a\r\nX-Request-Id: {forged}\r\n"),
        "GET /nowhere HTTP/1.1\r\nHost: a\r\nX-Request-Id: a b\r\n".to_owned(),
        "GET /nowhere HTTP/1.1\r\nHost: a\r\nX-Request-Id: \x1b[31m\r\n".to_owned(),
        format!("GET /nowhere HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {forged}\r\n"),
        "GET /nowhere HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.7\r\n".to_owned(),
        format!("GET /nowhere HTTP/1.1\r\nHost: {forged}\r\nUser-Agent: {forged}\r\nReferer: {forged}\r\nX-Tenant-Id: {forged}\r\n"),
        "GET /nowhere?\u{2028}=\u{85} HTTP/1.1\r\nHost: a\r\n".to_owned(),
        "GET /\u{202e}\u{85}\u{2028} HTTP/1.1\r\nHost: a\r\n".to_owned(),
        format!("{forged} /nowhere HTTP/1.1\r\nHost: a\r\n"),
        "FORGED\x1b /nowhere HTTP/1.1\r\nHost: a\r\n".to_owned(),
        "GET /nowhere HTTP/1.1\r\nHost: a\r\nx: a\rforged\r\n".to_owned(),
    ]
    .into_iter()
    .map(|head| format!("{head}Authorization: Bearer {token}\r\nConnection: close\r\n\r\n").into_bytes())
    .collect();
    for request in &requests {
        let answer = send(request);
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    let log = server.log();
    let lines: Vec<Value> =
        log.lines().skip(before).map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line:?}"))).collect();
    let made = lines.iter().filter(|line| line["message"] == "request").count();
    assert_eq!(made, requests.len(), "one line a request: {log}");
    assert!(lines.iter().all(|line| line["level"] != "ERROR" && line["message"] != "forged"), "{log}");
    assert!(!log.chars().any(|character| character.is_control() && character != '\n'), "{log:?}");
    assert!(!log.contains(&token));
    let told = lines.iter().filter(|line| line["address"] == "203.0.113.7").count();
    assert_eq!(told, 1, "whom a trusted proxy names: {log}");
    assert!(
        lines
            .iter()
            .filter(|line| line["address"].is_string())
            .all(|line| ["127.0.0.1", "203.0.113.7"].iter().any(|known| line["address"] == *known))
    );
}
