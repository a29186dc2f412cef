//! Commands that really block, and what another client does to serve them: the primary sends the pop behind the push.

use crate::exact::draw::Draw;

/// How long a command blocks whose keys nothing comes to, in seconds.
const BLOCKED: &str = "0.2";

/// The lines of a client, the last of which blocks, and those of another that serve it.
pub(crate) fn served(d: &mut Draw) -> (String, String) {
    let db = d.db();
    let (blocked, serving) = match d.below(9) {
        8 => group_reader(d),
        n => {
            let content = if n < 5 { "list" } else { "zset" };
            let (first, second) = (d.key(content), d.key(content));
            let blocked = match n {
                0 => format!("BLPOP {first} {second} {BLOCKED}"),
                1 => format!("BRPOP {first} {second} {BLOCKED}"),
                2 => format!("BLMOVE {first} {second} RIGHT LEFT {BLOCKED}"),
                3 => format!("BRPOPLPUSH {first} {second} {BLOCKED}"),
                4 => format!("BLMPOP {BLOCKED} 2 {first} {second} LEFT COUNT 2"),
                5 => format!("BZPOPMIN {first} {second} {BLOCKED}"),
                6 => format!("BZPOPMAX {first} {second} {BLOCKED}"),
                _ => format!("BZMPOP {BLOCKED} 2 {first} {second} MAX COUNT 2"),
            };
            (format!("DEL {first} {second}\n{blocked}"), serving(d, content, &first))
        }
    };
    (format!("SELECT {db}\n{blocked}"), format!("SELECT {db}\n{serving}"))
}

/// Puts something into a key: at once, in a transaction or under another name at first.
fn serving(d: &mut Draw, content: &str, key: &str) -> String {
    let fill = |key: &str, d: &mut Draw| match content {
        "list" => format!("RPUSH {key} {} {} {}", d.word(), d.word(), d.word()),
        _ => format!("ZADD {key} {} w5 {} w6 {} w7", d.score(), d.number(), d.number()),
    };
    match d.below(4) {
        0 => {
            let other = d.key(content);
            format!("DEL {other}\n{}\nRENAME {other} {key}", fill(&other, d))
        }
        1 => format!("MULTI\n{}\nINCR {}\n{}\nEXEC", fill(key, d), d.key("num"), fill(key, d)),
        _ => fill(key, d),
    }
}

fn group_reader(d: &mut Draw) -> (String, String) {
    let (key, (group, consumer)) = (d.key("xs"), d.group());
    let make =
        format!("DEL {key}\nXGROUP CREATE {key} {group} $ MKSTREAM\nXGROUP CREATECONSUMER {key} {group} {consumer}");
    let blocked =
        format!("{make}\nXREADGROUP GROUP {group} {consumer} BLOCK 200 {} STREAMS {key} >", d.maybe(3, "NOACK"));
    (blocked, format!("XADD {key} {} f v", d.next_entry()))
}
