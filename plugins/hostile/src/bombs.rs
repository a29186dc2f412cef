//! What no plugin should do.

use std::hint::black_box;

pub(crate) fn trap() -> ! {
    #[cfg(target_arch = "wasm32")]
    std::arch::wasm32::unreachable();
    #[cfg(not(target_arch = "wasm32"))]
    std::process::abort();
}

pub(crate) fn spin() {
    while black_box(true) {}
}

/// Uses the engine's stack until there is none left. The mixing keeps the compiler from making a loop of it.
pub(crate) fn recurse(depth: u64) -> u64 {
    if depth == u64::MAX { depth } else { recurse(depth.wrapping_mul(3) & 0xff_ffff).rotate_left(7) ^ depth }
}

/// Takes memory until there is none left.
pub(crate) fn eat_memory() {
    let mut eaten = Vec::new();
    loop {
        eaten.push(black_box(vec![1_u8; 1 << 20]));
    }
}

/// Takes memory, and gives it back to itself.
pub(crate) fn use_memory(bytes: usize) {
    drop(black_box(vec![1_u8; bytes]));
}

/// What a program learns of the world: nothing that differs from run to run.
pub(crate) fn ask_the_system() -> String {
    let file = std::fs::read("/etc/passwd").map(|text| text.len()).map_err(|_| "refused");
    let arguments = std::env::args().count();
    let environment = std::env::vars().count();
    #[cfg(target_os = "wasi")]
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |age| age.as_nanos());
    #[cfg(not(target_os = "wasi"))]
    let clock = 0;
    let hash = {
        use std::hash::{BuildHasher, RandomState};
        RandomState::new().hash_one(1)
    };
    format!("file {file:?}, arguments {arguments}, environment {environment}, clock {clock}, hash {hash}")
}
