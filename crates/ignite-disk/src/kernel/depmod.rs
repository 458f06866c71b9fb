//! What `depmod` makes: the indexes by which `modprobe` finds modules. Packages leave it to the host they are installed
//! on; a guest gets its modules on a read-only disk, so it is done here.

use super::module::{parse_records, softdep_pre};
use super::modules::Modules;

/// The files to add to a release's directory. `builtin_modinfo` is the kernel's `modules.builtin.modinfo`.
pub(super) fn index_files(modules: &Modules, builtin_modinfo: Option<&[u8]>) -> Vec<(&'static str, Vec<u8>)> {
    let mut dep = String::from("");
    let mut dep_index = Trie::default();
    let mut alias = String::from("# Aliases extracted from modules themselves.\n");
    let mut alias_index = Trie::default();
    let mut softdep = String::from("# Soft dependencies extracted from modules themselves.\n");
    for (priority, (name, path, info)) in (0u32..).zip(modules.iter()) {
        let mut needed = modules.load_order(&[name]);
        needed.pop();
        // What is loaded first stands last.
        let needed: Vec<&str> = needed.iter().rev().filter_map(|needed| modules.path(needed)).collect();
        let line = match needed.is_empty() {
            true => format!("{path}:"),
            false => format!("{path}: {}", needed.join(" ")),
        };
        dep.push_str(&line);
        dep.push('\n');
        dep_index.insert(name.as_bytes(), priority, &line);
        let Some(info) = info else { continue };
        for found in &info.aliases {
            alias.push_str(&format!("alias {found} {name}\n"));
            alias_index.insert(normalise_alias(found).as_bytes(), priority, name);
        }
        for found in &info.softdeps {
            softdep.push_str(&format!("softdep {name} {found}\n"));
            debug_assert!(softdep_pre(found).all(|name| !name.contains('-')));
        }
    }
    let mut builtin_index = Trie::default();
    for name in modules.builtin() {
        builtin_index.insert(name.as_bytes(), 0, "");
    }
    let mut builtin_alias_index = Trie::default();
    // `name.key=value` records of everything that is built in.
    for record in builtin_modinfo.unwrap_or_default().split(|&byte| byte == 0) {
        let Some(dot) = record.iter().position(|&byte| byte == b'.') else { continue };
        let (Ok(name), info) = (std::str::from_utf8(&record[..dot]), parse_records(&record[dot + 1..])) else {
            continue;
        };
        for found in info.aliases {
            builtin_alias_index.insert(normalise_alias(&found).as_bytes(), 0, name);
        }
    }
    vec![
        ("modules.dep", dep.into_bytes()),
        ("modules.dep.bin", dep_index.encode()),
        ("modules.alias", alias.into_bytes()),
        ("modules.alias.bin", alias_index.encode()),
        ("modules.softdep", softdep.into_bytes()),
        ("modules.symbols", b"# Aliases for symbols, used by symbol_request().\n".to_vec()),
        ("modules.symbols.bin", Trie::default().encode()),
        ("modules.builtin.bin", builtin_index.encode()),
        ("modules.builtin.alias.bin", builtin_alias_index.encode()),
    ]
}

/// As libkmod's `alias_normalize`: `-` is `_` outside of brackets.
fn normalise_alias(alias: &str) -> String {
    let mut is_inside = false;
    alias
        .chars()
        .map(|letter| {
            match letter {
                '[' => is_inside = true,
                ']' => is_inside = false,
                '-' if !is_inside => return '_',
                _ => {}
            }
            letter
        })
        .collect()
}

/// kmod's index (`libkmod-index.h`, version 2.1): a trie of keys, big-endian, children before parents.
#[derive(Debug, Default)]
struct Trie {
    values: Vec<(u32, String)>,
    children: std::collections::BTreeMap<u8, Trie>,
}

const INDEX_MAGIC: u32 = 0xb007_f457;
const INDEX_VERSION: u32 = 0x0002_0001;
const NODE_PREFIX: u32 = 0x8000_0000;
const NODE_VALUES: u32 = 0x4000_0000;
const NODE_CHILDREN: u32 = 0x2000_0000;
/// Longest key: deeper tries are not built, so that encoding never nests deeper.
const MAX_KEY: usize = 512;

impl Trie {
    fn insert(&mut self, key: &[u8], priority: u32, value: &str) {
        // A node's children are indexed by 7-bit characters.
        if key.len() > MAX_KEY || !key.iter().all(|&byte| (1..128).contains(&byte)) {
            return;
        }
        let mut node = self;
        for &byte in key {
            node = node.children.entry(byte).or_default();
        }
        if !node.values.iter().any(|(_, found)| found == value) {
            node.values.push((priority, value.to_owned()));
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [INDEX_MAGIC, INDEX_VERSION, 0] {
            bytes.extend_from_slice(&word.to_be_bytes());
        }
        let root = self.encode_node(&mut bytes);
        bytes[8..12].copy_from_slice(&root.to_be_bytes());
        bytes
    }

    /// Appends the node and tells where it is and what it has.
    fn encode_node(&self, bytes: &mut Vec<u8>) -> u32 {
        let mut prefix = Vec::new();
        let mut node = self;
        while node.values.is_empty() && node.children.len() == 1 {
            let Some((&byte, child)) = node.children.iter().next() else { break };
            prefix.push(byte);
            node = child;
        }
        let children: Vec<(u8, u32)> =
            node.children.iter().map(|(&byte, child)| (byte, child.encode_node(bytes))).collect();
        let mut offset = bytes.len() as u32;
        if !prefix.is_empty() {
            bytes.extend_from_slice(&prefix);
            bytes.push(0);
            offset |= NODE_PREFIX;
        }
        if let (Some(&(first, _)), Some(&(last, _))) = (children.first(), children.last()) {
            bytes.extend_from_slice(&[first, last]);
            for byte in first..=last {
                let child = children.iter().find(|&&(at, _)| at == byte).map_or(0, |&(_, offset)| offset);
                bytes.extend_from_slice(&child.to_be_bytes());
            }
            offset |= NODE_CHILDREN;
        }
        if !node.values.is_empty() {
            bytes.extend_from_slice(&(node.values.len() as u32).to_be_bytes());
            for (priority, value) in &node.values {
                bytes.extend_from_slice(&priority.to_be_bytes());
                bytes.extend_from_slice(value.as_bytes());
                bytes.push(0);
            }
            offset |= NODE_VALUES;
        }
        offset
    }
}
