//! Extended attributes: which of a layer's are kept, and how ext4 stores them.

use mkext4::csum;
use mkext4::spec::XATTR_MAGIC;

use crate::tree::Xattr;

use super::geometry::BLOCK;

/// Bytes of the attribute area of a 256-byte inode with 32 extra bytes.
const AREA: usize = 256 - 128 - 32;
const BLOCK_HEADER: usize = 32;

const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";

/// Name prefixes and the numbers ext4 has for them (`fs/ext4/xattr.h`).
const PREFIXES: [(&[u8], u8); 3] = [(b"user.", 1), (b"trusted.", 4), (b"security.", 6)];

/// Attributes that belong to the host a layer was made on, or to the overlay it was made with: `umoci` and the container
/// engines leave them out too.
const IGNORED: [&[u8]; 2] = [b"security.selinux", b"system.nfs4_acl"];
const IGNORED_PREFIX: &[u8] = b"trusted.overlay.";

/// What becomes of the attributes of one layer entry.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct XattrChoice {
    /// Those to store, values as ext4 has them.
    pub xattrs: Vec<Xattr>,
    /// The permission bits that an access ACL implies.
    pub mode: Option<u16>,
}

/// Decides what is stored of an entry's attributes, as the kernel would if they were set one by one.
///
/// - `system.posix_acl_*` is converted to ext4's short form; an access ACL replaces the permission bits, and is not
///   stored when it says no more than they do; a default ACL is for directories only.
/// - `user.*` exists on files and directories only.
/// - Other namespaces, [`IGNORED`] names and `trusted.overlay.*` are left out.
pub(crate) fn choose_xattrs(found: Vec<Xattr>, mode: u16, is_dir: bool, is_file: bool) -> Result<XattrChoice, String> {
    let mut choice = XattrChoice { xattrs: Vec::new(), mode: None };
    for Xattr { name, value } in found {
        if IGNORED.contains(&&name[..]) || name.starts_with(IGNORED_PREFIX) {
            continue;
        }
        if name == ACL_ACCESS || name == ACL_DEFAULT {
            let acl = Acl::parse(&value).ok_or_else(|| format!("{} is malformed", name.escape_ascii()))?;
            let is_access = name == ACL_ACCESS;
            if is_access && (is_dir || is_file) {
                choice.mode = Some(mode & 0o7000 | acl.mode());
            }
            if (is_access && (is_dir || is_file) && !acl.is_minimal()) || (!is_access && is_dir) {
                choice.xattrs.push(Xattr { name, value: acl.encode() });
            }
            continue;
        }
        let Some((prefix, index)) = PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix)) else { continue };
        if *index == 1 && !is_dir && !is_file {
            continue;
        }
        if name.len() == prefix.len() || name.len() > 255 {
            return Err(format!("attribute name {} has no letters or too many", name.escape_ascii()));
        }
        choice.xattrs.push(Xattr { name, value });
    }
    choice.xattrs.sort_by(|a, b| sort_key(a).cmp(&sort_key(b)));
    choice.xattrs.dedup_by(|later, earlier| later.name == earlier.name);
    plan(&choice.xattrs)?;
    Ok(choice)
}

/// Attributes placed: the bytes of the in-inode area, and those that need a block of their own.
#[derive(Debug)]
pub(super) struct XattrPlan<'a> {
    pub area: Vec<u8>,
    in_block: &'a [Xattr],
}

impl XattrPlan<'_> {
    pub fn needs_block(&self) -> bool {
        !self.in_block.is_empty()
    }

    /// The attribute block that will lie at `block`.
    pub fn render_block(&self, seed: u32, block: u64) -> Vec<u8> {
        let mut bytes = vec![0; BLOCK as usize];
        bytes[..4].copy_from_slice(&XATTR_MAGIC.to_le_bytes());
        bytes[4..8].copy_from_slice(&1u32.to_le_bytes()); // h_refcount
        bytes[8..12].copy_from_slice(&1u32.to_le_bytes()); // h_blocks
        put_entries(&mut bytes[BLOCK_HEADER..], self.in_block, BLOCK_HEADER);
        let hashes = self.in_block.iter().map(|xattr| csum::xattr_entry_hash(disk_name(xattr).1, &xattr.value));
        bytes[12..16].copy_from_slice(&csum::xattr_block_hash(hashes).to_le_bytes());
        let checksum = csum::xattr_block(seed, block, &bytes);
        bytes[16..20].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }
}

