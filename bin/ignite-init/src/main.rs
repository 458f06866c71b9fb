//! PID 1 and agent of an Ignite guest.
//!
//! ```text
//!  boot:  mounts -> modules -> channel -> Hello ... Configure -> network -> root -> identity -> switch root
//!           |                                                      Configured
//!           +-- task, idle: stays PID 1            +-- machine: forks the agent, executes the image's init
//!  agent: one poll loop: frames, processes, signals, deadlines
//! ```
//!
//! One thread, no NSS, no files of its own once it runs: the program is the only file of the initramfs it needs.

#![cfg_attr(test, allow(clippy::print_stderr, reason = "a skipped test says why"))]

mod accounts;
mod agent;
mod boot;
mod channel;
mod clock;
mod console;
mod copy_in;
mod copy_out;
mod devices;
mod direct;
mod error;
mod identity;
mod init_ready;
mod launch;
mod machine;
mod modules;
mod netlink;
mod network;
mod peers;
mod requests;
mod root;
mod rooted;
mod shutdown;
mod signals;
mod spawn;
mod streams;
mod timeline;
mod usage;
mod volumes;
mod wire;

fn main() {
    if std::process::id() != 1 {
        console::error("runs as PID 1 of an Ignite guest only");
        std::process::exit(2);
    }
    std::panic::set_hook(Box::new(|info| boot::panicked(&info.to_string())));
    boot::run()
}
