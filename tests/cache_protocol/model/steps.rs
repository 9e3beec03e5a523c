//! What can happen next in a state: the protocol, one atomic step at a time, and the faults.

use super::state::{Message, Reader, ReaderAt, Slot, State, Version, Writer, WriterAt};

/// The parts of the protocol. Each is there because without it some order of steps leaves an old value behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ingredients {
    /// A writer marks the slot before it commits.
    pub(super) mark: bool,
    /// A reader fills only a slot that still holds its lease; otherwise any that holds nothing newer.
    pub(super) lease: bool,
    /// A reader puts into the local tier only what no invalidation has overtaken.
    pub(super) ticket: bool,
    /// A server reads nothing older from the second tier than what it has acknowledged.
    pub(super) floor: bool,
    /// The put is published as well as the mark.
    pub(super) second_publish: bool,
}

impl Ingredients {
    pub(super) const ALL: Self = Self { mark: true, lease: true, ticket: true, floor: true, second_publish: true };
}

/// How many take part. Local writers are on the server of the readers, and come first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cast {
    pub(super) readers: usize,
    pub(super) local_writers: usize,
    pub(super) remote_writers: usize,
}

impl Cast {
    fn writers(&self) -> usize {
        self.local_writers + self.remote_writers
    }
}

/// What happened, for the trace that leads to a bad state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Reader(usize, ReaderAt, Version),
    Writer(usize, WriterAt, Version),
    Crash(usize),
    PutIsLate(usize),
    LatePut(usize),
    Deliver(Message),
    Lose(Message),
    Evict,
    EvictLocally,
    LeaseExpires,
    MarkExpires,
}

/// The script MARK.
fn marked(slot: Slot, version: Version) -> Slot {
    match slot {
        Slot::Value(there) | Slot::Mark(there) if there >= version => slot,
        _ => Slot::Mark(version),
    }
}

/// The script PUT, and whether it found its own mark.
fn put(slot: Slot, version: Version) -> (Slot, bool) {
    match slot {
        Slot::Mark(there) if there == version => (Slot::Value(version), true),
        Slot::Value(there) if there < version => (Slot::Value(version), false),
        Slot::Lease(_) => (Slot::Empty, false),
        Slot::Mark(there) if there < version => (Slot::Empty, false),
        Slot::Empty | Slot::Value(_) | Slot::Mark(_) => (slot, false),
    }
}

/// Inserts into the local tier unless that has something as new.
fn insert(local: &mut Version, version: Version) {
    *local = version.max(*local);
}

pub(super) struct Model {
    pub(super) cast: Cast,
    pub(super) ingredients: Ingredients,
}

impl Model {
    /// Calls `emit` for every step that is possible.
    pub(super) fn steps(&self, state: &State, emit: &mut impl FnMut(Step, State)) {
        for reader in 0..self.cast.readers {
            self.reader_steps(state, reader, emit);
        }
        for writer in 0..self.cast.writers() {
            self.writer_steps(state, writer, emit);
        }
        self.channel_steps(state, emit);
        losses(state, emit);
        self.expiries(state, emit);
    }

    /// What this server has acknowledged.
    fn floor(&self, state: &State) -> Version {
        let acknowledged = |writer: &&Writer| matches!(writer.at, WriterAt::Put | WriterAt::Insert | WriterAt::Done);
        state.writers[..self.cast.local_writers].iter().filter(acknowledged).map(|writer| writer.version).max().unwrap_or(0)
    }

    fn reader_steps(&self, state: &State, index: usize, emit: &mut impl FnMut(Step, State)) {
        let reader = state.readers[index];
        let mut next = *state;
        let floor = self.floor(state);
        next.readers[index] = match reader.at {
            ReaderAt::Start if state.local != 0 => Reader { at: ReaderAt::Done, read: state.local, clean: false, floor },
            ReaderAt::Start => Reader { at: ReaderAt::Slot, read: 0, clean: true, floor },
            ReaderAt::Slot => match state.slot {
                Slot::Value(version) if version >= floor || !self.ingredients.floor => {
                    Reader { at: ReaderAt::Insert, read: version, ..reader }
                }
                Slot::Empty => {
                    if self.ingredients.lease {
                        next.slot = Slot::Lease(index);
                    }
                    Reader { at: ReaderAt::Database, ..reader }
                }
                // A write is under way, or another reader's fill, or the value is too old: past the caches.
                _ => Reader { at: ReaderAt::Done, read: state.database, clean: false, ..reader },
            },
            ReaderAt::Database => Reader { at: ReaderAt::Fill, read: state.database, ..reader },
            ReaderAt::Fill => {
                let accepted = match state.slot {
                    Slot::Lease(of) => self.ingredients.lease && of == index,
                    Slot::Empty => !self.ingredients.lease,
                    Slot::Value(there) => !self.ingredients.lease && there < reader.read,
                    Slot::Mark(_) => false,
                };
                if accepted {
                    next.slot = Slot::Value(reader.read);
                }
                Reader { at: if accepted { ReaderAt::Insert } else { ReaderAt::Done }, ..reader }
            }
            ReaderAt::Insert => {
                if reader.clean || !self.ingredients.ticket {
                    insert(&mut next.local, reader.read);
                }
                Reader { at: ReaderAt::Done, clean: false, ..reader }
            }
            ReaderAt::Done => return,
        };
        emit(Step::Reader(index, reader.at, next.readers[index].read), next);
    }

