//! How things are, for people.

use std::fmt::Write as _;

use indicatif::{BinaryBytes, HumanCount};

use super::info::{Info, Pairs, View};

/// Columns of a progress bar.
const BAR: u64 = 24;

/// The whole picture; its last line has an end.
pub(crate) fn picture(info: &Info) -> String {
    let mut out = String::new();
    let version = info.field("sluicegate_version").unwrap_or_default();
    let up = time(info.number("uptime_in_seconds").unwrap_or(0));
    line(&mut out, &format!("sluicegate {version}, up {up}"));
    out.push('\n');
    line(&mut out, &upstream(info));
    line(&mut out, &snapshot(info));
    if let Some(ships) = ships(info) {
        line(&mut out, &ships);
    }
    out.push('\n');
    views(&mut out, info);
    out.push('\n');
    replicas(&mut out, info);
    out
}

/// A line without the blanks at its end.
fn line(out: &mut String, text: &str) {
    out.push_str(text.trim_end());
    out.push('\n');
}

fn upstream(info: &Info) -> String {
    let field = |name| info.field(name).unwrap_or("?");
    let mut text = format!("upstream  {}:{}", field("master_host"), field("master_port"));
    _ = write!(text, "  link {}, {}", field("master_link_status"), field("upstream_state"));
    if let Some(offset) = info.number("slave_repl_offset") {
        _ = write!(text, ", offset {offset}");
    }
    if let Some(seconds) = info.number("master_last_io_seconds_ago") {
        _ = write!(text, ", heard {} ago", time(seconds));
    }
    if let Some(count) = info.number("full_syncs_total") {
        _ = write!(text, "; {}", counted(count, "full sync"));
        if let Some(cause) = info.field("last_full_sync_cause").filter(|cause| count > 0 && !cause.is_empty()) {
            _ = write!(text, " ({cause})");
        }
    }
    if let Some(count) = info.number("partial_syncs_total") {
        _ = write!(text, ", {count} partial");
    }
    text
}

fn snapshot(info: &Info) -> String {
    let mut text = String::from("snapshot  ");
    match (info.number("snapshot_bytes"), info.number("snapshot_keys")) {
        (Some(size), Some(keys)) => {
            _ = write!(text, "{}, {} keys", BinaryBytes(size), HumanCount(keys));
            if let Some(format) = info.field("snapshot_format") {
                _ = write!(text, ", {format}");
            }
            if let Some(age) = info.number("snapshot_age_seconds") {
                _ = write!(text, ", {} old", time(age));
            }
        }
        _ if info.number("master_sync_in_progress") == Some(1) => text.push_str("arriving"),
        _ => text.push_str("none"),
    }
    if let Some(state) = info.field("refresh_state") {
        let count = info.number("refreshes_total").unwrap_or(0);
        _ = write!(text, "; refresh {state}, {count} so far");
    }
    text
}

fn ships(info: &Info) -> Option<String> {
    let (running, waiting) = (info.number("ships_running")?, info.number("ships_waiting")?);
    let mut text = format!("ships     {running} running, {waiting} waiting");
    if let Some(walks) = info.number("walks_total") {
        _ = write!(text, "; {} so far", counted(walks, "walk"));
    }
    Some(text)
}

fn views(out: &mut String, info: &Info) {
    let widest = info.views.iter().map(|view| view.name.chars().count()).max().unwrap_or(0).max(4);
    let has_log = info.views.iter().any(|view| view.about.get("log_bytes").is_some());
    let log = if has_log { format!("{:<11}", "log") } else { String::new() };
    line(out, &format!("{:widest$}  port   state    replicas  offset            {log}pipeline", "view"));
    for view in &info.views {
        line(out, &view_line(view, widest, has_log));
        if let Some(why) = &view.halted {
            line(out, &format!("{:widest$}  halted: {why}", ""));
        }
    }
}

