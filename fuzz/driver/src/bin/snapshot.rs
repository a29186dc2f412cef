#![no_main]
//! Any bytes as the upstream's snapshot.

libfuzzer_sys::fuzz_target!(|input: &[u8]| sluicegate_fuzz::snapshot(input));
