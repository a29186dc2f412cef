//! The pure core of Sluicegate.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod limits;
pub mod pipeline;
pub mod resp;
pub mod settings;
