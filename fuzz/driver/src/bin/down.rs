#![no_main]
//! Any bytes as the upstream's snapshot, written down for other servers.

libfuzzer_sys::fuzz_target!(|input: &[u8]| sluicegate_fuzz::down(input));
