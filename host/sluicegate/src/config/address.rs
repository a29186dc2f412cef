//! Addresses as operators write them, and which of them cannot be listened on together.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// `host:port` of a server; the host may be a name, an IPv4 address or a bracketed IPv6 address. It is not looked up.
pub(crate) fn upstream(text: &str) -> Result<(String, u16), String> {
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

/// Ports of one IP address, one behind the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ports {
    first: SocketAddr,
    last: u16,
}

impl Ports {
    /// So many ports from `first` on.
    pub(super) fn new(first: SocketAddr, count: usize) -> Result<Self, String> {
        match last_port(first.port(), count) {
            Some(last) => Ok(Self { first, last }),
            None => Err(format!("there are no {count} ports from {first} on: the last one is 65535")),
        }
    }

    /// Each of them.
    pub(crate) fn each(self) -> impl Iterator<Item = SocketAddr> {
        (self.first.port()..=self.last).map(move |port| SocketAddr::new(self.first.ip(), port))
    }

    /// Whether some of theirs and of ours cannot be listened on at once. `[::]` takes IPv4 as well, which is what Linux does
    /// by default.
    pub(super) fn clash(self, other: Self) -> bool {
        let covers = |all: IpAddr, one: IpAddr| all.is_unspecified() && (all.is_ipv6() || one.is_ipv4());
        let (ours, theirs) = (self.first.ip(), other.first.ip());
        self.first.port() <= other.last
            && other.first.port() <= self.last
            && (ours == theirs || covers(ours, theirs) || covers(theirs, ours))
    }
}

/// As an operator would write them: `127.0.0.1:7000`, or `127.0.0.1:7000-7003`.
impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.first.to_string();
        if self.last != self.first.port() {
            text += &format!("-{}", self.last);
        }
        f.pad(&text)
    }
}

/// The last of so many ports, if there are so many.
pub(super) fn last_port(first: u16, count: usize) -> Option<u16> {
    u16::try_from(count.saturating_sub(1)).ok().and_then(|behind| first.checked_add(behind))
}

#[cfg(test)]
mod tests {
    use super::{Ports, listen, upstream};

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
            let of = |text| Ports::new(of(text), 1).expect("a port");
            assert_eq!(of(left).clash(of(right)), expected, "{left} {right}");
            assert_eq!(of(right).clash(of(left)), expected, "{right} {left}");
        }
    }

    #[test]
    fn a_run_of_ports_takes_all_of_them() {
        let of = |first: &str, count| Ports::new(first.parse().expect("an address"), count);
        let run = of("127.0.0.1:7000", 4).expect("four ports");
        assert_eq!(run.to_string(), "127.0.0.1:7000-7003");
        assert_eq!(run.each().map(|each| each.port()).collect::<Vec<_>>(), [7000, 7001, 7002, 7003]);
        for (first, count, expected) in [
            ("127.0.0.1:6999", 1, false),
            ("127.0.0.1:6999", 2, true),
            ("127.0.0.1:7002", 1, true),
            ("0.0.0.0:7003", 9, true),
            ("127.0.0.1:7004", 1, false),
            ("127.0.0.2:7000", 4, false),
        ] {
            let other = of(first, count).expect("ports");
            assert_eq!(run.clash(other), expected, "{other}");
            assert_eq!(other.clash(run), expected, "{other}");
        }
        assert_eq!(of("[::1]:65534", 2).map(|ports| ports.to_string()).as_deref(), Ok("[::1]:65534-65535"));
        assert!(of("[::1]:65534", 3).is_err_and(|why| why.contains("65535")));
        assert!(of("[::1]:1", 1 << 20).is_err());
    }
}
