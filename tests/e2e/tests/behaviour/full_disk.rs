//! Imports on a disk that is too small for them.

use ignite_e2e::images::{busybox, redis};
use ignite_e2e::throwaway::Iptables;
use ignite_e2e::{Host, Report, Throwaway};

/// Too little for the image's blobs (20 MiB); enough for them, and too little for its disk, too; enough for all.
const SIZES: [&str; 2] = ["10m", "32m"];
const ENOUGH: &str = "256m";

pub fn an_import_that_fills_the_disk_says_so_and_leaves_the_store_as_it_was() -> Report {
    let throwaway = Throwaway::new(Iptables::Nft)?;
    let host = Host::on(&throwaway);
    let data = host.data_dir();
    let data = data.to_str().expect("a UTF-8 path");
    throwaway.call(["mount", "-t", "tmpfs", "-o", "size=10m", "none", data]).finish().succeeds();
    host.does(["image", "import", busybox()]).succeeds();
    // Locks stay: whoever waits for one must find the same file.
    let script = r"cd $1 && find . ! -name '*.lock' ! -name lock \( -type d -print -o -printf '%p %s\n' \) | sort";
    let listing = || throwaway.call(["sh", "-c", script, "sh", data]).finish().succeeds().text();
    let before = listing();
    for size in SIZES {
        throwaway.call(["mount", "-o", &format!("remount,size={size}"), data]).finish().succeeds();
        let refused = host.does(["image", "import", redis()]);
        refused.fails().complains("No space left on device").complains("hint: ").complains("ignite system prune");
        assert_eq!(listing(), before, "on a disk of {size}");
    }
    host.does(["image", "verify", busybox()]).succeeds();
    throwaway.call(["mount", "-o", &format!("remount,size={ENOUGH}"), data]).finish().succeeds();
    host.does(["image", "import", redis()]).succeeds();
    host.does(["image", "verify", redis()]).succeeds();
    Ok(())
}
