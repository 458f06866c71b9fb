//! Files of `lzop`, which is what a kernel that is "lzo" holds (lzop's `doc/lzop.1`, Linux' `lib/decompress_unlzo.c`).

use super::blocks::{BlockSource, Blocks};
use std::io::{self, Read};

/// First bytes of a file.
pub(super) const MAGIC: [u8; 9] = [0x89, b'L', b'Z', b'O', 0, 0x0d, 0x0a, 0x1a, 0x0a];
/// Largest block: `lzop` makes them of 256 KiB.
const MAX_BLOCK: usize = 1 << 20;
/// From this version on the header tells more.
const LONG_HEADER: u16 = 0x0940;

const ADLER32_OF_CONTENT: u32 = 1;
const ADLER32_OF_COMPRESSED: u32 = 1 << 1;
const HAS_EXTRA_FIELD: u32 = 1 << 6;
const CRC32_OF_CONTENT: u32 = 1 << 8;
const CRC32_OF_COMPRESSED: u32 = 1 << 9;
const HAS_FILTER: u32 = 1 << 11;

/// What a file holds. Checksums are skipped: the content is told by its use.
pub(super) struct Lzop<R> {
    stream: R,
    flags: u32,
}

impl<R: Read> Lzop<R> {
    pub(super) fn open(mut stream: R) -> io::Result<Blocks<Lzop<R>>> {
        let mut magic = [0; MAGIC.len()];
        stream.read_exact(&mut magic)?;
        if magic != MAGIC {
            return Err(invalid("not a file of lzop"));
        }
        let version = u16::from_be_bytes(array(&mut stream)?);
        let is_long = version >= LONG_HEADER;
        // Version of the library; the version that is needed; method, and level.
        skip(&mut stream, if is_long { 2 + 2 + 1 + 1 } else { 2 + 1 })?;
        let flags = u32::from_be_bytes(array(&mut stream)?);
        if flags & HAS_FILTER != 0 {
            return Err(invalid("a filter of lzop is not supported"));
        }
        // Mode and time; the name; a checksum.
        skip(&mut stream, if is_long { 4 + 4 + 4 } else { 4 + 4 })?;
        let [name] = array(&mut stream)?;
        skip(&mut stream, u64::from(name) + 4)?;
        if flags & HAS_EXTRA_FIELD != 0 {
            let length = u32::from_be_bytes(array(&mut stream)?);
            skip(&mut stream, u64::from(length) + 4)?;
        }
        Ok(Blocks::of(Lzop { stream, flags }))
    }
}

impl<R: Read> BlockSource for Lzop<R> {
    fn next_block(&mut self, block: &mut Vec<u8>) -> io::Result<bool> {
        let length = u32::from_be_bytes(array(&mut self.stream)?) as usize;
        if length == 0 {
            return Ok(false);
        }
        let compressed = u32::from_be_bytes(array(&mut self.stream)?) as usize;
        if length > MAX_BLOCK || compressed > length || compressed == 0 {
            return Err(invalid("a block of lzop has a length it cannot have"));
        }
        let counts = |flags: &[u32]| flags.iter().filter(|flag| self.flags & **flag != 0).count() as u64;
        let mut checksums = counts(&[ADLER32_OF_CONTENT, CRC32_OF_CONTENT]);
        if compressed < length {
            checksums += counts(&[ADLER32_OF_COMPRESSED, CRC32_OF_COMPRESSED]);
        }
        skip(&mut self.stream, 4 * checksums)?;
        let mut bytes = vec![0; compressed];
        self.stream.read_exact(&mut bytes)?;
        *block = match compressed == length {
            true => bytes,
            false => lzokay_native::decompress_all(&bytes, Some(length))
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?,
        };
        if block.len() != length {
            return Err(invalid("a block of lzop is not as long as it says"));
        }
        Ok(true)
    }
}

fn array<const N: usize>(stream: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn skip(stream: &mut impl Read, length: u64) -> io::Result<()> {
    match io::copy(&mut stream.take(length), &mut io::sink())? == length {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What `lzop` 1.04 makes of `content`, its checksums left at zero.
    fn lzop(content: &[u8], version: u16, flags: u32) -> Vec<u8> {
        let mut file = MAGIC.to_vec();
        file.extend(version.to_be_bytes());
        file.extend([0x20, 0xa0]);
        file.extend(if version >= LONG_HEADER { &[0x09, 0x40, 3, 5][..] } else { &[1][..] });
        file.extend(flags.to_be_bytes());
        file.extend([0; 8]);
        file.extend(if version >= LONG_HEADER { &[0; 4][..] } else { &[] });
        file.extend([4, b'n', b'a', b'm', b'e', 0, 0, 0, 0]);
        for block in content.chunks(256 << 10) {
            let packed = lzokay_native::compress(block).unwrap();
            let is_packed = packed.len() < block.len();
            let stored = if is_packed { &packed } else { block };
            file.extend((block.len() as u32).to_be_bytes());
            file.extend((stored.len() as u32).to_be_bytes());
            let mut checksums = (flags & ADLER32_OF_CONTENT != 0) as usize + (flags & CRC32_OF_CONTENT != 0) as usize;
            if is_packed {
                checksums += (flags & ADLER32_OF_COMPRESSED != 0) as usize;
            }
            file.extend(vec![0; 4 * checksums]);
            file.extend(stored);
        }
        file.extend([0; 4]);
        file
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Lzop::open(bytes)?.read_to_end(&mut out).map(|_| out)
    }

    #[test]
    fn files_of_every_version_are_read_back() {
        let mut noise = 1_u32;
        let mixed: Vec<u8> = (0..700_000_u32)
            .map(|n| {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if n < 300_000 { (n / 97) as u8 } else { (noise >> 24) as u8 }
            })
            .collect();
        for (version, flags) in [
            (0x1040, ADLER32_OF_CONTENT | ADLER32_OF_COMPRESSED),
            (0x1040, CRC32_OF_CONTENT),
            (0x0930, 0),
            (0x1040, 0x0300_0001),
        ] {
            assert_eq!(read(&lzop(&mixed, version, flags)).unwrap(), mixed, "{version:x} {flags:x}");
        }
        assert_eq!(read(&lzop(b"", 0x1040, 0)).unwrap(), b"");
    }

    #[test]
    fn what_is_cut_or_lies_is_an_error() {
        let file = lzop(&[7; 5000], 0x1040, 0);
        for length in 0..file.len() {
            assert!(read(&file[..length]).is_err(), "{length}");
        }
        let at = file.len() - 4 - lzokay_native::compress(&[7; 5000]).unwrap().len() - 8;
        for claimed in [4999_u32, 5001, 1 << 31] {
            let mut lying = file.clone();
            lying[at..at + 4].copy_from_slice(&claimed.to_be_bytes());
            assert!(read(&lying).is_err(), "{claimed}");
        }
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut file = lzop(b"", 0x1040, 0);
            file.truncate(file.len() - 4);
            file.extend(bytes);
            let _ = read(&file);
        }
    }
}
