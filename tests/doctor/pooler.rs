//! A pooler that gives one connection of PostgreSQL to one transaction of its clients after the other.

use std::net::SocketAddr;
use std::sync::Arc;

use sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

/// The code in the place of a protocol version by which a client asks for TLS.
const TLS_REQUEST: [u8; 4] = [0x04, 0xd2, 0x16, 0x2f];

/// It ends when it is dropped.
pub(super) struct Pooler {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Pooler {
    pub(super) async fn start(server: &PgConnectOptions, user: &str, database: &str) -> Self {
        let mut shared = TcpStream::connect((server.get_host(), server.get_port())).await.unwrap();
        let mut startup = vec![0, 3, 0, 0];
        startup.extend(format!("user\0{user}\0database\0{database}\0\0").bytes());
        let length = u32::try_from(startup.len() + 4).unwrap();
        shared.write_all(&[&length.to_be_bytes()[..], &startup].concat()).await.unwrap();
        let greeting = until_ready(&mut shared).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = spawn(async move {
            let shared = Arc::new(Mutex::new(shared));
            while let Ok((client, _)) = listener.accept().await {
                spawn(serve(client, Arc::clone(&shared), greeting.clone()));
            }
        });
        Self { address, task }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's helper ends with the test's runtime")]
fn spawn(task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(task)
}

async fn serve(mut client: TcpStream, shared: Arc<Mutex<TcpStream>>, greeting: Vec<u8>) {
    // What is wrong with a client is that client's own.
    let _ = converse(&mut client, &shared, &greeting).await;
}

async fn converse(client: &mut TcpStream, shared: &Mutex<TcpStream>, greeting: &[u8]) -> std::io::Result<()> {
    loop {
        let length = client.read_u32().await? as usize;
        let mut startup = vec![0; length - 4];
        client.read_exact(&mut startup).await?;
        if startup[..] != TLS_REQUEST {
            break;
        }
        client.write_all(b"N").await?;
    }
    client.write_all(greeting).await?;
    loop {
        let first = message(client).await?;
        let mut server = shared.lock().await;
        let mut request = first;
        // A simple query, or whatever comes before a Sync, is answered up to ReadyForQuery.
        loop {
            let kind = request[0];
            if kind == b'X' {
                return Ok(());
            }
            server.write_all(&request).await?;
            if kind == b'Q' || kind == b'S' {
                break;
            }
            request = message(client).await?;
        }
        let answer = until_ready(&mut server).await?;
        client.write_all(&answer).await?;
    }
}

/// One message with its kind and length.
async fn message(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let kind = stream.read_u8().await?;
    let length = stream.read_u32().await?;
    let mut whole = vec![kind];
    whole.extend(length.to_be_bytes());
    whole.resize(length as usize + 1, 0);
    stream.read_exact(&mut whole[5..]).await?;
    Ok(whole)
}

async fn until_ready(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let one = message(stream).await?;
        let is_ready = one[0] == b'Z';
        all.extend(one);
        if is_ready {
            return Ok(all);
        }
    }
}
