//! Tells the program which wasmtime it is built with: the crate does not say so itself.

use std::fs;

const LOCK: &str = "../../Cargo.lock";

fn main() {
    println!("cargo:rerun-if-changed={LOCK}");
    let lock = fs::read_to_string(LOCK).expect("the workspace has a Cargo.lock");
    let version = lock
        .split("[[package]]")
        .find(|package| package.contains("name = \"wasmtime\"\n"))
        .and_then(|package| package.lines().find_map(|line| line.strip_prefix("version = ")))
        .expect("Cargo.lock names wasmtime");
    println!("cargo:rustc-env=WASMTIME_VERSION={}", version.trim_matches('"'));
}
