//! The modules of one kernel: which there are, what they need, and in what order a guest loads those it boots with.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use crate::DiskError;
use crate::tree::{Body, InodeId};

use super::decompress::{Compression, read_bounded};
use super::module::{ModInfo, module_name, normalise, parse_modinfo, softdep_pre};
use super::tree_files::KernelFiles;

/// Largest module, uncompressed; the largest of distributions has 30 MiB.
const MAX_MODULE: u64 = 128 << 20;
/// Largest of depmod's files.
const MAX_INDEX: u64 = 64 << 20;
const MAX_MODULES: usize = 65_536;

/// What a guest needs to find its disks, its network and its agent channel, in loading order; what these depend on is
/// added. Those that a kernel has built in, or not at all, are left out.
const BOOT_MODULES: [&str; 19] = [
    "virtio_mmio",
    "virtio_blk",
    // ext4 asks for this algorithm by name when it mounts, and nobody could load it then.
    "crc32c_generic",
    "ext4",
    "overlay",
    "virtio_pmem",
    "nd_pmem",
    "virtio_console",
    "vsock",
    "vmw_vsock_virtio_transport",
    "virtio_net",
    "virtio_rng",
    "button",
    "evdev",
    "pvpanic",
    "pvpanic_mmio",
    "virtio_balloon",
    "af_packet",
    "fuse",
];
/// Instead of `virtio_mmio` where a kernel knows virtio over PCI only.
const PCI_TRANSPORT: &str = "virtio_pci";

/// One module's file.
#[derive(Debug, Clone)]
struct Module {
    /// Below the release's directory.
    path: String,
    file: InodeId,
}

/// All modules of a release.
pub(super) struct Modules {
    by_name: BTreeMap<String, Module>,
    builtin: BTreeSet<String>,
    /// Whether there was a `modules.builtin`, so that what is in neither list is absent.
    knows_builtin: bool,
    info: BTreeMap<String, ModInfo>,
    /// Whether depmod has been here: then its files stay as they are.
    has_index: bool,
}

impl Modules {
    /// Finds the modules below `release_dir`. Reads `modules.dep` where depmod left one, else every module.
    pub fn read(files: &mut KernelFiles, release_dir: InodeId) -> Result<Modules, DiskError> {
        let mut modules = Modules {
            by_name: BTreeMap::new(),
            builtin: BTreeSet::new(),
            knows_builtin: false,
            info: BTreeMap::new(),
            has_index: false,
        };
        modules.find(files, release_dir);
        if let Some(text) = read_index(files, release_dir, "modules.builtin")? {
            modules.knows_builtin = true;
            modules.builtin = text.lines().filter_map(file_of_line).filter_map(module_name).collect();
        }
        // The binary index is what modprobe reads; without it the others are not complete either.
        let has_binary = files.tree.lookup(release_dir, b"modules.dep.bin").is_some();
        match read_index(files, release_dir, "modules.dep")?.filter(|_| has_binary) {
            Some(text) => {
                modules.has_index = true;
                for line in text.lines() {
                    let Some((module, needs)) = line.split_once(':') else { continue };
                    let Some(name) = file_of_line(module).and_then(module_name) else { continue };
                    let depends = needs.split_whitespace().filter_map(file_of_line).filter_map(module_name).collect();
                    modules.info.insert(name, ModInfo { depends, ..ModInfo::default() });
                }
            }
            None => {
                for (name, module) in &modules.by_name {
                    let content = read_module(files, module)?;
                    // What is no module has nothing to say; loading it would fail in the guest with its name.
                    modules.info.insert(name.clone(), parse_modinfo(&content).unwrap_or_default());
                }
            }
        }
        Ok(modules)
    }

    pub fn has_index(&self) -> bool {
        self.has_index
    }

    pub fn is_builtin(&self, name: &str) -> bool {
        self.builtin.contains(name)
    }

    pub fn is_module(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    pub fn knows_builtin(&self) -> bool {
        self.knows_builtin
    }

    pub fn builtin(&self) -> impl Iterator<Item = &str> {
        self.builtin.iter().map(String::as_str)
    }

    /// Every module with its path and what it says of itself.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, Option<&ModInfo>)> {
        self.by_name.iter().map(|(name, module)| (name.as_str(), module.path.as_str(), self.info.get(name)))
    }

    pub fn path(&self, name: &str) -> Option<&str> {
        self.by_name.get(name).map(|module| module.path.as_str())
    }

