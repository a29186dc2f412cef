//! The codec among the misdeeds: it turns the bytes round.

use std::sync::Mutex;

use sluicegate_plugin::{BlockCodec, Error};

use crate::{Hostile, bombs};

/// What the last call was given, for those who remember instead of packing.
static LAST: Mutex<Vec<u8>> = Mutex::new(Vec::new());

impl BlockCodec for Hostile {
    const FORMAT: &'static str = "hostile";

    fn encode(&self, raw: &[u8]) -> Result<Vec<u8>, Error> {
        match self.mode.as_str() {
            "encode-trap" => bombs::trap(),
            "encode-panic" => panic!("the message of the panic"),
            "encode-loop" => bombs::spin(),
            "encode-memory" => bombs::eat_memory(),
            "encode-rejected" => return Err(Error::Rejected("will not pack".into())),
            "encode-internal" => return Err(Error::Internal("cannot go on".into())),
            "encode-nothing" => return Ok(Vec::new()),
            "encode-huge" => return Ok(vec![0; raw.len() + (64 << 10) + 1]),
            // Beyond what a call may hand over at all.
            "encode-enormous" => return Ok(vec![0; 12 << 20]),
            "encode-forgets" => return Ok(raw.iter().rev().skip(1).copied().collect()),
            "encode-remembers" => {
                if let Ok(mut last) = LAST.lock() {
                    last.clear();
                    last.extend_from_slice(raw);
                }
                return Ok(vec![b'!']);
            }
            _ => {}
        }
        Ok(raw.iter().rev().copied().collect())
    }

    fn decode(&self, packed: &[u8], size: usize) -> Result<Vec<u8>, Error> {
        match self.mode.as_str() {
            "decode-trap" => bombs::trap(),
            "decode-loop" => bombs::spin(),
            "decode-lies" => return Ok(packed.to_vec()),
            "decode-short" => return Ok(vec![0; size.saturating_sub(1)]),
            "decode-long" => return Ok(vec![0; size + 1]),
            "encode-remembers" => {
                let last = LAST.lock().map(|last| last.clone()).unwrap_or_default();
                return if last.is_empty() { Ok(vec![0; size]) } else { Ok(last) };
            }
            _ => {}
        }
        let raw: Vec<u8> = packed.iter().rev().copied().collect();
        if raw.len() == size { Ok(raw) } else { Err(Error::Rejected(format!("not {size} bytes"))) }
    }
}