fn view_line(View { name, about, .. }: &View, widest: usize, has_log: bool) -> String {
    let get = |name| about.get(name).unwrap_or("-");
    let log = match (has_log, about.number("log_bytes")) {
        (true, Some(size)) => format!("{:<11}", BinaryBytes(size).to_string()),
        (true, None) => format!("{:<11}", "-"),
        (false, _) => String::new(),
    };
    let inexact = if about.get("exact") == Some("no") { "  (inexact)" } else { "" };
    format!(
        "{name:widest$}  {:<5}  {:<7}  {:<8}  {:<16}  {log}{}{inexact}",
        get("port"),
        get("state"),
        get("replicas"),
        get("offset"),
        about.get("pipeline").filter(|pipeline| !pipeline.is_empty()).unwrap_or("no plugins"),
    )
}

fn replicas(out: &mut String, info: &Info) {
    let own = info.own_view().map_or_else(|| "this port".to_owned(), |view| format!("view '{}'", view.name));
    if info.replicas.is_empty() {
        return line(out, &format!("no replicas of {own}"));
    }
    line(out, &format!("replicas of {own}"));
    let place = |replica: &Pairs| match (replica.get("ip").unwrap_or("?"), replica.get("port").unwrap_or("?")) {
        (ip, port) if ip.contains(':') => format!("[{ip}]:{port}"),
        (ip, port) => format!("{ip}:{port}"),
    };
    let places: Vec<String> = info.replicas.iter().map(place).collect();
    let widest = places.iter().map(String::len).max().unwrap_or(0);
    for (replica, place) in info.replicas.iter().zip(places) {
        line(out, &format!("{place:widest$}  {}", replica_line(replica)));
    }
}

fn replica_line(replica: &Pairs) -> String {
    match (replica.get("state"), replica.number("sent")) {
        (Some("send_bulk"), Some(sent)) => ship(replica, sent),
        (Some("send_bulk"), None) => "loads its snapshot".into(),
        (Some("wait_bgsave"), _) => "waits for its snapshot".into(),
        (state, _) => {
            let mut text = state.unwrap_or("?").to_owned();
            if let Some(offset) = replica.number("offset") {
                _ = write!(text, ", offset {offset}");
            }
            if let Some(behind) = replica.number("lag_bytes") {
                _ = write!(text, ", {} behind", BinaryBytes(behind));
            }
            if let Some(seconds) = replica.number("lag") {
                _ = write!(text, ", heard {} ago", time(seconds));
            }
            text
        }
    }
}

/// A snapshot on its way. How large it will be is not known as long as it is being made.
fn ship(replica: &Pairs, sent: u64) -> String {
    let rate = replica.number("rate").unwrap_or(0);
    let total = replica.number("total").filter(|total| *total > 0);
    let mut text = match total {
        Some(total) => format!("{} {} of {}", bar(sent, total), BinaryBytes(sent), BinaryBytes(total)),
        None => format!("{} sent", BinaryBytes(sent)),
    };
    _ = write!(text, ", {}/s", BinaryBytes(rate));
    let rest = total.and_then(|total| total.saturating_sub(sent).checked_div(rate));
    if let Some(left) = replica.number("eta").or(rest) {
        _ = write!(text, ", {} left", time(left));
    }
    text
}

