//! The configuration of the demo's proxy: what an operator would write.

use std::net::SocketAddr;

use super::super::cast::Cast;
use super::super::script::Filtered;

/// The text of the file. Each view listens on its address; of a kevy, also on a port behind it for each further shard.
pub(super) fn text(
    cast: &Cast,
    filtered: &Filtered,
    upstream: SocketAddr,
    all: SocketAddr,
    listen: SocketAddr,
) -> String {
    let Filtered { name, kept, renamed } = filtered;
    // Of a kevy, the address is that of its first replication port.
    let protocol = match cast {
        Cast::Kevy(_) => format!("protocol = \"kevy\"\nshards = {}\n", cast.shards()),
        Cast::Model | Cast::Redis(_) => String::new(),
    };
    format!(
        r#"[server]
data_dir = "data"

[upstream]
{protocol}address = "{upstream}"

[[view]]
name = "all"
listen = ["{all}"]

[[view]]
name = "{name}"
listen = ["{listen}"]
pipeline = ["users-only", "new-names"]

[[plugin]]
name = "users-only"
builtin = "key-filter"
config = {{ allow = ["{kept}*"] }}

[[plugin]]
name = "new-names"
builtin = "key-rename"
config = {{ rule = "{kept}* => {renamed}*" }}
"#
    )
}
