//! Every verb that kevy counts as a write, as its sources list them (`is_write_verb`, `VERBS`, `is_server_write`).

use super::Setup;
use sluicegate_core::command::{Class, Table};

/// kevy 1.19.0, 3.17.3 and 7.0.0 together.
const WRITES: &str = "\
    APPEND BITOP BLPOP BRPOP BRPOPLPUSH BZPOPMIN COPY DECR DECRBY DEL EVAL EVALSHA EXPIRE EXPIREAT FLUSHALL FLUSHDB \
    GEOADD GEORADIUS GEORADIUSBYMEMBER GEOSEARCHSTORE GETDEL GETEX GETSET HDEL HEXPIRE HINCRBY HINCRBYFLOAT HMSET \
    HPERSIST HPEXPIRE HPEXPIREAT HSET HSETNX IDX.CREATE IDX.DROP IDX.REBUILD INCR INCRBY INCRBYFLOAT LINSERT LMOVE \
    LPOP LPUSH LREM LSET LTRIM MSET PERSIST PEXPIRE PEXPIREAT PSETEX RENAME RENAMENX RPOP RPOPLPUSH RPUSH SADD \
    SDIFFSTORE SET SETBIT SETEX SETNX SETRANGE SINTERSTORE SPOP SREM SUNIONSTORE TABLE.DECLARE TABLE.DROP \
    TABLE.ENSURE TABLE.REPLACE UNLINK VIEW.CREATE VIEW.DROP VIEW.REBUILD XACK XADD XAUTOCLAIM XCLAIM XDEL XGROUP \
    XINTERNAL.CATALOG XINTERNAL.CONSUMERSEEN XINTERNAL.PENDING XREADGROUP XSETID XTRIM ZADD ZDIFFSTORE ZINCRBY \
    ZINTERSTORE ZPOPMIN ZPOPMIN.BELOW ZREM ZREMRANGEBYRANK ZREMRANGEBYSCORE ZUNIONSTORE";

#[test]
fn every_write_verb_of_kevy_has_a_row_that_halts_no_view_but_for_scripts() {
    let table = Table::kevy();
    for verb in WRITES.split_ascii_whitespace() {
        let row = table.row(table.find(verb.as_bytes()).unwrap_or_else(|| panic!("{verb} has no row")));
        let refused = matches!(row.class, Class::Refuse(_) | Class::Service(_));
        assert_eq!(refused, verb.starts_with("EVAL"), "{verb}");
        // The client's error that reaches the stream: too few words.
        let (out, fault) = Setup::rules().tell(verb);
        let whole = verb.starts_with("FLUSH");
        assert_eq!((out.is_empty(), fault), (!whole, None), "{verb}");
    }
}