    /// `name` and all it needs, each after what it needs itself.
    pub fn load_order(&self, names: &[&str]) -> Vec<String> {
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        for name in names {
            self.visit(&normalise(name), &mut seen, &mut order);
        }
        order
    }

    /// The uncompressed modules of an initramfs, in loading order.
    pub fn boot_modules(&self, files: &mut KernelFiles) -> Result<Vec<(String, Vec<u8>)>, DiskError> {
        let has_mmio =
            self.is_module("virtio_mmio") || self.is_builtin("virtio_mmio") || !self.is_module(PCI_TRANSPORT);
        let wanted: Vec<&str> =
            if has_mmio { Vec::new() } else { vec![PCI_TRANSPORT] }.into_iter().chain(BOOT_MODULES).collect();
        let mut found = Vec::new();
        for name in self.load_order(&wanted) {
            if let Some(module) = self.by_name.get(&name) {
                found.push((name, read_module(files, module)?));
            }
        }
        Ok(found)
    }

    fn visit(&self, name: &str, seen: &mut BTreeSet<String>, order: &mut Vec<String>) {
        // An explicit stack: a hostile modules.dep may chain thousands.
        let mut stack = vec![(name.to_owned(), false)];
        while let Some((name, is_ready)) = stack.pop() {
            if is_ready {
                order.push(name);
                continue;
            }
            if !self.by_name.contains_key(&name) || !seen.insert(name.clone()) {
                continue;
            }
            let info = self.info.get(&name);
            stack.push((name, true));
            if let Some(info) = info {
                let soft = info.softdeps.iter().flat_map(|softdep| softdep_pre(softdep));
                let needed: Vec<String> = soft.chain(info.depends.iter().cloned()).collect();
                stack.extend(needed.into_iter().map(|name| (name, false)));
            }
        }
    }

    fn find(&mut self, files: &KernelFiles, release_dir: InodeId) {
        let tree = &files.tree;
        let mut pending = vec![(release_dir, String::new())];
        while let Some((dir, prefix)) = pending.pop() {
            for entry in tree.children(dir) {
                let Ok(name) = std::str::from_utf8(tree.name(entry)) else { continue };
                let file = tree.entry_inode(entry);
                let path = format!("{prefix}{name}");
                match tree.inode(file).body {
                    Body::Dir { .. } => pending.push((file, path + "/")),
                    Body::File { .. } if self.by_name.len() < MAX_MODULES => {
                        if let Some(module) = module_name(name) {
                            // As depmod: a module in updates/ or extra/ goes before the kernel's own.
                            let is_better =
                                self.by_name.get(&module).is_none_or(|found| rank(&path) < rank(&found.path));
                            if is_better {
                                self.by_name.insert(module, Module { path, file });
                            }
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}

fn rank(path: &str) -> (u8, &str) {
    let place = match path.split('/').next() {
        Some("updates") => 0,
        Some("kernel") => 2,
        _ => 1,
    };
    (place, path)
}

/// The last part of a path, as depmod's files have them.
fn file_of_line(path: &str) -> Option<&str> {
    path.trim().rsplit('/').next()
}

/// One of depmod's text files, if it is there.
pub(super) fn read_index(
    files: &mut KernelFiles,
    release_dir: InodeId,
    name: &str,
) -> Result<Option<String>, DiskError> {
    Ok(read_bytes(files, release_dir, name)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// One of the build's or depmod's files, if it is there.
pub(super) fn read_bytes(
    files: &mut KernelFiles,
    release_dir: InodeId,
    name: &str,
) -> Result<Option<Vec<u8>>, DiskError> {
    let Some(entry) = files.tree.lookup(release_dir, name.as_bytes()) else { return Ok(None) };
    let file = files.tree.entry_inode(entry);
    let bytes = read_bounded(files.open(file)?, MAX_INDEX);
    bytes.map(Some).map_err(|source| DiskError::ReadFile { path: name.into(), source })
}

fn read_module(files: &mut KernelFiles, module: &Module) -> Result<Vec<u8>, DiskError> {
    let failed = |source| DiskError::ReadFile { path: module.path.clone().into(), source };
    let mut content = files.open(module.file)?;
    let mut head = [0; 8];
    let found = super::decompress::read_up_to(&mut content, &mut head).map_err(failed)?;
    let compression = Compression::detect(&head[..found]);
    let whole = head[..found].chain(content);
    read_bounded(compression.open(whole).map_err(failed)?, MAX_MODULE).map_err(failed)
}
