//! One direction of one connection.

use std::future::pending;
use std::io::Result;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::{Counters, Lane, Mode};
use crate::support::redis::resp;

/// How a connection ends that does not end by itself.
pub(super) enum Broken {
    Cut,
    Reset,
}

impl From<std::io::Error> for Broken {
    fn from(_: std::io::Error) -> Self {
        Self::Reset
    }
}

/// What was read: bytes, or that the sender broke off; and when it may arrive. The end of the channel is the end that the sender made.
struct Parcel {
    content: Result<Vec<u8>>,
    due: Instant,
}

/// Parcels on their way; a sender that is further ahead waits, as it does when the buffers of the kernel are full.
const PARCELS: usize = 256;

/// Carries bytes until their sender has no more, which is passed on.
pub(super) async fn pump(from: ReadHalf<'_>, to: WriteHalf<'_>, lane: &Lane, counters: &Counters) -> std::result::Result<(), Broken> {
    let (sender, receiver) = mpsc::channel(PARCELS);
    let delivery = Delivery { to, lane, counters, modes: lane.mode.subscribe(), left: None, frames: Vec::new(), random: None };
    // Reading is a task of its own in here, so that what comes in the meantime is not delayed twice.
    tokio::select! {
        ended = delivery.run(receiver) => ended,
        never = async { collect(from, lane, sender).await; pending().await } => never,
    }
}

async fn collect(mut from: ReadHalf<'_>, lane: &Lane, sender: mpsc::Sender<Parcel>) {
    let mut random = Random(1);
    let mut due = Instant::now();
    loop {
        let mut bytes = vec![0; 16 * 1024];
        let content = from.read(&mut bytes).await;
        if let Mode::Delay(base, jitter) = *lane.mode.borrow() {
            due = due.max(Instant::now() + base + jitter.mul_f64(random.fraction()));
        }
        let content = match content {
            Ok(0) => {
                // The end is delayed like the bytes before it.
                sleep_until(due).await;
                return;
            }
            Ok(count) => {
                bytes.truncate(count);
                Ok(bytes)
            }
            Err(error) => Err(error),
        };
        let ended = content.is_err();
        if sender.send(Parcel { content, due }).await.is_err() || ended {
            return;
        }
    }
}

struct Delivery<'a> {
    to: WriteHalf<'a>,
    lane: &'a Lane,
    counters: &'a Counters,
    modes: watch::Receiver<Mode>,
    /// Of [`Mode::CutAfter`].
    left: Option<u64>,
    /// The beginning of a frame whose rest is still to come.
    frames: Vec<u8>,
    random: Option<Random>,
}

impl Delivery<'_> {
    async fn run(mut self, mut parcels: mpsc::Receiver<Parcel>) -> std::result::Result<(), Broken> {
        loop {
            let parcel = parcels.recv().await;
            if let Some(Parcel { due, .. }) = &parcel {
                sleep_until(*due).await;
            }
            let mode = self.mode_that_passes().await;
            if mode == Mode::Stall {
                return self.swallow(parcels).await;
            }
            match parcel {
                Some(Parcel { content, .. }) => self.deliver(&content?, mode).await?,
                None => {
                    let begun = std::mem::take(&mut self.frames);
                    self.write(&begun).await?;
                    return Ok(self.to.shutdown().await?);
                }
            }
        }
    }

    /// The mode, when it is another than [`Mode::Hold`].
    async fn mode_that_passes(&mut self) -> Mode {
        loop {
            if self.modes.has_changed().unwrap() {
                (self.left, self.random) = (None, None);
            }
            let mode = *self.modes.borrow_and_update();
            if mode != Mode::Hold {
                return mode;
            }
            self.modes.changed().await.unwrap();
        }
    }

    /// Loses everything until the mode ends.
    async fn swallow(&mut self, mut parcels: mpsc::Receiver<Parcel>) -> std::result::Result<(), Broken> {
        let mut more = true;
        loop {
            tokio::select! {
                changed = self.modes.changed() => {
                    changed.unwrap();
                    if *self.modes.borrow_and_update() != Mode::Stall {
                        return Err(Broken::Reset);
                    }
                }
                parcel = parcels.recv(), if more => more = parcel.is_some(),
            }
        }
    }

    async fn deliver(&mut self, bytes: &[u8], mode: Mode) -> std::result::Result<(), Broken> {
        if let Mode::DropMessages(one_in, seed) = mode {
            self.frames.extend_from_slice(bytes);
            return Ok(self.without_messages(one_in, seed).await?);
        }
        // Of a mode that has ended.
        let begun = std::mem::take(&mut self.frames);
        self.write(&begun).await?;
        match mode {
            Mode::Throttle(rate) => {
                let step = usize::try_from(rate / 100).unwrap().max(1);
                for piece in bytes.chunks(step) {
                    self.write(piece).await?;
                    sleep(Duration::from_secs(1).mul_f64(step as f64 / rate as f64)).await;
                }
            }
            Mode::CutAfter(count) => {
                let left = self.left.unwrap_or(count);
                let passed = bytes.len().min(usize::try_from(left).unwrap());
                self.write(&bytes[..passed]).await?;
                self.left = Some(left - passed as u64);
                if self.left == Some(0) {
                    return Err(Broken::Cut);
                }
            }
            _ => self.write(bytes).await?,
        }
        Ok(())
    }

    /// Passes on the whole frames that there are, but for some messages.
    async fn without_messages(&mut self, one_in: u64, seed: u64) -> Result<()> {
        let frames = std::mem::take(&mut self.frames);
        let (mut begin, mut passed) = (0, Vec::new());
        loop {
            let (frame, length) = match resp::parse(&frames[begin..]) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                // Not at the beginning of a frame, or no Redis: not for this mode to judge.
                Err(_) => {
                    passed.extend_from_slice(&frames[begin..]);
                    begin = frames.len();
                    break;
                }
            };
            let end = begin + length;
            if frame.is_message() {
                self.counters.messages.fetch_add(1, Ordering::SeqCst);
                if self.random.get_or_insert(Random(seed)).next().is_multiple_of(one_in) {
                    self.counters.dropped.fetch_add(1, Ordering::SeqCst);
                    self.counters.lost.lock().unwrap().push(frame);
                    begin = end;
                    continue;
                }
            }
            passed.extend_from_slice(&frames[begin..end]);
            begin = end;
        }
        self.frames = frames[begin..].to_vec();
        self.write(&passed).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.to.write_all(bytes).await?;
        self.lane.bytes.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        Ok(())
    }
}

/// SplitMix64: a fault can be drawn again from its seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn fraction(&mut self) -> f64 {
        self.next() as f64 / u64::MAX as f64
    }
}
