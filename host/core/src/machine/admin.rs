//! INFO and ROLE: a view's port feels like a chained replica.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use super::Machine;
use super::progress::Progress;
use crate::projection::printable;
use crate::replica::Phase;
use crate::resp;
use crate::upstream::{self, phase_name};
use crate::view::{State, View};

/// Writes one section of INFO, as seen from a view's port.
type Part = fn(&Machine, usize, &View, &mut String);

impl Machine {
    /// `INFO [section …]` as seen from one view's port.
    pub(super) fn info(&self, index: usize, sections: &[Vec<u8>]) -> String {
        let Some(view) = self.views.get(index) else { return String::new() };
        let wanted = |name: &str| {
            sections.is_empty()
                || sections.iter().any(|section| {
                    section.eq_ignore_ascii_case(name.as_bytes())
                        || ["all", "default", "everything"]
                            .iter()
                            .any(|all| section.eq_ignore_ascii_case(all.as_bytes()))
                })
        };
        let mut out = String::new();
        let parts: [(&str, Part); 5] = [
            ("server", Self::info_server),
            ("stats", Self::info_stats),
            ("replication", Self::info_replication),
            ("views", Self::info_views),
            ("proxy", Self::info_proxy),
        ];
        for (name, part) in parts {
            if wanted(name) {
                if !out.is_empty() {
                    out.push_str("\r\n");
                }
                let (first, rest) = name.split_at(1);
                line(&mut out, &format!("# {}{rest}", first.to_uppercase()));
                part(self, index, view, &mut out);
            }
        }
        out
    }

    fn info_server(&self, _: usize, view: &View, out: &mut String) {
        let uptime = self.now.mono_ms.saturating_sub(self.started.mono_ms) / 1000;
        // Tools read the version to know what they may ask; 7.2 is what the answers of this port look like.
        field(out, "redis_version", "7.2.4");
        field(out, "server_name", "sluicegate");
        field(out, "sluicegate_version", &self.settings.version);
        field(out, "redis_mode", "standalone");
        field(out, "run_id", self.run_id);
        field(out, "tcp_port", view.settings().port);
        field(out, "uptime_in_seconds", uptime);
        field(out, "loading", 0);
    }

    fn info_stats(&self, _: usize, view: &View, out: &mut String) {
        field(out, "total_connections_received", self.stats.accepted);
        field(out, "total_commands_processed", view.counts().frames_out);
        field(out, "sync_full", self.stats.sync_full);
        field(out, "sync_partial_ok", self.stats.sync_partial_ok);
        field(out, "sync_partial_err", self.stats.sync_partial_err);
    }

    fn info_replication(&self, index: usize, view: &View, out: &mut String) {
        let phase = self.upstream.phase();
        let up = phase == upstream::Phase::Streaming;
        let idle = self.now.mono_ms.saturating_sub(self.upstream.last_heard()) / 1000;
        let (read, applied) = self.follow.as_ref().map_or((0, 0), |follow| (follow.read, follow.applied));
        let syncing = matches!(phase, upstream::Phase::Copying(_) | upstream::Phase::Verifying);
        field(out, "role", "slave");
        field(out, "master_host", &self.settings.upstream.host);
        field(out, "master_port", self.settings.upstream.port);
        field(out, "master_link_status", if up { "up" } else { "down" });
        field(out, "master_last_io_seconds_ago", idle);
        field(out, "master_sync_in_progress", u8::from(syncing));
        field(out, "slave_read_repl_offset", read);
        field(out, "slave_repl_offset", applied);
        field(out, "slave_priority", 0);
        field(out, "slave_read_only", 1);
        field(out, "replica_announced", 0);
        self.info_replicas(index, view, out);
        let (second, second_offset) = match view.history().second {
            Some((id, limit)) => (format!("{id}"), format!("{limit}")),
            None => ("0".repeat(40), "-1".into()),
        };
        field(out, "master_failover_state", "no-failover");
        field(out, "master_replid", view.history().id);
        field(out, "master_replid2", second);
        field(out, "master_repl_offset", view.backlog().end());
        field(out, "second_repl_offset", second_offset);
        field(out, "repl_backlog_active", u8::from(*view.state() == State::Live));
        field(out, "repl_backlog_size", view.backlog().budget());
        field(out, "repl_backlog_first_byte_offset", view.backlog().start() + 1);
        field(out, "repl_backlog_histlen", view.backlog().end() - view.backlog().start());
    }

    fn info_replicas(&self, index: usize, view: &View, out: &mut String) {
        let mine = || self.replicas.values().filter(|replica| replica.view == index && replica.phase.is_replica());
        field(out, "connected_slaves", mine().count());
        for (n, replica) in mine().enumerate() {
            let (ip, port) = replica.address();
            let state = match replica.phase {
                Phase::Streaming => "online",
                Phase::Shipping | Phase::Loading => "send_bulk",
                _ => "wait_bgsave",
            };
            let lag = self.now.mono_ms.saturating_sub(replica.last_heard) / 1000;
            let lag_bytes = view.backlog().end().saturating_sub(replica.acked);
            let upstream = view.upstream_before(replica.acked).unwrap_or(0);
            let offset = replica.acked;
            let packed = match (&replica.packing, &view.settings().pack) {
                (Some(_), Some(format)) => format!(",pack={format}"),
                _ => String::new(),
            };
            let mut value = format!(
                "ip={ip},port={port},state={state},offset={offset},lag={lag},type=replica,lag_bytes={lag_bytes},upstream_offset={upstream}{packed}"
            );
            if replica.phase == Phase::Shipping {
                let progress = Progress::of(replica, self.now.mono_ms);
                // Writing into a string does not fail.
                let _ = write!(value, ",sent={},rate={}", progress.sent, progress.rate);
                let known = [("total", progress.total), ("eta", progress.eta)];
                known.into_iter().filter_map(|(name, value)| Some((name, value?))).for_each(|(name, number)| {
                    let _ = write!(value, ",{name}={number}");
                });
            }
            field(out, &format!("slave{n}"), value);
        }
    }

