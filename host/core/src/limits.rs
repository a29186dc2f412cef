//! Every bound of the core: its name, unit, default, and how it relates to the others.

/// One mebibyte, in bytes.
pub const MIB: usize = 1024 * 1024;

/// Bytes appended to one replica's output in one turn; at least one frame is always appended, however large.
pub const PUMP_BYTES_MAX: usize = 256 * 1024;
/// Default of `limits.replica_output`: unsent bytes that one replica may have; refill pauses at half of it.
pub const REPLICA_OUTPUT_BYTES: usize = 4 * MIB;
/// Default of `limits.stalled_for`: a replica that takes no byte for this long while output waits is closed. Milliseconds.
pub const REPLICA_STALLED_MS: u64 = 60_000;
/// Default of `backlog.memory`: bytes of stream kept for each view.
pub const BACKLOG_BYTES: usize = 64 * MIB;
/// Default of `backlog.disk`: bytes of each view's stream kept on disk beneath its backlog, as far as they are needed.
pub const BACKLOG_DISK_BYTES: u64 = 1024 * MIB as u64;
/// Stream bytes on their way from backlogs to the disk: above it the upstream is not read.
pub const LOG_UNWRITTEN_BYTES_MAX: usize = 8 * MIB;
/// A log that the disk failed begins anew after so long. Milliseconds.
pub const LOG_RETRY_MS: u64 = 30_000;
/// The smallest backlog that can be configured: one turn of the pump must fit several times.
pub const BACKLOG_BYTES_MIN: usize = MIB;
/// Default of `limits.frame`: the largest single command that a view with plugins takes. Redis clients may send bulks of 512 MiB.
pub const FRAME_BYTES_MAX: usize = 544 * MIB;
/// The most arguments in one frame (what redis 6.2 takes from its primary).
pub const FRAME_ARGS_MAX: usize = 1024 * 1024;
/// Default of `limits.transaction`: the view's bytes of one MULTI…EXEC that are held until its EXEC.
pub const TRANSACTION_BYTES_MAX: usize = 64 * MIB;
/// Default of `limits.repair_window`: bytes of a view's stream that are held back for values that come from the primary.
pub const REPAIR_WINDOW_BYTES_MAX: usize = 64 * MIB;
/// Default of `limits.repair_time`: how long they may be held back while the primary is there. Milliseconds.
pub const REPAIR_WINDOW_MS_MAX: u64 = 30_000;
/// Default of `limits.repair_keys`: keys of one view whose values may be unknown at once.
pub const REPAIR_KEYS_MAX: usize = 10_000;
/// Default of `limits.repair_value`: the largest value that is fetched from the primary. Bytes, as DUMP gives it.
pub const REPAIR_VALUE_BYTES_MAX: usize = 64 * MIB;
/// Silence after which the connection for single values counts as dead while it is asked, if `upstream.timeout` is not shorter.
/// Milliseconds.
pub const FETCH_TIMEOUT_MS: u64 = 5_000;
/// Keys of the first order for values. The primary makes the whole answer before we read a byte of it, so the orders grow only
/// as the values turn out to be small.
pub const FETCH_KEYS_FIRST: usize = 16;
/// Keys of one order at most: so long nobody else is served by the primary.
pub const FETCH_KEYS_MAX: usize = 1_000;
/// Default of `upstream.timeout`: silence after which a link counts as dead, as `repl-timeout`. Milliseconds.
pub const LINK_TIMEOUT_MS: u64 = 60_000;
/// The whole handshake of a replica, from accept to PSYNC. Milliseconds.
pub const HANDSHAKE_MS: u64 = 30_000;
/// Unanswered bytes that an unauthenticated or handshaking peer may have us keep.
pub const HANDSHAKE_BYTES_MAX: usize = 64 * 1024;
/// Answers that a link may leave unread before it is closed.
pub const ANSWERS_BYTES_MAX: usize = MIB;
/// A line of the upstream's handshake, as real replicas limit it.
pub const REPLY_LINE_BYTES_MAX: usize = 1024;
/// The upstream's INFO reply is refused above this.
pub const INFO_REPLY_BYTES_MAX: usize = 256 * 1024;
/// A fetch from a primary older than 7.0 is made again this often while its clock does not stand still for two commands.
pub const FETCH_TRIES_MAX: u32 = 8;
/// The upstream's reply to COMMAND is refused above this.
pub const COMMAND_REPLY_BYTES_MAX: usize = 4 * MIB;
/// Default of `upstream.backoff.min`. Milliseconds.
pub const BACKOFF_MIN_MS: u64 = 200;
/// Default of `upstream.backoff.max`. Milliseconds.
pub const BACKOFF_MAX_MS: u64 = 10_000;
/// Acknowledgements go upstream, and keepalive newlines to waiting replicas, this often. Milliseconds.
pub const ACK_EVERY_MS: u64 = 1_000;
/// A view that sent nothing for this long sends a PING, as `repl-ping-replica-period`. Milliseconds.
pub const PING_EVERY_MS: u64 = 10_000;
/// Default of `max_replicas`: replicas of one view.
pub const REPLICAS_MAX: usize = 64;
/// Snapshot bytes received but not yet on disk: above it the upstream is not read.
pub const SPOOL_UNWRITTEN_BYTES_MAX: usize = 4 * MIB;
/// What is held of a value that is rewritten for an older or another server: its inner encoding, or one field. Servers' own
/// encodings of this kind have a few KiB.
pub const REWRITE_VALUE_BYTES_MAX: usize = 64 * MIB;
/// Default of `snapshot.ships`: snapshots shipped at once, over all views; further replicas wait with keepalives.
pub const SHIPS_MAX: usize = 8;
/// Default of `snapshot.refresh_log`: a newer snapshot is taken when a view's stream behind its last one is longer. Bytes.
pub const REFRESH_LOG_BYTES: u64 = 256 * MIB as u64;
/// Default of `snapshot.refresh_every`: a newer snapshot is asked for at most this often. Milliseconds.
pub const REFRESH_EVERY_MS: u64 = 30_000;
/// Attempts at a newer snapshot that fail in a row double the time to the next one, so many times at most.
pub const REFRESH_BACKOFF_MAX: u32 = 5;
/// Places of the stream that are remembered until the primary says which of them a newer snapshot stands for: the latest.
pub const REFRESH_MARKS_MAX: usize = 4096;
/// Newer snapshots in a row that stand for no place of a view whose replicas wait for one, before the primary is asked to begin
/// anew on the main link.
pub const REFRESH_MISSES_MAX: u32 = 3;
/// Default of `snapshot.disk`: what the upstream's snapshots, and what views make of them, may take up on the disk. Bytes.
pub const SNAPSHOT_DISK_BYTES: u64 = 64 << 30;
/// How far a snapshot has come is told this often, for each replica. Milliseconds.
pub const SHIP_NOTE_MS: u64 = 2_000;
/// Default of the unpacked bytes in one chunk of a pack: larger ones pack little better, smaller ones worse.
pub const CHUNK_RAW_BYTES: usize = 256 * 1024;
/// Unpacked bytes of one chunk at most; a pack that claims more is refused.
pub const CHUNK_RAW_BYTES_MAX: usize = MIB;
/// Bytes by which a packed chunk may be longer than the unpacked one.
pub const CHUNK_SLACK_BYTES: usize = 64 * 1024;
/// The longest name of a pack's format. Bytes.
pub const FORMAT_NAME_BYTES_MAX: usize = 64;
/// How long a replica that does not name its version is asked for it (by INFO on its announced port). Milliseconds.
pub const PROBE_MS: u64 = 1_000;

