//! Disks of the owner in a VM.

use ignite_e2e::images::busybox;
use ignite_e2e::invocation::Invocation;
use ignite_e2e::{Host, Report};

/// Three boots: one writes to a disk that is made for it, one reads it, one has it as a block device by a manifest.
pub fn a_disk_is_made_outlives_its_vm_and_has_one_writer() -> Report {
    let host = Host::new();
    let path = host.path("data.img");
    let disk = path.to_str().expect("UTF-8").to_owned();

    let writer = host.vm("writer");
    writer.run_in_background(["-v", &format!("{disk}:/srv/data:size=64MB"), busybox(), "sleep", "3600"]);
    writer.sh("grep ' /srv/data ext4 rw' /proc/mounts && echo kept > /srv/data/file && sync").succeeds();
    let second = host.vm("second");
    let refused = second.run(["-v", &format!("{disk}:/data"), busybox(), "true"]);
    refused.exits(125).complains("in use").gives_a_hint();
    host.does(["rm", "second"]).succeeds();
    // Not even one that would only read: what it saw would change under it.
    second.run(["-v", &format!("{disk}:/data:ro"), busybox(), "true"]).exits(125).complains("in use");
    writer.does("stop").succeeds();
    host.does(["rm", "writer"]).succeeds();

    let reader = host.vm("reader");
    let script = "cat /mnt/file; echo x > /mnt/other || echo refused";
    reader.run(["--rm", "-v", &format!("{disk}:/mnt:ro"), busybox(), "sh", "-c", script]).prints("kept\nrefused\n");
    Invocation::new("e2fsck").args(["-fn", &disk]).finish().succeeds();

    let attach = |path: &str| Invocation::new("losetup").args(["--find", "--show", path]).finish();
    let attached = attach(&disk);
    if attached.code != 0 {
        return Err(format!("no loop device: {}", attached.errors().trim()));
    }
    let device = attached.line();
    // A device with nothing on it, which is formatted because the manifest asks for that; the other is not, though it does.
    let blank = host.file("blank.img", vec![0; 16 << 20]);
    let fresh = attach(blank.to_str().expect("UTF-8")).succeeds().line();
    let manifest = format!(
        "apiVersion: ignite.weave.works/v1alpha4\nkind: VM\nmetadata: {{name: device}}\nspec:\n  image: {{oci: {image:?}}}\n  \
         args: [sh, -c, 'cat /deep/er/file && echo more > /deep/er/more && grep -o \"/fresh ext4 rw\" /proc/mounts']\n  storage:\n    volumes:\n    - name: d\n      \
         blockDevice: {{path: {device}, format: ext4}}\n    - {{name: f, blockDevice: {{path: {fresh}, format: ext4}}}}\n    volumeMounts:\n    \
         - {{name: d, mountPath: /deep/er}}\n    - {{name: f, mountPath: /fresh}}\n",
        image = busybox(),
    );
    let manifest = host.file("vm.yaml", manifest);
    let outcome = host.ignite(["run", "--rm", "--config"]).args([&manifest]).finish();
    Invocation::new("losetup").args(["--detach", &device, &fresh]).finish().succeeds();
    outcome.succeeds().prints("kept\n/fresh ext4 rw\n");
    Invocation::new("e2fsck").args([std::path::Path::new("-fn"), &blank]).finish().succeeds();
    Invocation::new("e2fsck").args(["-fn", &disk]).finish().succeeds();
    host.does(["rm", "-f", "second"]);
    host.assert_nothing_left();
    Ok(())
}

/// One boot. Slower than wanted is any machine at times; faster than allowed is none.
pub fn disks_are_as_slow_as_they_are_told_to_be() -> Report {
    let host = Host::new();
    let read = |size: &str, count: u32| {
        let script = "d=$(grep -lx disk /sys/block/vd*/serial) && d=${d%/serial} && read start rest < /proc/uptime && \
                      dd if=/dev/${d##*/} of=/dev/null bs=$1 count=$2 iflag=direct 2>/dev/null && \
                      read end rest < /proc/uptime && echo ${start%.*} ${end%.*}";
        (script.to_owned(), size.to_owned(), count.to_string())
    };
    let vm = host.vm("slow");
    vm.run_in_background(["--disk-iops", "500", "--disk-mbps", "10", busybox(), "sleep", "3600"]);
    // 2,000 operations, then 40 MB: four seconds each, less what a tenth of a second holds and what the clock's seconds hide.
    for (script, size, count) in [read("4k", 2_000), read("1000k", 40)] {
        let said = vm.exec(["sh", "-c", &script, "sh", &size, &count]).succeeds().text();
        let seconds: Vec<u64> = said.split_whitespace().map(|number| number.parse().expect("seconds")).collect();
        assert!(seconds[1] - seconds[0] >= 3, "{count} reads of {size}: {said}");
    }
    let refused = host.vm("net").run(["--vmm", "qemu", "--network", "user", "--net-mbps", "10", busybox(), "true"]);
    refused.exits(125).complains("does not limit a VM's traffic").complains("hint: use a CNI network");
    Ok(())
}