    fn info_views(&self, _: usize, _: &View, out: &mut String) {
        for (index, view) in self.views.iter().enumerate() {
            let replicas =
                self.replicas.values().filter(|replica| replica.view == index && replica.phase.is_replica()).count();
            let (counts, held) = (view.counts(), view.held());
            let state = match view.state() {
                State::Waiting => "waiting",
                State::Live => "live",
                State::Halted(_) => "halted",
            };
            let floor = view.settings().floor.map_or_else(String::new, |floor| format!(",floor={floor}"));
            let value = format!(
                "port={},state={state},replicas={replicas},in_frames={},out_frames={},repaired={},repairing={},held_bytes={},repair_wait_ms={},replid={},offset={},base_offset={},log_bytes={}{floor},exact={},pipeline={}",
                view.settings().port,
                counts.frames_in,
                counts.frames_out,
                counts.repaired,
                held.0,
                held.1,
                view.repair_wait_ms(),
                view.history().id,
                view.backlog().end(),
                view.base().map_or(-1, |base| i64::try_from(base.offset).unwrap_or(i64::MAX)),
                view.backlog().log().bytes(),
                if view.is_inexact() { "no" } else { "yes" },
                view.settings().pipeline.join("+"),
            );
            field(out, &format!("view_{}", view.settings().name), value);
            if let Some(last) = view.journal().next_back() {
                let value = format!("fence={},keys={},offset={}", last.fence, last.keys, last.view);
                field(out, &format!("view_{}_last_repair", view.settings().name), value);
            }
            if let State::Halted(fault) = view.state() {
                field(out, &format!("view_{}_halted", view.settings().name), fault);
            }
        }
    }

    fn info_proxy(&self, _: usize, _: &View, out: &mut String) {
        field(out, "upstream_state", phase_name(self.upstream.phase()));
        field(out, "upstream_replid", self.follow.as_ref().map_or_else(String::new, |follow| format!("{}", follow.id)));
        let packed = self.settings.upstream.pack.as_deref().filter(|_| self.upstream.is_packed());
        field(out, "upstream_pack", packed.unwrap_or("no"));
        field(out, "packed_resumes_total", self.packs.resumes());
        field(out, "full_syncs_total", self.stats.upstream_full_syncs);
        field(out, "partial_syncs_total", self.stats.upstream_partial_syncs);
        field(out, "last_full_sync_cause", self.full_sync_cause);
        let (running, waiting) = self.ships();
        field(out, "ships_running", running);
        field(out, "ships_waiting", waiting);
        field(out, "walks_total", self.stats.walks);
        field(out, "value_fetches_total", self.repair.fetches());
        field(out, "refreshes_total", self.stats.refreshes);
        field(out, "refresh_state", self.refresh.state());
        if let Some(spooled) = self.spools.last() {
            field(out, "snapshot_bytes", spooled.summary().bytes);
            field(out, "snapshot_keys", spooled.summary().keys);
            field(out, "snapshot_age_seconds", self.now.mono_ms.saturating_sub(spooled.since) / 1000);
            field(out, "snapshot_format", format!("{:?}-{}", spooled.summary().family, spooled.summary().version));
        }
    }

    /// `ROLE`, in the shape of a chained replica.
    pub(super) fn role(&self) -> Vec<u8> {
        let state = match self.upstream.phase() {
            upstream::Phase::Idle(_) => "connect",
            upstream::Phase::Dialing => "connecting",
            upstream::Phase::Copying(_) | upstream::Phase::Verifying => "sync",
            upstream::Phase::Streaming => "connected",
            _ => "handshake",
        };
        let mut out = Vec::new();
        resp::write_array(&mut out, 5);
        resp::write_bulk(&mut out, b"slave");
        resp::write_bulk(&mut out, self.settings.upstream.host.as_bytes());
        out.extend_from_slice(format!(":{}\r\n", self.settings.upstream.port).as_bytes());
        resp::write_bulk(&mut out, state.as_bytes());
        let offset = self.follow.as_ref().map_or(-1, |follow| i64::try_from(follow.applied).unwrap_or(i64::MAX));
        out.extend_from_slice(format!(":{offset}\r\n").as_bytes());
        out
    }
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push_str("\r\n");
}

/// One `name:value` line. A value is one line, whatever is in it.
fn field(out: &mut String, name: &str, value: impl core::fmt::Display) {
    let mut text = String::new();
    // Writing into a string does not fail.
    let _ = write!(text, "{value}");
    if text.contains(['\r', '\n']) {
        text = printable(text.as_bytes());
    }
    line(out, &format!("{name}:{text}"));
}
