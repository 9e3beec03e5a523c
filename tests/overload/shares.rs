//! O5, the part that can be told without a clock: what one tenant has or sends too much of is refused, and nobody else notices.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{STATE, say};
use crate::api::app::{Options, TestApp};

const BODY: &str = r#"{"marking":{"p":1}}"#;

/// A write whose body is asked for and not sent: it is at work. What the server says first.
async fn begin_write(address: SocketAddr, token: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "PUT {STATE} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Expect: 100-continue\r\nConnection: close\r\n\r\n",
        BODY.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).await.unwrap();
    (stream, String::from_utf8_lossy(&first).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_that_has_its_share_at_work_waits_and_no_other() {
    const SHARE: usize = 3;
    let app = TestApp::sqlite_with(Options::default().set("server.max_in_flight_per_tenant", &SHARE.to_string())).await;
    let (acme, other) = (app.admin("acme"), app.admin("other"));
    let token = app.token("acme", "admin", &["nworkflow-admin"]);
    let mut held = Vec::new();
    for _ in 0..SHARE {
        let (stream, first) = begin_write(app.address, &token).await;
        assert_eq!(first, "HTTP/1.1 100");
        held.push(stream);
    }
    // The next one is not asked for its body.
    let (_, first) = begin_write(app.address, &token).await;
    assert_eq!(first, "HTTP/1.1 429");
    let refused = acme.get("/workflows").send().await.problem(429, "too_many_requests");
    assert_eq!((refused.header("retry-after"), refused.json()["limit"].as_u64()), (Some("1"), Some(SHARE as u64)));
    // Neither are others, nor whoever watches the server.
    other.get("/workflows").send().await.expect(200);
    app.anonymous().get("/health/ready").send().await.expect(200);
    let metrics = acme.get("/metrics").send().await.expect(200);
    assert!(metrics.text().contains("nworkflow_tenant_refusals_total{limit=\"in_flight\"} 2\n"), "{}", metrics.text());
    for mut stream in held {
        stream.write_all(BODY.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("HTTP/1.1 20"), "{answer}");
    }
    acme.get("/workflows").send().await.expect(200);
    say("tenant_share", format!("{SHARE} at work, the next 2 refused, another tenant served"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_sends_its_burst_and_then_so_many_a_second() {
    const BURST: usize = 5;
    let options = Options::default().set("server.tenant_requests_per_second", "1").set("server.tenant_burst", &BURST.to_string());
    let app = TestApp::sqlite_with(options).await;
    let (acme, other) = (app.admin("acme"), app.admin("other"));
    let begin = std::time::Instant::now();
    let mut refused = 0;
    for _ in 0..BURST * 4 {
        let answer = acme.get("/workflows").send().await;
        if answer.status == 200 {
            continue;
        }
        let answer = answer.problem(429, "too_many_requests");
        assert_eq!((answer.header("retry-after"), answer.json()["limit"].as_u64()), (Some("1"), Some(1)));
        refused += 1;
    }
    let due = begin.elapsed().as_secs() as usize + 1;
    assert!((BURST * 3 - due..=BURST * 3).contains(&refused), "{refused} refused in {due} s");
    other.get("/workflows").send().await.expect(200);
    let metrics = acme.get("/metrics").send().await.expect(200);
    assert!(metrics.text().contains(&format!("nworkflow_tenant_refusals_total{{limit=\"rate\"}} {refused}\n")), "{}", metrics.text());
    say("tenant_rate", format!("{} sent, {refused} refused by 1 a second with a burst of {BURST}", BURST * 4));
}
