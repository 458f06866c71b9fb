//! Layers made by hand, header by header, so that they can be as odd as any found in the wild.

use std::io::{self, Cursor, Read};

use ignite_disk::LayerSource;

/// A layer in memory.
#[derive(Debug, Clone, Default)]
pub struct Layer {
    pub bytes: Vec<u8>,
}

/// An entry, with what most have.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    pub name: &'a [u8],
    pub kind: u8,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: u64,
    pub link: &'a [u8],
    pub device: (u32, u32),
    pub content: &'a [u8],
    pub pax: &'a [(&'a str, &'a [u8])],
}

pub fn entry(kind: u8, name: &str) -> Entry<'_> {
    let mode = if kind == b'5' { 0o755 } else { 0o644 };
    Entry {
        name: name.as_bytes(),
        kind,
        mode,
        uid: 0,
        gid: 0,
        mtime: 1_600_000_000,
        link: b"",
        device: (0, 0),
        content: b"",
        pax: &[],
    }
}

impl Layer {
    pub fn add(mut self, entry: Entry<'_>) -> Layer {
        if !entry.pax.is_empty() {
            let records: Vec<u8> = entry.pax.iter().flat_map(|(key, value)| pax_record(key, value)).collect();
            let header = Entry { name: b"pax", kind: b'x', link: b"", pax: &[], content: &records, ..entry.clone() };
            self.push(&header);
        }
        self.push(&entry);
        self
    }

    pub fn dir(self, name: &str) -> Layer {
        self.add(entry(b'5', name))
    }

    pub fn file(self, name: &str, content: &[u8]) -> Layer {
        self.add(Entry { content, ..entry(b'0', name) })
    }

    pub fn symlink(self, name: &str, target: &str) -> Layer {
        self.add(Entry { link: target.as_bytes(), ..entry(b'2', name) })
    }

    pub fn link(self, name: &str, target: &str) -> Layer {
        self.add(Entry { link: target.as_bytes(), ..entry(b'1', name) })
    }

    pub fn raw(mut self, bytes: &[u8]) -> Layer {
        self.bytes.extend_from_slice(bytes);
        self
    }

    pub fn finish(mut self) -> Layer {
        self.bytes.extend_from_slice(&[0; 1024]);
        self
    }

    fn push(&mut self, entry: &Entry<'_>) {
        if entry.name.len() > 100 {
            self.push_long(b'L', entry.name);
        }
        if entry.link.len() > 100 {
            self.push_long(b'K', entry.link);
        }
        self.bytes.extend_from_slice(&header(entry, entry.content.len() as u64));
        self.bytes.extend_from_slice(entry.content);
        self.pad();
    }

    fn push_long(&mut self, kind: u8, text: &[u8]) {
        let content = [text, b"\0"].concat();
        let long = Entry { content: &content, ..self::entry(kind, "././@LongLink") };
        self.bytes.extend_from_slice(&header(&long, content.len() as u64));
        self.bytes.extend_from_slice(&content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
    }
}

/// A GNU header; numbers that need it are written in base 256.
pub fn header(entry: &Entry<'_>, size: u64) -> [u8; 512] {
    let mut block = [0; 512];
    let name = &entry.name[..entry.name.len().min(100)];
    block[..name.len()].copy_from_slice(name);
    number(&mut block[100..108], u64::from(entry.mode));
    number(&mut block[108..116], u64::from(entry.uid));
    number(&mut block[116..124], u64::from(entry.gid));
    number(&mut block[124..136], size);
    number(&mut block[136..148], entry.mtime);
    block[156] = entry.kind;
    let link = &entry.link[..entry.link.len().min(100)];
    block[157..157 + link.len()].copy_from_slice(link);
    block[257..265].copy_from_slice(b"ustar  \0");
    if matches!(entry.kind, b'3' | b'4') {
        number(&mut block[329..337], u64::from(entry.device.0));
        number(&mut block[337..345], u64::from(entry.device.1));
    }
    seal(&mut block);
    block
}

/// Writes the checksum of a header.
pub fn seal(block: &mut [u8; 512]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
}

fn number(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    if value < 1 << (3 * digits as u32).min(63) {
        field[..digits].copy_from_slice(format!("{value:0digits$o}").as_bytes());
    } else {
        field.fill(0);
        let at = field.len() - 8;
        field[at.max(1)..].copy_from_slice(&value.to_be_bytes()[usize::from(at == 0)..]);
        field[0] = 0x80;
    }
}

pub fn pax_record(key: &str, value: &[u8]) -> Vec<u8> {
    let body = key.len() + value.len() + 3;
    let mut len = body + 1;
    while len != body + len.to_string().len() {
        len = body + len.to_string().len();
    }
    [len.to_string().as_bytes(), b" ", key.as_bytes(), b"=", value, b"\n"].concat()
}

impl LayerSource for Layer {
    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(Cursor::new(self.bytes.clone())))
    }

    fn name(&self) -> String {
        format!("of {} bytes", self.bytes.len())
    }
}

/// The layers as `write_base` takes them.
pub fn sources(layers: &[Layer]) -> Vec<&dyn LayerSource> {
    layers.iter().map(|layer| layer as &dyn LayerSource).collect()
}
