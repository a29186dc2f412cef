//! Stories about the machine, driven as a shell drives it: events in, orders and bytes out, time by hand.

mod chaos;
mod damage;
mod following;
mod handshake;
mod learned;
mod limits;
mod log;
mod packed;
mod psync;
mod refresh;
mod repair;
mod resume;
mod rig;
mod script;
mod ships;
mod snapshots;
