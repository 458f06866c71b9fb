//! An initrd of the user's own: read as Linux reads one, kept as plain cpio for the initramfs to begin with.
//!
//! Linux takes archives one behind the other, each of them plain or compressed, with zeros in between
//! (Documentation/driver-api/early-userspace/buffer-format.rst). What it finds first may be looked for before anything is
//! unpacked (microcode, ACPI tables), so the order stays; compression goes, so that no kernel has to know it.

use std::fs::{self, File};
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};

use crate::DiskError;
use crate::ext4::{ImageFile, Visibility};
use crate::kernel::{Compression, read_up_to};

/// Name of the kept initrd in a kernel's directory.
const INITRD: &str = "initrd.cpio";
/// Most bytes of it, unpacked: all of them stand in the guest's memory.
const MAX_INITRD: u64 = 256 << 20;
/// `PATH_MAX`.
const MAX_NAME: u32 = 4096;
const HEADER: usize = 110;
const TRAILER: &[u8] = b"TRAILER!!!\0";

/// Where a kernel's own initrd is, or would be.
pub(crate) fn kept(kernel_dir: &Path) -> PathBuf {
    kernel_dir.join(INITRD)
}

/// Keeps the initrd `source` with the kernel imported to `kernel_dir`; returns its unpacked size in bytes.
///
/// Refused is what Linux would not read to its end, and what has more than 256 MiB. Nothing is left on an error.
pub fn import_initrd(source: &Path, kernel_dir: &Path) -> Result<u64, DiskError> {
    let file = File::open(source).map_err(|error| DiskError::ReadFile { path: source.into(), source: error })?;
    let mut out = Kept { image: ImageFile::create(&kept(kernel_dir))?, len: 0 };
    out.archives(Box::new(file), false).map_err(|error| match error {
        Failure::Read(error) => DiskError::BadInitrd { path: source.into(), reason: error.to_string() },
        Failure::Write(error) => error,
    })?;
    if out.len == 0 {
        return Err(DiskError::BadInitrd { path: source.into(), reason: "it is empty".to_owned() });
    }
    let len = out.len;
    out.image.publish(len, Visibility::Shared)?;
    Ok(len)
}

/// Bytes of the kept initrd; absent where the kernel has none.
pub fn initrd_size(kernel_dir: &Path) -> Option<u64> {
    fs::metadata(kept(kernel_dir)).ok().map(|metadata| metadata.len())
}

enum Failure {
    Read(io::Error),
    Write(DiskError),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Read(error)
    }
}

struct Kept {
    image: ImageFile,
    len: u64,
}

impl Kept {
    /// All archives of a stream.
    fn archives(&mut self, mut stream: Box<dyn Read + Send + '_>, is_unpacked: bool) -> Result<(), Failure> {
        loop {
            let mut head = [0; 6];
            // Zeros between archives.
            loop {
                if read_up_to(&mut *stream, &mut head[..1])? == 0 {
                    return Ok(());
                }
                if head[0] != 0 {
                    break;
                }
            }
            let found = 1 + read_up_to(&mut *stream, &mut head[1..])?;
            if matches!(&head, b"070701" | b"070702") {
                self.archive(&mut *stream, head)?;
                continue;
            }
            let compression = Compression::detect(&head[..found]);
            if is_unpacked || compression == Compression::None {
                return Err(invalid("it is neither a cpio archive (newc) nor a compressed one").into());
            }
            let start = Cursor::new(head[..found].to_vec());
            let unpacked = compression.open_all(start.chain(stream))?;
            return self.archives(unpacked, true);
        }
    }

    /// One archive up to its trailer, `head` being its first bytes.
    fn archive(&mut self, stream: &mut (dyn Read + Send), head: [u8; 6]) -> Result<(), Failure> {
        let mut header = [0; HEADER];
        header[..head.len()].copy_from_slice(&head);
        stream.read_exact(&mut header[head.len()..])?;
        self.align()?;
        loop {
            if !matches!(&header[..6], b"070701" | b"070702") {
                return Err(invalid("a member of its cpio archive is not of the format newc").into());
            }
            let (size, name_len) = (field(&header, 6)?, field(&header, 11)?);
            if name_len == 0 || name_len > MAX_NAME {
                return Err(invalid("a member of its cpio archive has a name that is too long, or none").into());
            }
            let mut name = vec![0; name_len as usize];
            stream.read_exact(&mut name)?;
            self.append(&header)?;
            self.append(&name)?;
            self.pad(stream)?;
            if name == TRAILER {
                return Ok(());
            }
            self.content(stream, u64::from(size))?;
            self.pad(stream)?;
            stream.read_exact(&mut header)?;
        }
    }