/// Places sorted attributes: as many as fit into the inode, the others into one block.
pub(super) fn plan(xattrs: &[Xattr]) -> Result<XattrPlan<'_>, String> {
    let room = AREA - 4;
    let mut used = 4;
    let inside = xattrs
        .iter()
        .take_while(|xattr| {
            used += stored_len(xattr);
            used <= room
        })
        .count();
    let (in_inode, in_block) = xattrs.split_at(inside);
    let block_len = BLOCK_HEADER + 4 + in_block.iter().map(stored_len).sum::<usize>();
    if block_len > BLOCK as usize {
        return Err(format!("extended attributes take {block_len} bytes, and ext4 stores {BLOCK}"));
    }
    let mut area = Vec::new();
    if !in_inode.is_empty() {
        area.resize(AREA, 0);
        area[..4].copy_from_slice(&XATTR_MAGIC.to_le_bytes());
        put_entries(&mut area[4..], in_inode, 0);
    }
    Ok(XattrPlan { area, in_block })
}

/// Entries from the front, values from the back. Offsets count from `base` before the region; entries in a block
/// (`base` is its header) carry hashes, those in an inode do not.
fn put_entries(region: &mut [u8], xattrs: &[Xattr], base: usize) {
    let mut at = 0;
    let mut value_at = region.len();
    for xattr in xattrs {
        let (index, name) = disk_name(xattr);
        value_at -= xattr.value.len().next_multiple_of(4);
        region[value_at..value_at + xattr.value.len()].copy_from_slice(&xattr.value);
        let hash = if base == 0 { 0 } else { csum::xattr_entry_hash(name, &xattr.value) };
        region[at] = name.len() as u8;
        region[at + 1] = index;
        region[at + 2..at + 4].copy_from_slice(&((base + value_at) as u16).to_le_bytes());
        region[at + 8..at + 12].copy_from_slice(&(xattr.value.len() as u32).to_le_bytes());
        region[at + 12..at + 16].copy_from_slice(&hash.to_le_bytes());
        region[at + 16..at + 16 + name.len()].copy_from_slice(name);
        at += 16 + name.len().next_multiple_of(4);
    }
}

fn stored_len(xattr: &Xattr) -> usize {
    16 + disk_name(xattr).1.len().next_multiple_of(4) + xattr.value.len().next_multiple_of(4)
}

/// The namespace number and the rest of the name.
fn disk_name(xattr: &Xattr) -> (u8, &[u8]) {
    match &xattr.name[..] {
        ACL_ACCESS => (2, b""),
        ACL_DEFAULT => (3, b""),
        name => match PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix)) {
            Some((prefix, index)) => (*index, &name[prefix.len()..]),
            None => (0, name),
        },
    }
}

/// The order ext4 wants in a block.
fn sort_key(xattr: &Xattr) -> (u8, usize, &[u8]) {
    let (index, name) = disk_name(xattr);
    (index, name.len(), name)
}

/// A POSIX ACL: tag, permissions, id.
struct Acl(Vec<(u16, u16, u32)>);

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

impl Acl {
    /// Reads the form of the `system.posix_acl_*` attributes (`include/uapi/linux/posix_acl_xattr.h`, version 2).
    fn parse(value: &[u8]) -> Option<Acl> {
        let (version, entries) = value.split_first_chunk::<4>()?;
        if u32::from_le_bytes(*version) != 2 || entries.len() % 8 != 0 {
            return None;
        }
        let word = |bytes: &[u8]| u16::from_le_bytes([bytes[0], bytes[1]]);
        let entries: Vec<_> = entries
            .chunks_exact(8)
            .map(|e| (word(e), word(&e[2..]), u32::from_le_bytes([e[4], e[5], e[6], e[7]])))
            .collect();
        let known =
            entries.iter().all(|e| matches!(e.0, USER_OBJ | USER | GROUP_OBJ | GROUP | MASK | OTHER) && e.1 <= 7);
        let has = |tag| entries.iter().any(|e| e.0 == tag);
        (known && has(USER_OBJ) && has(GROUP_OBJ) && has(OTHER)).then_some(Acl(entries))
    }

