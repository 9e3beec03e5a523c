//! Ports for servers that go down and come back at the same address.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

/// The kernel gives no port below 32768 to a connection or a listener that asks for any: a server that is down gets its port back.
const FIRST: u32 = 10_000;
const COUNT: u32 = 22_000;

/// Of this process; a port is given once.
static GIVEN: AtomicU32 = AtomicU32::new(0);

pub(crate) fn free() -> u16 {
    // Processes that test at the same time begin at different places.
    let begin = std::process::id().wrapping_mul(127) % COUNT;
    loop {
        let given = GIVEN.fetch_add(1, Ordering::Relaxed);
        assert!(given < COUNT, "no port is free");
        let port = u16::try_from(FIRST + (begin + given) % COUNT).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
