//! Addresses as operators write them, and which of them cannot be listened on together.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// `host:port` of a primary; the host may be a name, an IPv4 address or a bracketed IPv6 address. It is not looked up.
pub(super) fn upstream(text: &str) -> Result<(String, u16), String> {
    let bad = |why: &str| Err(format!("bad address `{text}`: {why}, like \"10.0.0.5:6379\""));
    let Some((host, port)) = text.rsplit_once(':') else { return bad("it needs a host and a port") };
    let Some(port) = port.parse().ok().filter(|port| *port != 0) else { return bad("its port is not 1 to 65535") };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match bare.unwrap_or(host) {
        "" => bad("it needs a host"),
        host if host.contains(':') && bare.is_none() => bad("an IPv6 address stands in brackets"),
        host if host.contains(char::is_whitespace) => bad("there is a blank in it"),
        host => Ok((host.to_owned(), port)),
    }
}

/// Where a view listens: `IP:port`, or `:port` for 127.0.0.1, so that nothing is open to others unless it says so.
pub(super) fn listen(text: &str) -> Result<SocketAddr, String> {
    let bad = |why: String| Err(format!("bad listening address `{text}`: {why}"));
    let address = match text.strip_prefix(':') {
        Some(port) => port.parse().ok().map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)),
        None => text.parse().ok(),
    };
    match address {
        Some(address) if address.port() == 0 => bad("replicas need a port that stays, 1 to 65535".into()),
        Some(address) => Ok(address),
        None if text.starts_with("localhost:") => bad(text.replacen("localhost", "write \"127.0.0.1", 1) + "\""),
        None => bad("write IP:port, like \"0.0.0.0:7000\", or \":7000\" for 127.0.0.1".into()),
    }
}

/// Whether the two cannot be listened on at once. `[::]` takes IPv4 as well, which is what Linux does by default.
pub(super) fn clash(left: SocketAddr, right: SocketAddr) -> bool {
    let covers = |all: IpAddr, one: IpAddr| all.is_unspecified() && (all.is_ipv6() || one.is_ipv4());
    left.port() == right.port()
        && (left.ip() == right.ip() || covers(left.ip(), right.ip()) || covers(right.ip(), left.ip()))
}

#[cfg(test)]
mod tests {
    use super::{clash, listen, upstream};

    #[test]
    fn a_port_alone_is_open_to_this_machine_only() {
        assert_eq!(listen(":7000").map(|address| address.to_string()).as_deref(), Ok("127.0.0.1:7000"));
        assert!(listen("localhost:7000").is_err_and(|why| why.contains("write \"127.0.0.1:7000\"")));
        for text in ["", ":", "7000", ":0", "1.2.3.4", "example.org:7000", ":70000"] {
            assert!(listen(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_primary_may_be_a_name() {
        assert_eq!(upstream("db.example:6379"), Ok(("db.example".into(), 6379)));
        assert_eq!(upstream("[fd00::5]:6379"), Ok(("fd00::5".into(), 6379)));
        for text in ["", ":6379", "db", "db:0", "db:x", "fd00::5:6379", "a b:1"] {
            assert!(upstream(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_wildcard_takes_the_port_from_all() {
        let of = |text: &str| text.parse().unwrap_or_else(|_| panic!("{text}"));
        for (left, right, expected) in [
            ("127.0.0.1:7", "127.0.0.1:8", false),
            ("127.0.0.1:7", "127.0.0.1:7", true),
            ("127.0.0.1:7", "127.0.0.2:7", false),
            ("0.0.0.0:7", "127.0.0.2:7", true),
            ("[::]:7", "127.0.0.2:7", true),
            ("0.0.0.0:7", "[::1]:7", false),
        ] {
            assert_eq!(clash(of(left), of(right)), expected, "{left} {right}");
            assert_eq!(clash(of(right), of(left)), expected, "{right} {left}");
        }
    }
}
