//! A state of the model, and its packed form: a search holds millions of them.

/// Versions count from 1; 0 is none.
pub(super) type Version = u8;

/// The entry of the key in the second tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    Empty,
    Value(Version),
    /// A writer is about to commit this version.
    Mark(Version),
    /// This reader may fill the slot.
    Lease(usize),
}

/// What a reader does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReaderAt {
    Start,
    Slot,
    Database,
    Fill,
    Insert,
    Done,
}

impl ReaderAt {
    const ALL: [Self; 6] = [Self::Start, Self::Slot, Self::Database, Self::Fill, Self::Insert, Self::Done];
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reader {
    pub(super) at: ReaderAt,
    /// What it has read, and answers in the end.
    pub(super) read: Version,
    /// Its ticket still holds: no invalidation since it was drawn.
    pub(super) clean: bool,
    /// What this server had acknowledged when it began: it may not answer less.
    pub(super) floor: Version,
}

/// What a writer does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriterAt {
    Update,
    Mark,
    Commit,
    Acknowledge,
    Put,
    Insert,
    Crashed,
    Done,
}

impl WriterAt {
    const ALL: [Self; 8] = [Self::Update, Self::Mark, Self::Commit, Self::Acknowledge, Self::Put, Self::Insert, Self::Crashed, Self::Done];
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Writer {
    pub(super) at: WriterAt,
    pub(super) version: Version,
    pub(super) clean: bool,
    /// Its put found its own mark.
    pub(super) intact: bool,
    /// Its put is still on the way, although its writer has given it up.
    pub(super) put_is_late: bool,
}

/// An invalidation on its way to the server of the readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) version: Version,
    pub(super) writer: usize,
    pub(super) of_put: bool,
}

/// The channel, in order: four bits a message, of which there are at most two for each of two writers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Channel(u16);

impl Channel {
    pub(super) fn send(&mut self, message: Message) {
        let length = (16 - self.0.leading_zeros()).div_ceil(4);
        assert!(length < 4, "the channel is longer than its packed form");
        let packed = u16::from(message.version) << 2 | (message.writer as u16) << 1 | u16::from(message.of_put);
        self.0 |= packed << (4 * length);
    }

    /// The next one, and the channel without it.
    pub(super) fn next(self) -> Option<(Message, Self)> {
        let first = self.0 & 15;
        let message = Message { version: (first >> 2) as Version, writer: usize::from(first >> 1 & 1), of_put: first & 1 == 1 };
        (first != 0).then_some((message, Self(self.0 >> 4)))
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Faults that may still happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Faults {
    pub(super) evictions: u8,
    pub(super) crashes: u8,
    pub(super) late_puts: u8,
    pub(super) lost_messages: u8,
    pub(super) local_evictions: u8,
}

/// One key, seen by the server whose readers and local tier are modelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    /// The committed version.
    pub(super) database: Version,
    pub(super) slot: Slot,
    /// The version in the local tier.
    pub(super) local: Version,
    /// The writer that holds the row.
    pub(super) lock: Option<usize>,
    pub(super) channel: Channel,
    pub(super) readers: [Reader; 2],
    pub(super) writers: [Writer; 2],
    pub(super) faults: Faults,
}

/// Appends fields to a number, lowest bits last.
struct Packer(u128);

impl Packer {
    fn put(&mut self, bits: u32, value: u8) {
        debug_assert!(u32::from(value) >> bits == 0);
        self.0 = self.0 << bits | u128::from(value);
    }

    fn take(&mut self, bits: u32) -> u8 {
        let value = (self.0 & ((1 << bits) - 1)) as u8;
        self.0 >>= bits;
        value
    }
}

impl State {
    pub(super) fn pack(&self) -> u128 {
        let mut packer = Packer(u128::from(self.channel.0));
        packer.put(2, self.database);
        let (kind, value) = match self.slot {
            Slot::Empty => (0, 0),
            Slot::Value(version) => (1, version),
            Slot::Mark(version) => (2, version),
            Slot::Lease(reader) => (3, reader as u8),
        };
        packer.put(4, kind << 2 | value);
        packer.put(2, self.local);
        packer.put(2, self.lock.map_or(0, |writer| writer as u8 + 1));
        for reader in &self.readers {
            packer.put(8, (reader.at as u8) << 5 | reader.read << 3 | u8::from(reader.clean) << 2 | reader.floor);
        }
        for writer in &self.writers {
            let flags = u8::from(writer.clean) << 2 | u8::from(writer.intact) << 1 | u8::from(writer.put_is_late);
            packer.put(8, (writer.at as u8) << 5 | writer.version << 3 | flags);
        }
        let faults = &self.faults;
        for left in [faults.evictions, faults.crashes, faults.late_puts, faults.lost_messages, faults.local_evictions] {
            packer.put(2, left);
        }
        packer.0
    }

    pub(super) fn unpack(packed: u128) -> Self {
        let mut packer = Packer(packed);
        let local_evictions = packer.take(2);
        let lost_messages = packer.take(2);
        let late_puts = packer.take(2);
        let crashes = packer.take(2);
        let evictions = packer.take(2);
        let mut writer = || {
            let bits = packer.take(8);
            let (at, version) = (WriterAt::ALL[usize::from(bits >> 5)], bits >> 3 & 3);
            Writer { at, version, clean: bits & 4 != 0, intact: bits & 2 != 0, put_is_late: bits & 1 != 0 }
        };
        let (second_writer, first_writer) = (writer(), writer());
        let mut reader = || {
            let bits = packer.take(8);
            Reader { at: ReaderAt::ALL[usize::from(bits >> 5)], read: bits >> 3 & 3, clean: bits & 4 != 0, floor: bits & 3 }
        };
        let (second_reader, first_reader) = (reader(), reader());
        let lock = packer.take(2).checked_sub(1).map(usize::from);
        let local = packer.take(2);
        let slot = packer.take(4);
        let value = slot & 3;
        Self {
            slot: match slot >> 2 {
                0 => Slot::Empty,
                1 => Slot::Value(value),
                2 => Slot::Mark(value),
                _ => Slot::Lease(usize::from(value)),
            },
            local,
            lock,
            database: packer.take(2),
            channel: Channel(packer.0 as u16),
            readers: [first_reader, second_reader],
            writers: [first_writer, second_writer],
            faults: Faults { evictions, crashes, late_puts, lost_messages, local_evictions },
        }
    }
}