    /// The permission bits it implies: the group's are the mask's where there is one.
    fn mode(&self) -> u16 {
        let of = |tag| self.0.iter().find(|e| e.0 == tag).map(|e| e.1);
        let group = of(MASK).or(of(GROUP_OBJ)).unwrap_or(0);
        of(USER_OBJ).unwrap_or(0) << 6 | group << 3 | of(OTHER).unwrap_or(0)
    }

    /// Whether permission bits say the same.
    fn is_minimal(&self) -> bool {
        self.0.iter().all(|e| matches!(e.0, USER_OBJ | GROUP_OBJ | OTHER))
    }

    /// ext4's form (`fs/ext4/acl.h`, version 1): ids only where they mean something.
    fn encode(&self) -> Vec<u8> {
        let mut bytes = 1u32.to_le_bytes().to_vec();
        for &(tag, permissions, id) in &self.0 {
            bytes.extend_from_slice(&tag.to_le_bytes());
            bytes.extend_from_slice(&permissions.to_le_bytes());
            if matches!(tag, USER | GROUP) {
                bytes.extend_from_slice(&id.to_le_bytes());
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xattr(name: &str, value: &[u8]) -> Xattr {
        Xattr { name: name.into(), value: value.into() }
    }

    fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut bytes = 2u32.to_le_bytes().to_vec();
        for &(tag, permissions, id) in entries {
            bytes.extend_from_slice(&tag.to_le_bytes());
            bytes.extend_from_slice(&permissions.to_le_bytes());
            bytes.extend_from_slice(&id.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn attributes_of_the_build_host_are_left_out() {
        let found = vec![
            xattr("security.selinux", b"x"),
            xattr("trusted.overlay.opaque", b"y"),
            xattr("system.nfs4_acl", b"z"),
            xattr("com.apple.quarantine", b"q"),
            xattr("user.kept", b"k"),
        ];
        let choice = choose_xattrs(found, 0o644, false, true).unwrap();
        assert_eq!(choice.xattrs, [xattr("user.kept", b"k")]);
        assert_eq!(choose_xattrs(vec![xattr("user.a", b"")], 0o777, false, false).unwrap().xattrs, []);
    }

    #[test]
    fn an_access_acl_sets_the_mode_and_is_stored_short() {
        let none = u32::MAX;
        let value =
            acl(&[(USER_OBJ, 7, none), (USER, 6, 1000), (GROUP_OBJ, 5, none), (MASK, 7, none), (OTHER, 4, none)]);
        let choice = choose_xattrs(vec![xattr("system.posix_acl_access", &value)], 0o4750, false, true).unwrap();
        assert_eq!(choice.mode, Some(0o4774));
        assert_eq!(choice.xattrs[0].value.len(), 4 + 4 * 4 + 8);
        let minimal = acl(&[(USER_OBJ, 6, none), (GROUP_OBJ, 4, none), (OTHER, 0, none)]);
        let choice = choose_xattrs(vec![xattr("system.posix_acl_access", &minimal)], 0o777, false, true).unwrap();
        assert_eq!(choice, XattrChoice { xattrs: vec![], mode: Some(0o640) });
        assert!(choose_xattrs(vec![xattr("system.posix_acl_default", b"junk")], 0o755, true, false).is_err());
    }

    #[test]
    fn too_much_for_one_block_is_refused() {
        assert!(choose_xattrs(vec![xattr("user.big", &[1; 4000])], 0o644, false, true).is_ok());
        assert!(choose_xattrs(vec![xattr("user.big", &[1; 4096])], 0o644, false, true).is_err());
    }
}