const _: () = {
    assert!(PUMP_BYTES_MAX * 2 <= REPLICA_OUTPUT_BYTES, "a refill must fit into the half that stays free");
    assert!(
        REPLICA_OUTPUT_BYTES <= BACKLOG_BYTES,
        "a stalled replica's output is smaller than what it may come back for"
    );
    assert!(PUMP_BYTES_MAX * 4 <= BACKLOG_BYTES_MIN, "even the smallest backlog outlives a few turns of the pump");
    assert!(PUMP_BYTES_MAX * 4 <= LOG_UNWRITTEN_BYTES_MAX, "the disk has a few turns of the pump to catch up with");
    assert!(FETCH_TIMEOUT_MS * 3 < REPAIR_WINDOW_MS_MAX, "a dead connection is noticed while there is time for others");
    assert!(REPAIR_WINDOW_MS_MAX < LINK_TIMEOUT_MS, "replicas hear of a view that waits before they give it up");
    assert!(BACKOFF_MIN_MS < BACKOFF_MAX_MS);
    assert!(CHUNK_RAW_BYTES <= CHUNK_RAW_BYTES_MAX);
    assert!(FORMAT_NAME_BYTES_MAX <= u8::MAX as usize, "the length of a format's name is one byte");
    assert!(ACK_EVERY_MS * 10 < LINK_TIMEOUT_MS, "several acknowledgements may be lost before a link counts as dead");
    assert!(PING_EVERY_MS * 3 < LINK_TIMEOUT_MS, "a replica hears of us well before it gives up");
};