fn bar(done: u64, total: u64) -> String {
    let part = |of: u64| (u128::from(done.min(total)) * u128::from(of) / u128::from(total.max(1))) as u64;
    let full = "#".repeat(part(BAR) as usize);
    format!("[{full:-<width$}] {:>3} %", part(100), width = BAR as usize)
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// The two largest units.
fn time(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "\
# Server\r\nredis_version:7.2.4\r\nsluicegate_version:0.1.0\r\ntcp_port:7000\r\nuptime_in_seconds:4000\r\n\
\r\n# Replication\r\nrole:slave\r\nmaster_host:10.0.0.5\r\nmaster_port:6379\r\nmaster_link_status:up\r\n\
master_last_io_seconds_ago:1\r\nmaster_sync_in_progress:0\r\nslave_repl_offset:1234\r\nconnected_slaves:4\r\n\
slave0:ip=10.0.0.9,port=6379,state=online,offset=99,lag=0,type=replica,lag_bytes=2048,upstream_offset=1200\r\n\
slave1:ip=fd00::9,port=6380,state=send_bulk,offset=0,lag=1,sent=1073741824,total=4294967296,rate=268435456,eta=12\r\n\
slave2:ip=10.0.0.11,port=6379,state=send_bulk,offset=0,lag=1,sent=1048576,rate=1024\r\n\
slave3:ip=10.0.0.12,port=6379,state=wait_bgsave,offset=0,lag=1\r\n\
\r\n# Views\r\nview_eu:port=7000,state=live,replicas=4,offset=99,log_bytes=1048576,exact=yes,pipeline=users+shorter\r\n\
view_x_halted:port=7001,state=halted,replicas=0,offset=7,log_bytes=0,exact=no,pipeline=\r\n\
view_x_halted_halted:plugin p: it said \x1b[2J no\r\nview_eu_last_repair:fence=1,keys=2,offset=3\r\n\
\r\n# Proxy\r\nupstream_state:connected\r\nfull_syncs_total:1\r\npartial_syncs_total:2\r\nlast_full_sync_cause:first attach\r\n\
ships_running:2\r\nships_waiting:1\r\nwalks_total:1\r\nrefreshes_total:3\r\nrefresh_state:idle\r\n\
snapshot_bytes:4294967296\r\nsnapshot_keys:1234567\r\nsnapshot_age_seconds:61\r\nsnapshot_format:Redis-12\r\n";

    #[test]
    fn all_that_is_told_is_shown() {
        let expected = "\
sluicegate 0.1.0, up 1 h 6 min

upstream  10.0.0.5:6379  link up, connected, offset 1234, heard 1 s ago; 1 full sync (first attach), 2 partial
snapshot  4.00 GiB, 1,234,567 keys, Redis-12, 1 min 1 s old; refresh idle, 3 so far
ships     2 running, 1 waiting; 1 walk so far

view      port   state    replicas  offset            log        pipeline
eu        7000   live     4         99                1.00 MiB   users+shorter
x_halted  7001   halted   0         7                 0 B        no plugins  (inexact)
          halted: plugin p: it said ?[2J no

replicas of view 'eu'
10.0.0.9:6379   online, offset 99, 2.00 KiB behind, heard 0 s ago
[fd00::9]:6380  [######------------------]  25 % 1.00 GiB of 4.00 GiB, 256.00 MiB/s, 12 s left
10.0.0.11:6379  1.00 MiB sent, 1.00 KiB/s
10.0.0.12:6379  waits for its snapshot
";
        assert_eq!(picture(&Info::parse(INFO)), expected);
    }

    #[test]
    fn what_is_not_told_is_left_out() {
        let expected = "\
sluicegate 0.1.0, up 0 s

upstream  ?:?  link down, disconnected
snapshot  none

view  port   state    replicas  offset            pipeline
a     7000   waiting  -         -                 no plugins

no replicas of this port
";
        let text = "sluicegate_version:0.1.0\nmaster_link_status:down\nupstream_state:disconnected\nview_a:port=7000,state=waiting\n";
        assert_eq!(picture(&Info::parse(text)), expected);
    }

    #[test]
    fn whatever_comes_can_be_shown() {
        let bits = [
            "slave0:",
            "view_:port=",
            "sent=",
            "total=",
            "rate=0",
            "18446744073709551615",
            ",",
            "=",
            "\n",
            ":",
            "-1",
            "eta=",
        ];
        for seed in 0..2_000usize {
            let parts = (0..12).map(|at| bits[(seed * 31 + at * at * (seed + 7)) % bits.len()]);
            let text: String =
                ["sluicegate_version:1\nslave0:state=send_bulk,sent=1,"].into_iter().chain(parts).collect();
            assert!(picture(&Info::parse(&text)).ends_with('\n'), "{text:?}");
        }
        assert_eq!(bar(u64::MAX, u64::MAX), format!("[{}] 100 %", "#".repeat(24)));
        assert_eq!(bar(7, 0), bar(0, 1));
    }
}