    fn writer_steps(&self, state: &State, index: usize, emit: &mut impl FnMut(Step, State)) {
        let writer = state.writers[index];
        let is_local = index < self.cast.local_writers;
        let mut next = *state;
        next.writers[index] = match writer.at {
            WriterAt::Crashed | WriterAt::Done => return,
            WriterAt::Update if state.lock.is_some() => return,
            WriterAt::Update => {
                next.lock = Some(index);
                Writer { at: WriterAt::Mark, version: state.database + 1, clean: true, ..writer }
            }
            WriterAt::Mark => {
                if self.ingredients.mark {
                    next.slot = marked(state.slot, writer.version);
                    next.channel.send(Message { version: writer.version, writer: index, of_put: false });
                }
                Writer { at: WriterAt::Commit, clean: true, ..writer }
            }
            WriterAt::Commit => {
                (next.database, next.lock) = (writer.version, None);
                Writer { at: WriterAt::Acknowledge, ..writer }
            }
            WriterAt::Acknowledge => {
                if is_local {
                    next.local = 0;
                    invalidate(&mut next, Some(index));
                }
                Writer { at: WriterAt::Put, ..writer }
            }
            WriterAt::Put => {
                let (slot, intact) = put(state.slot, writer.version);
                next.slot = slot;
                if self.ingredients.second_publish || !intact || !self.ingredients.mark {
                    next.channel.send(Message { version: writer.version, writer: index, of_put: true });
                }
                Writer { at: if is_local { WriterAt::Insert } else { WriterAt::Done }, intact, ..writer }
            }
            WriterAt::Insert => {
                if writer.intact && writer.clean {
                    insert(&mut next.local, writer.version);
                }
                Writer { at: WriterAt::Done, clean: false, ..writer }
            }
        };
        emit(Step::Writer(index, writer.at, writer.version), next);

        if writer.at == WriterAt::Put && state.faults.late_puts > 0 {
            let mut late = *state;
            late.faults.late_puts -= 1;
            late.writers[index] = Writer { at: WriterAt::Done, clean: false, intact: false, put_is_late: true, ..writer };
            emit(Step::PutIsLate(index), late);
        }
        // A remote server may die at any time. On this one it is the client that leaves, before it has its answer, and takes the write along: if
        // the server died, so would its readers and its local tier.
        let unanswered = matches!(writer.at, WriterAt::Mark | WriterAt::Commit | WriterAt::Acknowledge);
        if state.faults.crashes > 0 && writer.at != WriterAt::Update && (unanswered || !is_local) {
            let mut crashed = *state;
            crashed.faults.crashes -= 1;
            crashed.lock = state.lock.filter(|holder| *holder != index);
            crashed.writers[index] = Writer { at: WriterAt::Crashed, clean: false, intact: false, ..writer };
            emit(Step::Crash(index), crashed);
        }
    }

    fn channel_steps(&self, state: &State, emit: &mut impl FnMut(Step, State)) {
        for (index, writer) in state.writers.iter().enumerate().filter(|(_, writer)| writer.put_is_late) {
            let mut next = *state;
            next.writers[index].put_is_late = false;
            next.slot = put(state.slot, writer.version).0;
            next.channel.send(Message { version: writer.version, writer: index, of_put: true });
            emit(Step::LatePut(index), next);
        }
        if let Some((message, rest)) = state.channel.next() {
            let mut next = State { channel: rest, ..*state };
            if state.faults.lost_messages > 0 {
                let mut lost = next;
                lost.faults.lost_messages -= 1;
                emit(Step::Lose(message), lost);
            }
            if state.local < message.version {
                next.local = 0;
            }
            // A server's own message does not spoil the ticket of the write that it tells of.
            invalidate(&mut next, (message.writer < self.cast.local_writers).then_some(message.writer));
            emit(Step::Deliver(message), next);
        }
    }

    /// Leases expire at any time; marks do after the commit, which has a deadline.
    fn expiries(&self, state: &State, emit: &mut impl FnMut(Step, State)) {
        let empty = State { slot: Slot::Empty, ..*state };
        match state.slot {
            Slot::Lease(_) => emit(Step::LeaseExpires, empty),
            Slot::Mark(version) => {
                if !state.writers.iter().any(|writer| writer.at == WriterAt::Commit && writer.version == version) {
                    emit(Step::MarkExpires, empty);
                }
            }
            Slot::Empty | Slot::Value(_) => {}
        }
    }

    /// A reader answered less than its server had acknowledged when it began; or all is quiet and a tier is older than the database.
    pub(super) fn is_bad(&self, state: &State) -> bool {
        let readers = &state.readers[..self.cast.readers];
        if readers.iter().any(|reader| reader.at == ReaderAt::Done && reader.read < reader.floor) {
            return true;
        }
        let quiet = state.channel.is_empty()
            && readers.iter().all(|reader| reader.at == ReaderAt::Done)
            && state.writers[..self.cast.writers()]
                .iter()
                .all(|writer| matches!(writer.at, WriterAt::Crashed | WriterAt::Done) && !writer.put_is_late);
        let is_old = |version: Version| version != 0 && version < state.database;
        quiet && (is_old(state.local) || matches!(state.slot, Slot::Value(version) if is_old(version)))
    }
}

/// Spoils the tickets of all, but of one writer.
fn invalidate(state: &mut State, but: Option<usize>) {
    for reader in &mut state.readers {
        reader.clean = false;
    }
    for (index, writer) in state.writers.iter_mut().enumerate() {
        writer.clean &= but == Some(index);
    }
}

fn losses(state: &State, emit: &mut impl FnMut(Step, State)) {
    if state.faults.evictions > 0 && state.slot != Slot::Empty {
        let mut next = State { slot: Slot::Empty, ..*state };
        next.faults.evictions -= 1;
        emit(Step::Evict, next);
    }
    if state.faults.local_evictions > 0 && state.local != 0 {
        let mut next = State { local: 0, ..*state };
        next.faults.local_evictions -= 1;
        emit(Step::EvictLocally, next);
    }
}
