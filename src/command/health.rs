//! `health`: asks the server on this machine whether it is ready. A container has no other program that could.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;

use super::{Failure, Result, block_on, loopback_client, print, settings};

pub(super) fn run(settings: &settings::SettingsArguments) -> Result<ExitCode> {
    let address = reachable(settings.load(&[])?.server.listen);
    let client = loopback_client()?;
    let answer = block_on(async { client.get(format!("http://{address}/health/ready")).send().await?.error_for_status()?.text().await })?;
    match answer {
        Ok(body) => {
            print(&format!("{body}\n"))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Err(Failure::Other(format!("the server at {address} is not ready: {error}"))),
    }
}

/// An address that means every one of this machine is reached by loopback.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let address = match listen.ip() {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address => address,
    };
    SocketAddr::new(address, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_asked_by_loopback() {
        for (listen, asked) in
            [("0.0.0.0:80", "127.0.0.1:80"), ("[::]:80", "[::1]:80"), ("127.0.0.1:8080", "127.0.0.1:8080"), ("10.1.2.3:1", "10.1.2.3:1")]
        {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), asked);
        }
    }
}
