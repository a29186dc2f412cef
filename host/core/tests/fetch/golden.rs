//! What real servers answer, byte for byte, in every split.

use proptest::prelude::*;
use sluicegate_core::fault::Party;
use sluicegate_core::fetch::{Answer, Fetched, Phase};

use crate::support::{Link, captured_order};

struct Server {
    name: &'static str,
    reply: &'static [u8],
    id: &'static str,
    fence: u64,
    /// The version of the payloads' format: two bytes in front of the checksum.
    version: u16,
}

const SERVERS: [Server; 4] = [
    Server {
        name: "redis 6.2",
        reply: include_bytes!("../golden/fetch-redis-6.2.reply"),
        id: "d5954411fb15f8872197006b5274d67c3bfa8478",
        fence: 1019,
        version: 9,
    },
    Server {
        name: "redis 7.0",
        reply: include_bytes!("../golden/fetch-redis-7.0.reply"),
        id: "15f6c115a8e4ee28e628aad8a3985154eb9fc311",
        fence: 1221,
        version: 10,
    },
    Server {
        name: "redis 8.2",
        reply: include_bytes!("../golden/fetch-redis-8.2.reply"),
        id: "768a4ed2f0719c0a74235c4526f34642e0c6b14b",
        fence: 1221,
        version: 12,
    },
    Server {
        name: "valkey 9.1",
        reply: include_bytes!("../golden/fetch-valkey-9.1.reply"),
        id: "5580816e815955c74654b927d2a90c9fea17d693",
        fence: 951,
        version: 80,
    },
];

/// What redis 6.2 answers to a transaction with PEXPIRETIME in it.
const REFUSED: &[u8] = include_bytes!("../golden/fetch-redis-6.2-refused.reply");

/// A link on which the captured order was sent, as `server` takes it.
fn asked(server: &Server) -> Link {
    let mut link = Link::ready();
    link.order(captured_order());
    if server.name == "redis 6.2" {
        assert_eq!(link.push(REFUSED), Ok(None));
    }
    link
}

fn whole(server: &Server) -> Fetched {
    match asked(server).push(server.reply) {
        Ok(Some(Answer::Fetched(fetched))) => fetched,
        other => panic!("{}: {other:?}", server.name),
    }
}

#[test]
fn real_servers_give_the_values_and_the_place_that_they_are_true_at() {
    for server in &SERVERS {
        let fetched = whole(server);
        assert_eq!((fetched.id.as_str(), fetched.fence), (server.id, server.fence), "{}", server.name);
        let [plain, dying, later, none, hash, bin] = fetched.values.as_slice() else { panic!("{}", server.name) };
        assert_eq!((dying, none), (&None, &None), "{}: expired, and never there", server.name);
        for (value, start, expires_ms) in [
            (plain, &b"\0\x05hello"[..], None),
            (later, b"\0\x01z", Some(4_102_444_800_123)),
            (hash, b"", None),
            (bin, b"\0\x0a\0\r\n\xff*$-1\r\n", None),
        ] {
            let value = value.as_ref().unwrap();
            assert!(value.payload.starts_with(start), "{}: {:?}", server.name, value.payload);
            let version = &value.payload[value.payload.len() - 10..][..2];
            assert_eq!(version, server.version.to_le_bytes(), "{}", server.name);
            assert_eq!(value.expires_ms, expires_ms, "{}", server.name);
        }
    }
}

#[test]
fn a_primary_without_pexpiretime_is_asked_by_its_own_clock() {
    let mut link = Link::ready();
    link.order(captured_order());
    assert!(link.take_sent().contains("PEXPIRETIME plain\n"));
    assert_eq!(link.push(REFUSED), Ok(None));
    let sent = link.take_sent();
    assert!(
        sent.starts_with("MULTI\nINFO replication\nSELECT 0\nDUMP plain\nTIME\nPTTL plain\nTIME\nPTTL plain\nTIME\n")
    );
    assert!(sent.ends_with("SELECT 3\nDUMP bin\nTIME\nPTTL bin\nTIME\nPTTL bin\nTIME\nEXEC\n"));
    assert!(!sent.contains("PEXPIRETIME"));
    link.push(SERVERS[0].reply).unwrap().unwrap();
    link.order(captured_order());
    assert!(!link.take_sent().contains("PEXPIRETIME"), "it is remembered as long as the link lives");
}

#[test]
fn every_split_in_two_gives_the_same_answer_and_every_truncation_none() {
    for server in &SERVERS {
        let expected = Ok(Some(Answer::Fetched(whole(server))));
        for at in 0..server.reply.len() {
            let (head, tail) = server.reply.split_at(at);
            let mut link = asked(server);
            assert_eq!(link.push(head), Ok(None), "{} up to {at}", server.name);
            assert_eq!(link.fetcher.phase(), Phase::Busy);
            assert_eq!(link.push(tail), expected, "{} at {at}", server.name);
        }
    }
}

#[test]
fn byte_by_byte_gives_the_same_answer() {
    for server in &SERVERS {
        let mut link = asked(server);
        let (last, most) = server.reply.split_last().unwrap();
        for byte in most {
            assert_eq!(link.push(&[*byte]), Ok(None), "{}", server.name);
        }
        assert_eq!(link.push(&[*last]), Ok(Some(Answer::Fetched(whole(server)))), "{}", server.name);
    }
}

proptest! {
    #[test]
    fn any_pieces_give_the_same_answer(server in 0..SERVERS.len(), sizes in prop::collection::vec(1usize..200, 1..50)) {
        let server = &SERVERS[server];
        let mut link = asked(server);
        let (mut rest, mut sizes, mut answer) = (server.reply, sizes.into_iter().cycle(), None);
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at(sizes.next().unwrap().min(rest.len()));
            answer = link.push(piece).unwrap();
            rest = tail;
        }
        prop_assert_eq!(answer, Some(Answer::Fetched(whole(server))));
    }

    #[test]
    fn a_damaged_answer_is_a_fault_of_the_upstream_or_an_answer_and_never_a_panic(
        server in 0..SERVERS.len(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in 1usize..64,
    ) {
        let server = &SERVERS[server];
        let mut damaged = server.reply.to_vec();
        let at = at.index(damaged.len());
        damaged[at] = byte;
        let mut link = asked(server);
        for piece in damaged.chunks(cut) {
            match link.push(piece) {
                Ok(None) => {}
                Ok(Some(_)) => break,
                Err(fault) => {
                    prop_assert_eq!(fault.whose, Party::Upstream);
                    break;
                }
            }
        }
    }

    #[test]
    fn noise_is_a_fault_of_the_upstream(noise in prop::collection::vec(any::<u8>(), 1..4000)) {
        prop_assume!(!b"+-".contains(&noise[0]) && noise.contains(&b'\n'));
        let mut link = Link::ready();
        link.order(captured_order());
        let fault = link.push(&noise).unwrap_err();
        prop_assert_eq!(fault.whose, Party::Upstream);
        prop_assert!(fault.what.contains("primary"), "{}", fault);
    }
}