    fn content(&mut self, stream: &mut (dyn Read + Send), mut left: u64) -> Result<(), Failure> {
        let mut buffer = vec![0; 64 << 10];
        while left > 0 {
            let now = left.min(buffer.len() as u64) as usize;
            stream.read_exact(&mut buffer[..now])?;
            self.append(&buffer[..now])?;
            left -= now as u64;
        }
        Ok(())
    }

    /// Reads what stands up to the next multiple of 4, and writes zeros.
    fn pad(&mut self, stream: &mut (dyn Read + Send)) -> Result<(), Failure> {
        let padding = (self.len.next_multiple_of(4) - self.len) as usize;
        read_up_to(stream, &mut [0; 4][..padding])?;
        self.align()
    }

    fn align(&mut self) -> Result<(), Failure> {
        let padding = self.len.next_multiple_of(4) - self.len;
        self.append(&[0; 4][..padding as usize])
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if self.len + bytes.len() as u64 > MAX_INITRD {
            return Err(invalid(&format!("it unpacks to more than {MAX_INITRD} bytes")).into());
        }
        self.image.write_at(self.len, bytes).map_err(Failure::Write)?;
        self.len += bytes.len() as u64;
        Ok(())
    }
}

/// The header's field of that number: eight hexadecimal digits.
fn field(header: &[u8; HEADER], number: usize) -> io::Result<u32> {
    let digits = &header[6 + number * 8..][..8];
    let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|digit| digit.is_ascii_hexdigit()));
    text.and_then(|text| u32::from_str_radix(text, 16).ok())
        .ok_or_else(|| invalid("a member of its cpio archive has a damaged header"))
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn member(name: &str, content: &[u8]) -> Vec<u8> {
        let fields = [1, 0o100644, 0, 0, 1, 0, content.len() as u32, 0, 0, 0, 0, name.len() as u32 + 1, 0];
        let mut bytes = b"070701".to_vec();
        fields.iter().for_each(|field| bytes.extend(format!("{field:08x}").bytes()));
        bytes.extend(name.bytes().chain([0]));
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn archive(name: &str) -> Vec<u8> {
        [member(name, b"content"), member("TRAILER!!!", b"")].concat()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn import(bytes: &[u8]) -> Result<Vec<u8>, DiskError> {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("initrd");
        fs::write(&source, bytes).unwrap();
        let dest = dir.path().join("kernel");
        fs::create_dir(&dest).unwrap();
        let result = import_initrd(&source, &dest);
        assert_eq!(fs::read_dir(&dest).unwrap().count(), usize::from(result.is_ok()));
        let kept = fs::read(kept(&dest)).unwrap_or_default();
        result.map(|len| {
            assert_eq!((len, initrd_size(&dest)), (kept.len() as u64, Some(len)));
            kept
        })
    }

    #[test]
    fn archives_behind_each_other_are_unpacked_in_their_order() {
        let (one, two) = (archive("kernel/firmware/acpi/a.aml"), archive("etc/b"));
        let both = [&one[..], &two].concat();
        let zeros = [0; 512];
        for (what, bytes) in [
            ("plain", both.clone()),
            ("plain with zeros", [&one[..], &zeros, &two, &zeros].concat()),
            ("plain, then gzip", [&one[..], &zeros, &gzip(&two)].concat()),
            ("gzip twice", [gzip(&one), gzip(&two)].concat()),
            ("zstd", zstd::encode_all(&both[..], 1).unwrap()),
            ("plain, then zstd twice", {
                let packed = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
                [one.clone(), packed(&two)].concat()
            }),
        ] {
            assert!(import(&bytes).unwrap_or_else(|error| panic!("{what}: {error}")) == both, "{what}");
        }
    }

    #[test]
    fn what_linux_would_not_read_is_refused_and_leaves_nothing() {
        let good = archive("a");
        let mut bad_digit = good.clone();
        bad_digit[60] = b'x';
        for (bytes, reason) in [
            (b"".to_vec(), "empty"),
            (b"hello, this is no archive".to_vec(), "neither"),
            (gzip(&gzip(&good)), "neither"),
            (good[..good.len() - 50].to_vec(), "fill"),
            (bad_digit, "damaged header"),
            ([&good[..], b"070707"].concat(), "neither"),
        ] {
            let error = import(&bytes).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_damaged_initrd_never_panics(at in 0usize..150, value: u8) {
            let mut bytes = archive("some/file");
            bytes[at] = value;
            let _ = import(&bytes);
        }
    }
}
