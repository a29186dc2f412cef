//! The primary's half of the replication protocol.

use super::{PASSWORD, Primary, Talk};
use crate::sim::data::Dataset;
use crate::sim::rdb;
use crate::sim::wire::{self, Said};

impl Primary {
    /// Takes bytes from a link.
    pub fn receive(&mut self, link: u64, bytes: &[u8], now: u64) -> Result<(), String> {
        let Some(follower) = self.followers.get_mut(&link) else { return Ok(()) };
        follower.inbox.extend_from_slice(bytes);
        loop {
            let Some(follower) = self.followers.get_mut(&link) else { return Ok(()) };
            match wire::take_command(&mut follower.inbox)? {
                Said::Newline => {}
                Said::Command(args) => self.command(link, &args, now)?,
                Said::Nothing => return Ok(()),
            }
        }
    }

    fn command(&mut self, link: u64, args: &[Vec<u8>], now: u64) -> Result<(), String> {
        let moody = self.moody;
        let bad = self.rng.permille(moody);
        let mood = self.rng.below(3);
        let info = self.info();
        let Some(follower) = self.followers.get_mut(&link) else { return Ok(()) };
        match &args[0].to_ascii_lowercase()[..] {
            b"ping" if bad => {
                let errors = [
                    "-LOADING Redis is loading the dataset in memory\r\n",
                    "-BUSY running a script\r\n",
                    "-MISCONF\r\n",
                ];
                follower.out.extend(errors[mood].bytes());
            }
            b"ping" => follower.out.extend(b"+PONG\r\n"),
            b"info" if bad => {
                follower.out.extend(b"-NOPERM this user has no permissions to run the 'info' command\r\n")
            }
            b"info" => follower.out.extend(format!("${}\r\n{info}\r\n", info.len()).bytes()),
            b"replconf" => {
                let option = args.get(1).map(|option| option.to_ascii_lowercase()).unwrap_or_default();
                match &option[..] {
                    b"ack" => return self.acknowledged(link, args),
                    b"capa" => follower.takes_eof |= args.iter().any(|arg| wire::is(arg, "eof")),
                    b"rdb-only" if !follower.snapshot_only => {
                        return Err("the proxy wants nothing but a snapshot on the link of its stream".into());
                    }
                    b"listening-port" if follower.snapshot_only => {
                        return Err("the proxy announces a port twice".into());
                    }
                    b"rdb-only" if mood == 0 => {
                        follower.out.extend(b"-ERR Unrecognized REPLCONF option: rdb-only\r\n");
                        return Ok(());
                    }
                    b"version" => {
                        follower.out.extend(b"-ERR Unrecognized REPLCONF option: version\r\n");
                        return Ok(());
                    }
                    _ => {}
                }
                follower.out.extend(b"+OK\r\n");
            }
            b"auth" if args.last().is_some_and(|word| word == PASSWORD.as_bytes()) => follower.out.extend(b"+OK\r\n"),
            b"psync" if bad => {
                let errors = [
                    "-NOMASTERLINK Can't SYNC while not connected with my master\r\n",
                    "-LOADING Redis is loading the dataset in memory\r\n",
                    "-ERR BGSAVE failed, replication can't continue\r\n",
                ];
                follower.out.extend(errors[mood].bytes());
                (follower.talk, follower.closing) = (Talk::Dead, true);
            }
            // It has no modules; some do not say so much.
            b"command" => {
                let said =
                    self.rng.pick(&["*0\r\n", "-NOPERM this user has no permissions to run the 'command' command\r\n"]);
                follower.out.extend(said.bytes());
            }
            b"psync" => self.psync(link, args, now),
            other => return Err(format!("the proxy says {} to its primary", other.escape_ascii())),
        }
        Ok(())
    }

    fn info(&self) -> String {
        let none = ("0".repeat(40), 0);
        let (second, limit) = self.second.as_ref().unwrap_or(&none);
        let limit = if *limit == 0 { -1 } else { *limit as i64 };
        let end = self.end();
        format!(
            "# Replication\r\nrole:master\r\nmaster_replid:{}\r\nmaster_replid2:{second}\r\nmaster_repl_offset:{end}\r\nsecond_repl_offset:{limit}\r\n",
            self.id
        )
    }

    fn psync(&mut self, link: u64, args: &[Vec<u8>], now: u64) {
        let asked = String::from_utf8_lossy(&args[1]).into_owned();
        let offset: i64 = String::from_utf8_lossy(&args[2]).parse().unwrap_or(-1);
        let history = &self.truth.histories[&self.id];
        let known = asked == self.id
            || self.second.as_ref().is_some_and(|(second, limit)| *second == asked && offset <= *limit as i64);
        let first = history.base.max(history.end().saturating_sub(self.manners.backlog)) + 1;
        let held = (first as i64..=history.end() as i64 + 1).contains(&offset);
        let id = self.id.clone();
        let wait = self.rng.pick(&[0, 0, 0, 30, 2500]);
        let Some(follower) = self.followers.get_mut(&link) else { return };
        if known && held {
            follower.out.extend(format!("+CONTINUE {id}\r\n").bytes());
            follower.history = Some(id);
            follower.talk = Talk::Streaming(offset as u64 - 1);
            self.feed();
        } else {
            follower.talk = Talk::Waiting(now + wait);
            self.tick(now);
        }
    }

