//! A look at a server before it is used, for the operator.

use std::time::Duration;

use redis::{ErrorKind, RedisError};

use super::connect::Address;
use super::link::Link;
use super::scripts;
use crate::domain::diagnosis::Diagnosis;

/// A key that the look writes and removes.
const KEY: &str = "m1:examine";
/// A channel that nobody listens to.
const CHANNEL: &str = "m1:bus:examine";
const SUBJECT: &str = "second cache tier";

/// What an ACL user of a single server must be allowed to do, as in ACL SETUSER. In a cluster `+cluster|slots` comes to it.
pub const ACL_RULES: &str =
    "resetkeys resetchannels ~m1:* &m1:* -@all +get +set +del +unlink +publish +subscribe +evalsha +eval +script|load +info +scan +dbsize";

/// Connects and does once what the tier does all the time: scripts, leases, messages; then looks at how quick it is, and at its settings. An
/// answer must come within `operation_limit`.
pub async fn examine(address: &Address, operation_limit: Duration) -> Vec<Diagnosis> {
    let (server, link) = match use_once(address).await {
        Ok(used) => used,
        Err(wrong) => return vec![wrong],
    };
    let mut found =
        vec![Diagnosis::fine(SUBJECT, format!("{server} at {} answers, and lets this login do what the server needs", address.place()))];
    match settings(&link, address, operation_limit).await {
        Ok(more) => found.extend(more),
        Err(error) => found.push(refusal(address, "INFO", &error)),
    }
    found
}

async fn use_once(address: &Address) -> Result<(String, Link), Diagnosis> {
    let said = |action: &'static str| move |error: RedisError| refusal(address, action, &error);
    let link = Link::open(address, 1).await.map_err(said("connecting, INFO, SET or SCRIPT LOAD"))?;
    let mut connection = link.connection(KEY).ok_or_else(|| Diagnosis::wrong(SUBJECT, "there is no connection"))?;
    let mark = scripts::MARK.call(KEY, &[b"00000000000000000001", b"1000", CHANNEL.as_bytes(), b"examine"]);
    mark.query_async::<i64>(&mut connection).await.map_err(said("a script with GET, SET and PUBLISH"))?;
    let mut lease = redis::cmd("SET");
    lease.arg(KEY).arg("Lexamine").arg("NX").arg("GET").arg("PX").arg(1000);
    let before: Option<String> = lease.query_async(&mut connection).await.map_err(said("SET with NX and GET"))?;
    if before.as_deref() != Some("M00000000000000000001") {
        let detail = format!("{}: SET with NX and GET does not answer what was there", address.place());
        return Err(Diagnosis::wrong(SUBJECT, detail).advise("Use Dragonfly, Valkey 9, or Redis 7."));
    }
    redis::cmd("DEL").arg(KEY).query_async::<i64>(&mut connection).await.map_err(said("DEL"))?;
    let server = link.version().await.map_err(said("INFO"))?;
    Ok((server, link))
}

/// What was refused, why by the server's own words, and what to do about it.
fn refusal(address: &Address, action: &str, error: &RedisError) -> Diagnosis {
    let detail = format!("{}: {action} failed: {error}", address.place());
    Diagnosis::wrong(SUBJECT, detail).advise(advice(error, address))
}

fn advice(error: &RedisError, address: &Address) -> String {
    let said = format!("{error:?} {error}").to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if says(&["noperm", "no permissions", "acl failure", "user executing the script"]) {
        return format!("Give its user all rights that the server needs: ACL SETUSER ... on >... {ACL_RULES}.");
    }
    if error.kind() == ErrorKind::AuthenticationFailed || says(&["noauth", "wrongpass", "authentication"]) {
        return "Correct user and password in dragonfly.url, or in dragonfly.username and dragonfly.password (or the file of \
                dragonfly.password_file); the user must be on."
            .to_owned();
    }
    if says(&["certificate", "unknownissuer"]) {
        return "Name the authority that signed its certificate in dragonfly.ca_file, and the server by a name that the certificate has."
            .to_owned();
    }
    if says(&["corrupt message", "invalidcontenttype", "tls", "handshake"]) {
        return "It does not speak TLS there: begin dragonfly.url with redis://, or use its TLS port.".to_owned();
    }
    if says(&["cluster support disabled", "cluster mode", "cluster is disabled"]) {
        return "It is no cluster: unset dragonfly.cluster.".to_owned();
    }
    if says(&["moved", "crossslot", "clusterdown"]) && !address.is_cluster() {
        return "It is a node of a cluster: set dragonfly.cluster, with some of the nodes in dragonfly.url.".to_owned();
    }
    if says(&["syntax error"]) {
        return "It is too old: use Dragonfly, Valkey 9, or Redis 7.".to_owned();
    }
    let tls = if address.is_tls() {
        "If it does not speak TLS there, begin dragonfly.url with redis://."
    } else {
        "If it speaks TLS there, begin dragonfly.url with rediss://."
    };
    format!("Start it, or correct host and port in dragonfly.url (or dragonfly.host and dragonfly.port). {tls}")
}

