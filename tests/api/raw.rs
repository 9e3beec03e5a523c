//! Requests as no well-behaved client sends them.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Sends these bytes and reads until the server closes.
pub async fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let (mut reader, mut writer) = TcpStream::connect(address).await.unwrap().into_split();
    let read = async {
        let mut answer = Vec::new();
        let _ = reader.read_to_end(&mut answer).await;
        answer
    };
    // The server may answer and close before it has read everything.
    let write = async { writer.write_all(request).await.ok() };
    let (answer, _) = tokio::join!(read, write);
    String::from_utf8_lossy(&answer).into_owned()
}

/// Sends these bytes, closes its side, and reads until the server closes.
pub async fn exchange_half(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// Sends a head, and the rest once the server has read it: when it asks for a body that it was told of (`Expect` is added), or has answered.
pub async fn exchange_in_two(address: SocketAddr, head: &[u8], rest: &[u8], is_refused: bool) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = head.strip_suffix(b"\r\n").unwrap();
    let expect: &[u8] = if is_refused { b"\r\n" } else { b"Expect: 100-continue\r\n\r\n" };
    stream.write_all(&[head, expect].concat()).await.unwrap();
    let mut answer = Vec::new();
    while answer.is_empty() || !answer.ends_with(if is_refused { b"}" } else { b"\r\n\r\n" }) {
        assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "{}", String::from_utf8_lossy(&answer));
    }
    if !is_refused {
        assert!(answer.starts_with(b"HTTP/1.1 100 "), "{}", String::from_utf8_lossy(&answer));
        answer.clear();
    }
    // A server that has closed by now has said all it wanted to.
    let _ = stream.write_all(rest).await;
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// Sends all of these bytes before it looks for an answer, as simple clients do, and reads until the server closes.
pub async fn exchange_after(address: SocketAddr, request: &[u8]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// A GET whose target is sent as it is.
pub async fn get(address: SocketAddr, target: &str, token: &str) -> String {
    exchange(
        address,
        format!("GET {target} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n").as_bytes(),
    )
    .await
}

/// A PUT of JSON in chunks, so that its length is not known before it has been read.
pub async fn put_chunked(address: SocketAddr, target: &str, token: &str, body: &[u8]) -> String {
    let head = format!(
        "PUT {target} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    );
    let mut request = head.into_bytes();
    for chunk in body.chunks(64 * 1024) {
        request.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        request.extend_from_slice(chunk);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"0\r\n\r\n");
    exchange(address, &request).await
}