    /// `REPLCONF ACK`: what the proxy may claim is a place that it was sent, and never less than before.
    fn acknowledged(&mut self, link: u64, args: &[Vec<u8>]) -> Result<(), String> {
        let offset: u64 = String::from_utf8_lossy(&args[2]).parse().map_err(|_| "an ACK that is no number")?;
        let Some(follower) = self.followers.get_mut(&link) else { return Ok(()) };
        if follower.damaged {
            return Err(format!("the proxy acknowledges {offset} on a link whose snapshot was damaged"));
        }
        if matches!(follower.talk, Talk::Babbled) {
            return Ok(());
        }
        if let Talk::Held(cursor) = follower.talk {
            follower.talk = Talk::Streaming(cursor);
        }
        let (Talk::Streaming(cursor), Some(id)) = (&follower.talk, &follower.history) else {
            return Err(format!("the proxy acknowledges {offset} before it was sent anything"));
        };
        let sent = cursor - (follower.out.len() as u64).min(*cursor);
        if offset > sent {
            return Err(format!("the proxy acknowledges {offset}, and was sent bytes up to {sent}"));
        }
        if follower.acked.is_some_and(|before| offset < before) {
            return Err(format!("the proxy's acknowledgement goes back from {:?} to {offset}", follower.acked));
        }
        if !self.truth.of(id)?.places.contains(&offset) {
            return Err(format!("the proxy acknowledges {offset}, which is in the middle of a command or transaction"));
        }
        follower.acked = Some(offset);
        self.feed();
        Ok(())
    }

    /// Time passes: snapshots begin and are done, and those who wait for one are told that it takes time.
    pub fn tick(&mut self, now: u64) {
        for link in self.followers.keys().copied().collect::<Vec<_>>() {
            let follower = &self.followers[&link];
            match &follower.talk {
                Talk::Waiting(at) if now >= *at => self.begin_snapshot(link, now),
                Talk::Saving { at, .. } if now >= *at => self.send_snapshot(link),
                Talk::Waiting(_) | Talk::Saving { .. } if now >= follower.newline_at => {
                    if let Some(follower) = self.followers.get_mut(&link) {
                        follower.newline_at = now + 1000;
                        follower.out.push_back(b'\n');
                    }
                }
                _ => {}
            }
        }
    }

    fn begin_snapshot(&mut self, link: u64, now: u64) {
        if self.manners.forces_select {
            self.stream_db = None;
        }
        let (mut offset, mut db) = (self.end(), self.stream_db.unwrap_or(0));
        let joins =
            self.followers.get(&link).is_some_and(|follower| follower.snapshot_only) && self.rng.permille(self.joins);
        let back = self.rng.below(3);
        let earlier = self.saves.iter().rev().filter(|(id, ..)| *id == self.id).nth(back);
        if let Some((_, place, selected)) = earlier.filter(|_| joins) {
            // It gets the save that was begun for another replica some time ago.
            (offset, db) = (*place, *selected);
        }
        self.saves.push((self.id.clone(), offset, db));
        let at = now + self.rng.pick(&[0, 0, 5, 1500]);
        if !self.manners.forces_select && self.stream_db.is_none() {
            self.stream_db = Some(0);
        }
        let data = self.truth.histories[&self.id]
            .at(offset)
            .map_or_else(|| self.data.clone(), |(_, data)| Dataset::clone(data));
        let snapshot = rdb::snapshot(&data, self.manners.version, (&self.id, offset), db, &mut self.rng);
        let id = self.id.clone();
        let Some(follower) = self.followers.get_mut(&link) else { return };
        if !follower.snapshot_only {
            self.snapshot = (id.clone(), offset);
        }
        follower.out.extend(format!("+FULLRESYNC {id} {offset}\r\n").bytes());
        follower.history = Some(id);
        follower.acked = Some(offset);
        follower.talk = Talk::Saving { at, snapshot, offset };
    }

    fn send_snapshot(&mut self, link: u64) {
        let moody = self.moody;
        let damage = self.rng.permille(moody).then(|| self.rng.below(4));
        let mark = if self.manners.same_mark { "5".repeat(40) } else { wire::id(&mut self.rng) };
        let rng = &mut self.rng;
        let Some(follower) = self.followers.get_mut(&link) else { return };
        let Talk::Saving { snapshot, offset, .. } = std::mem::replace(&mut follower.talk, Talk::Dead) else { return };
        let marked = self.manners.diskless && follower.takes_eof;
        let (mut body, mut claimed) = (snapshot.clone(), snapshot.len());
        let has_sum = !snapshot.ends_with(&[0; 8]);
        match damage {
            Some(0) => {
                body.truncate(rng.below(snapshot.len()));
                follower.closing = true;
            }
            Some(1) if has_sum => {
                let at = rng.below(body.len());
                body[at] ^= 1 << rng.below(8);
            }
            Some(2) if !marked => claimed = rng.below(snapshot.len()),
            Some(3) if marked => body.push(b'X'),
            _ => {}
        }
        let mended = body == snapshot && claimed == snapshot.len() && !follower.closing;
        follower.damaged = !mended;
        let head = if marked { format!("$EOF:{mark}\r\n") } else { format!("${claimed}\r\n") };
        follower.out.extend(head.bytes());
        follower.out.extend(body);
        if marked && !follower.closing {
            follower.out.extend(mark.bytes());
        }
        if follower.damaged {
            // The child died, or the bytes went wrong: nothing good follows on this link.
            return;
        }
        if follower.snapshot_only && rng.permille(500) {
            // Nothing else was asked for.
            follower.closing = true;
            return;
        }
        follower.talk = if marked { Talk::Held(offset) } else { Talk::Streaming(offset) };
        self.feed();
    }

    /// Whether every follower streams and has been sent everything.
    pub fn is_calm(&self) -> bool {
        let mut streams = self.followers.values().filter(|follower| !follower.snapshot_only);
        streams.all(|follower| matches!(follower.talk, Talk::Streaming(_)) && follower.out.is_empty())
    }
}