async fn settings(link: &Link, address: &Address, operation_limit: Duration) -> Result<Vec<Diagnosis>, RedisError> {
    let mut found = vec![speed(link.round_trip().await?, operation_limit)];
    let server = link.info("server").await?;
    let is_cluster = server.iter().any(|text| ["redis_mode", "server_mode"].iter().any(|name| field(text, name) == Some("cluster")));
    if is_cluster && !address.is_cluster() {
        let detail = "it is a node of a cluster, and dragonfly.cluster is not set: most keys live on other nodes";
        let advice = "Set dragonfly.cluster, with some of the nodes in dragonfly.url.";
        found.push(Diagnosis::wrong("second cache tier cluster", detail).advise(advice));
    }
    found.extend(link.info("memory").await?.iter().filter_map(|text| memory(text)).next());
    Ok(found)
}

fn speed(best: Duration, limit: Duration) -> Diagnosis {
    let (subject, milliseconds) = ("second cache tier speed", best.as_secs_f64() * 1000.0);
    let detail = format!("the best of three answers took {milliseconds:.1} ms; dragonfly.operation_timeout_ms is {}", limit.as_millis());
    let advice = "Put it nearer to the server, look what keeps it busy, or raise dragonfly.operation_timeout_ms.";
    if best >= limit {
        Diagnosis::wrong(subject, format!("{detail}: it would be given up again and again")).advise(advice)
    } else if best * 2 > limit {
        Diagnosis::note(subject, detail).advise(advice)
    } else {
        Diagnosis::fine(subject, detail)
    }
}

/// What becomes of a server that is full. Nothing is said where it does not tell its settings.
fn memory(info: &str) -> Option<Diagnosis> {
    let subject = "second cache tier memory";
    let (limit, policy) = (field(info, "maxmemory")?, field(info, "maxmemory_policy")?);
    if limit == "0" {
        let detail = "maxmemory is not set: it grows until the memory of its machine ends";
        return Some(Diagnosis::note(subject, detail).advise("Set maxmemory, and maxmemory-policy allkeys-lru."));
    }
    if policy == "noeviction" {
        let detail =
            format!("with maxmemory {limit} and the policy noeviction it refuses all writes when it is full, and is given up then");
        let advice = "Set maxmemory-policy allkeys-lru (Dragonfly: --cache_mode=true). What is evicted is read from the database again.";
        return Some(Diagnosis::wrong(subject, detail).advise(advice));
    }
    Some(Diagnosis::fine(subject, format!("maxmemory {limit}, policy {policy}")))
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::diagnosis::Verdict;

    #[test]
    fn slow_answers_are_told_by_how_slow_they_are() {
        let verdict = |milliseconds| speed(Duration::from_millis(milliseconds), Duration::from_millis(50)).verdict;
        assert_eq!([verdict(1), verdict(30), verdict(50)], [Verdict::Fine, Verdict::Note, Verdict::Wrong]);
    }

    #[test]
    fn what_a_full_server_does_is_told() {
        let verdict = |info: &str| memory(info).map(|found| found.verdict);
        assert_eq!(verdict("maxmemory:0\r\nmaxmemory_policy:noeviction\r\n"), Some(Verdict::Note));
        assert_eq!(verdict("maxmemory:5\r\nmaxmemory_policy:noeviction\r\n"), Some(Verdict::Wrong));
        assert_eq!(verdict("maxmemory:5\r\nmaxmemory_policy:allkeys-lru\r\n"), Some(Verdict::Fine));
        assert_eq!(verdict("used_memory:5\r\n"), None);
    }
}
