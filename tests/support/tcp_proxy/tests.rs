//! Each mode does what it says, and no more.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nworkflow_state::lifecycle::Lifecycle;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::{Counts, Direction, Mode, TcpProxy};
use crate::support::redis::resp::{Connection, Value};
use crate::support::redis::{Binary, Options, RedisServer};

/// Long enough for what is on its way, short enough to wait for what must not come.
const SILENCE: Duration = Duration::from_millis(50);
/// Longest wait for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server that sends back what it gets, and says nothing when its client has ended.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let running = Lifecycle::new();
    let spawner = running.clone();
    running.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            spawner.spawn(async move {
                let (mut from, mut to) = stream.split();
                let _until_either_ends = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    address
}

struct Client(TcpStream);

impl Client {
    async fn connect(proxy: &TcpProxy) -> Self {
        let mut client = Self(TcpStream::connect(proxy.address()).await.unwrap());
        // An echo shows that the connection to the server stands too.
        client.says("hello").await;
        client.hears("hello").await;
        client
    }

    async fn says(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    async fn hears(&mut self, text: &str) {
        let mut bytes = vec![0; text.len()];
        timeout(PATIENCE, self.0.read_exact(&mut bytes)).await.unwrap().unwrap();
        assert_eq!(bytes, text.as_bytes());
    }

    async fn hears_nothing(&mut self) {
        assert!(timeout(SILENCE, self.0.read_u8()).await.is_err());
    }

    async fn is_reset(&mut self) {
        assert_eq!(timeout(PATIENCE, self.0.read_u8()).await.unwrap().unwrap_err().kind(), ErrorKind::ConnectionReset);
    }

    async fn is_closed(&mut self) {
        assert_eq!(timeout(PATIENCE, self.0.read_u8()).await.unwrap().unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }
}

/// Waits until the proxy counts so.
async fn counts(proxy: &TcpProxy, expected: impl Fn(Counts) -> bool) {
    let reached = async {
        while !expected(proxy.counts()) {
            tokio::task::yield_now().await;
        }
    };
    assert!(timeout(PATIENCE, reached).await.is_ok(), "{:?}", proxy.counts());
}

#[tokio::test]
async fn bytes_and_the_end_pass_and_are_counted() {
    let proxy = TcpProxy::start(echo().await).await;
    let mut client = Client::connect(&proxy).await;
    assert_eq!(proxy.counts(), Counts { accepted: 1, open: 1, bytes_to_server: 5, bytes_to_client: 5, ..Counts::default() });
    client.0.shutdown().await.unwrap();
    client.is_closed().await;
    counts(&proxy, |counts| counts.open == 0).await;
}

#[tokio::test]
async fn a_delay_is_added_to_each_direction_that_has_it_and_not_to_a_queue_of_bytes() {
    let proxy = TcpProxy::start(echo().await).await;
    let mut client = Client::connect(&proxy).await;
    let delay = Duration::from_millis(150);
    for (directions, least) in [(&[Direction::ToClient][..], 1), (&[Direction::ToServer, Direction::ToClient], 2)] {
        for direction in directions {
            proxy.set(*direction, Mode::Delay(delay, Duration::from_millis(5)));
        }
        let begin = Instant::now();
        for _ in 0..20 {
            client.says("x").await;
            tokio::task::yield_now().await;
        }
        client.hears(&"x".repeat(20)).await;
        let took = begin.elapsed();
        // One after the other they would take twenty times as long.
        assert!(took >= delay * least && took < delay * 10, "{took:?}");
    }
}

#[tokio::test]
async fn what_is_held_arrives_when_the_mode_ends() {
    let proxy = TcpProxy::start(echo().await).await;
    let mut client = Client::connect(&proxy).await;
    for direction in [Direction::ToServer, Direction::ToClient] {
        proxy.set(direction, Mode::Hold);
        client.says("late").await;
        client.hears_nothing().await;
        proxy.set_both(Mode::Pass);
        client.hears("late").await;
    }
}

#[tokio::test]
async fn a_stall_swallows_and_resets_what_lost_something_when_it_ends() {
    let proxy = TcpProxy::start(echo().await).await;
    let (mut client, mut idle) = (Client::connect(&proxy).await, Client::connect(&proxy).await);
    proxy.set_both(Mode::Stall);
    client.says("lost").await;
    client.hears_nothing().await;
    // It is accepted too, and gets no answer.
    let mut late = Client(TcpStream::connect(proxy.address()).await.unwrap());
    late.says("lost").await;
    late.hears_nothing().await;
    assert_eq!(proxy.counts().bytes_to_server, 10, "of the two greetings");
    proxy.set_both(Mode::Pass);
    client.is_reset().await;
    late.is_reset().await;
    idle.says("here").await;
    idle.hears("here").await;
}

#[tokio::test]
async fn a_throttle_lets_so_many_bytes_pass_in_a_second() {
    let proxy = TcpProxy::start(echo().await).await;
    let mut client = Client::connect(&proxy).await;
    proxy.set(Direction::ToServer, Mode::Throttle(10_000));
    let begin = Instant::now();
    let text = "x".repeat(1_000);
    client.says(&text).await;
    client.hears(&text).await;
    assert!(begin.elapsed() >= Duration::from_millis(90), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_cut_lets_exactly_so_many_bytes_pass() {
    let proxy = TcpProxy::start(echo().await).await;
    let mut client = Client::connect(&proxy).await;
    proxy.set(Direction::ToClient, Mode::CutAfter(6));
    client.says("1234").await;
    client.hears("1234").await;
    client.says("5678").await;
    client.hears("56").await;
    client.is_closed().await;
    // The next connection has as many of its own, and none when the mode has ended.
    let mut next = Client::connect(&proxy).await;
    proxy.set(Direction::ToClient, Mode::Pass);
    next.says("much more").await;
    next.hears("much more").await;
}

#[tokio::test]
async fn a_reset_reaches_both_ends_of_every_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = TcpProxy::start(listener.local_addr().unwrap()).await;
    let mut client = Client(TcpStream::connect(proxy.address()).await.unwrap());
    let mut server = Client(listener.accept().await.unwrap().0);
    client.says("hello").await;
    server.hears("hello").await;
    proxy.reset();
    client.is_reset().await;
    server.is_reset().await;
}

#[tokio::test]
async fn half_open_is_closed_for_the_server_and_open_for_the_client() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = TcpProxy::start(listener.local_addr().unwrap()).await;
    let mut client = Client(TcpStream::connect(proxy.address()).await.unwrap());
    let mut server = Client(listener.accept().await.unwrap().0);
    client.says("hello").await;
    server.hears("hello").await;
    proxy.half_open();
    server.is_closed().await;
    client.says("anyone?").await;
    client.hears_nothing().await;
    proxy.reset();
    client.is_reset().await;
}

#[tokio::test]
async fn connections_are_refused_and_taken_again_at_the_same_address() {
    let mut proxy = TcpProxy::start(echo().await).await;
    let mut early = Client::connect(&proxy).await;
    proxy.refuse().await;
    assert_eq!(TcpStream::connect(proxy.address()).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    early.says("still here").await;
    early.hears("still here").await;
    proxy.accept().await;
    Client::connect(&proxy).await;
    drop(proxy);
    early.is_closed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn one_message_in_a_hundred_is_dropped_and_no_reply() {
    const MESSAGES: usize = 2_000;
    for (binary, version) in [(Binary::Redis, "2"), (Binary::Redis, "3"), (Binary::Valkey, "3")] {
        let server = RedisServer::start(Options { binary, ..Options::default() });
        let proxy = TcpProxy::start(server.address()).await;
        proxy.set(Direction::ToClient, Mode::DropMessages(100, 7));
        let mut subscriber = Connection::tcp(proxy.address()).unwrap();
        subscriber.command(&["HELLO", version]).unwrap();
        subscriber.command(&["SUBSCRIBE", "c"]).unwrap();
        let mut publisher = server.connect().unwrap();
        for number in 0..MESSAGES {
            assert_eq!(publisher.command(&["PUBLISH", "c", &number.to_string()]).unwrap(), Value::Integer(1));
        }
        counts(&proxy, |counts| counts.messages == MESSAGES as u64).await;
        proxy.set(Direction::ToClient, Mode::Pass);
        publisher.command(&["PUBLISH", "c", "end"]).unwrap();

        let mut heard = Vec::new();
        loop {
            let message = subscriber.read().unwrap();
            let (true, Value::Items(parts) | Value::Push(parts)) = (message.is_message(), &message) else { panic!("{message:?}") };
            match parts[2].to_text().as_str() {
                "end" => break,
                number => heard.push(number.parse::<usize>().unwrap()),
            }
        }
        let dropped = usize::try_from(proxy.counts().dropped).unwrap();
        assert!((5..60).contains(&dropped), "{dropped}");
        assert_eq!(proxy.lost().iter().filter(|message| message.is_message()).count(), dropped);
        assert_eq!(heard.len() + dropped, MESSAGES);
        assert!(heard.is_sorted());
    }
}
