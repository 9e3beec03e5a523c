//! A look at a server before it is used, for the operator.

use redis::RedisError;

use super::connect::Address;
use super::link::Link;
use super::scripts;

/// A key that the look writes and removes.
const KEY: &str = "m1:examine";
/// A channel that nobody listens to.
const CHANNEL: &str = "m1:bus:examine";

/// Connects and does once what the tier does all the time: scripts, leases, messages. Answers what the server is.
///
/// # Errors
/// A sentence for the operator: what the server does not do.
pub async fn examine(address: &Address) -> Result<String, String> {
    let said = |action: &'static str| move |error: RedisError| format!("{action} failed: {error}.");
    let link = Link::open(address, 1).await.map_err(said("connecting, INFO or SCRIPT LOAD"))?;
    let mut connection = link.connection(KEY).ok_or("no connection.")?;
    let mark = scripts::MARK.call(KEY, &[b"00000000000000000001", b"1000", CHANNEL.as_bytes(), b"examine"]);
    mark.query_async::<i64>(&mut connection).await.map_err(said("a script with GET, SET and PUBLISH"))?;
    let mut lease = redis::cmd("SET");
    lease.arg(KEY).arg("Lexamine").arg("NX").arg("GET").arg("PX").arg(1000);
    let before: Option<String> =
        lease.query_async(&mut connection).await.map_err(said("SET with NX and GET, which Redis knows since 7.0,"))?;
    if before.as_deref() != Some("M00000000000000000001") {
        return Err("SET with NX and GET does not answer what was there.".to_owned());
    }
    redis::cmd("DEL").arg(KEY).query_async::<i64>(&mut connection).await.map_err(said("DEL"))?;
    let info: String = link.version().await.map_err(said("INFO"))?;
    Ok(info)
}
