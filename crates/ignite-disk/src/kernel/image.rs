//! Kernel images of every kind, unpacked to the one a VMM loads: an ELF `vmlinux` on x86, an `Image` on arm64.

use std::fs::{File, Permissions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use object::Endianness;
use object::elf::{FileHeader64, PT_NOTE};
use object::read::elf::{FileHeader, ProgramHeader};
use tempfile::NamedTempFile;

use super::decompress::{Compression, read_up_to};

/// Largest kernel that is unpacked.
const MAX_IMAGE: u64 = 512 << 20;
/// Bytes that tell what a file is, with all of a bzImage's setup header.
const HEAD: usize = 0x300;
/// Compressed kernels inside compressed files (a zboot image in a `vmlinuz.gz`), and no deeper.
const MAX_DEPTH: usize = 3;
/// `__NEW_UTS_LEN`.
const LONGEST_RELEASE: usize = 64;

/// What the unpacked kernel is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UnpackedKernel {
    /// `uname -r`.
    pub release: String,
    /// Whether it can be entered by PVH, QEMU's way into an ELF kernel.
    pub has_pvh: bool,
}

/// A file that holds a kernel in some form.
pub(super) trait ImageFile: Read + Seek + Send {}

impl<T: Read + Seek + Send> ImageFile for T {}

/// What a file holds.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// The kernel itself.
    Ready,
    /// Something compressed: the whole file, or a loader's payload.
    Packed {
        offset: u64,
        len: u64,
        /// Where the loader has its version, a text that begins with the release.
        version_at: Option<u64>,
    },
}

/// Unpacks `image` to `dest`; says what is wrong in words.
pub(super) fn unpack(image: &mut dyn ImageFile, dest: &Path) -> Result<UnpackedKernel, String> {
    let dir = dest.parent().ok_or("its destination has no directory")?;
    let mut release = None;
    let mut unpacked = unpack_once(image, dir, &mut release)?;
    for _ in 1..MAX_DEPTH {
        if unpacked.is_ready {
            return publish(unpacked.file, dest, release);
        }
        unpacked = unpack_once(unpacked.file.as_file_mut(), dir, &mut release)?;
    }
    Err("it is packed more often than any kernel".to_owned())
}

struct Unpacked {
    file: NamedTempFile,
    /// Whether it is the kernel itself; else it has to be looked at again.
    is_ready: bool,
}

fn unpack_once(image: &mut dyn ImageFile, dir: &Path, release: &mut Option<String>) -> Result<Unpacked, String> {
    let mut file = tempfile::Builder::new().prefix(".vmlinux-").tempfile_in(dir).map_err(said)?;
    let mut head = [0; HEAD];
    image.rewind().map_err(said)?;
    let found = read_up_to(image, &mut head).map_err(said)?;
    let kind = recognise(&head[..found])?;
    let is_ready = kind == Kind::Ready;
    match kind {
        Kind::Ready => {
            image.rewind().map_err(said)?;
            copy_bounded(image, file.as_file_mut()).map_err(said)?;
        }
        Kind::Packed { offset, len, version_at } => {
            if let Some(at) = version_at {
                image.seek(SeekFrom::Start(at)).map_err(said)?;
                let found = read_up_to(image, &mut head).map_err(said)?;
                *release = leading_word(&head[..found.min(LONGEST_RELEASE + 1)]);
            }
            image.seek(SeekFrom::Start(offset)).map_err(said)?;
            let found = read_up_to(&mut image.take(len), &mut head).map_err(said)?;
            let compression = Compression::detect(&head[..found]);
            image.seek(SeekFrom::Start(offset)).map_err(said)?;
            let packed = |error: io::Error| format!("unpacking its {compression:?} payload: {error}");
            let mut stream = compression.open(BufReader::with_capacity(64 << 10, image.take(len))).map_err(packed)?;
            copy_bounded(&mut stream, file.as_file_mut()).map_err(packed)?;
        }
    }
    Ok(Unpacked { file, is_ready })
}

fn publish(mut file: NamedTempFile, dest: &Path, release: Option<String>) -> Result<UnpackedKernel, String> {
    let kernel = file.as_file_mut();
    let release = match release {
        Some(release) => release,
        None => find_release(kernel).map_err(said)?.ok_or("it does not tell its version")?,
    };
    let has_pvh = has_pvh_entry(kernel).map_err(said)?;
    kernel.set_permissions(Permissions::from_mode(0o644)).and_then(|()| kernel.sync_all()).map_err(said)?;
    file.persist(dest).map_err(|error| said(error.error))?;
    Ok(UnpackedKernel { release, has_pvh })
}

fn said(error: io::Error) -> String {
    error.to_string()
}

/// Tells what a file is from its first bytes.
fn recognise(head: &[u8]) -> Result<Kind, String> {
    let u16_at = |at: usize| head.get(at..at + 2).map(|b| u64::from(u16::from_le_bytes([b[0], b[1]])));
    let u32_at = |at: usize| head.get(at..at + 4).map(|b| u64::from(u32::from_le_bytes([b[0], b[1], b[2], b[3]])));
    // Linux arm64 booting.rst has its magic number at 0x38; a vmlinux is an ELF file.
    if head.starts_with(b"\x7fELF") || head.get(0x38..0x3c) == Some(b"ARM\x64") {
        return Ok(Kind::Ready);
    }
    // drivers/firmware/efi/libstub/zboot-header.S: offset and length of the payload.
    if head.starts_with(b"MZ") && head.get(4..8) == Some(b"zimg") {
        let (offset, len) = u32_at(8).zip(u32_at(12)).ok_or("it is truncated")?;
        return Ok(Kind::Packed { offset, len, version_at: None });
    }
    // Linux x86 boot.rst: payload_offset and payload_length, from protocol 2.08 on.
    if head.get(0x202..0x206) == Some(b"HdrS") {
        let protocol = u16_at(0x206).ok_or("it is truncated")?;
        if protocol < 0x0208 {
            return Err(format!("its boot protocol {protocol:#06x} is older than Linux 2.6.26"));
        }
        let setup_sectors = match head[0x1f1] {
            0 => 4,
            sectors => u64::from(sectors),
        };
        let (offset, len) = u32_at(0x248).zip(u32_at(0x24c)).ok_or("it is truncated")?;
        let version_at = u16_at(0x20e).filter(|&at| at != 0).map(|at| at + 0x200);
        return Ok(Kind::Packed { offset: (setup_sectors + 1) * 512 + offset, len, version_at });
    }
    match Compression::detect(head) {
        Compression::None => Err("it is no ELF file, bzImage, arm64 Image or compressed kernel".to_owned()),
        _ => Ok(Kind::Packed { offset: 0, len: u64::MAX, version_at: None }),
    }
}

/// A release at the start of a text, ended by a space or a NUL.
fn leading_word(text: &[u8]) -> Option<String> {
    let len = text.iter().position(|&byte| byte == b' ' || byte == 0)?;
    let word = &text[..len];
    let is_release = word.first()?.is_ascii_digit() && word.iter().all(|&byte| byte.is_ascii_graphic() && byte != b'/');
    if is_release { String::from_utf8(word.to_vec()).ok() } else { None }
}

fn copy_bounded(from: &mut (impl Read + ?Sized), to: &mut File) -> io::Result<()> {
    let copied = io::copy(&mut from.take(MAX_IMAGE + 1), to)?;
    if copied > MAX_IMAGE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it unpacks to more than {MAX_IMAGE} bytes")));
    }
    to.flush()
}

/// The word after the first `Linux version ` that looks like a release.
fn find_release(kernel: &mut File) -> io::Result<Option<String>> {
    const MARK: &[u8] = b"Linux version ";
    const WINDOW: usize = 1 << 20;
    let overlap = MARK.len() + LONGEST_RELEASE + 1;
    kernel.rewind()?;
    let mut window = Vec::with_capacity(WINDOW + overlap);
    loop {
        let kept = window.len();
        window.resize(kept + WINDOW, 0);
        let read = read_up_to(kernel, &mut window[kept..])?;
        window.truncate(kept + read);
        let mut at = 0;
        while let Some(found) = window[at..].windows(MARK.len()).position(|bytes| bytes == MARK) {
            at += found + MARK.len();
            let end = window.len().min(at + LONGEST_RELEASE + 1);
            if let Some(release) = leading_word(&window[at..end]) {
                return Ok(Some(release));
            }
        }
        if read < WINDOW {
            return Ok(None);
        }
        let done = window.len() - overlap;
        window.drain(..done);
    }
}

/// Whether an ELF kernel carries the note `XEN_ELFNOTE_PHYS32_ENTRY`, by which PVH loaders enter it.
fn has_pvh_entry(kernel: &mut File) -> io::Result<bool> {
    const XEN_ELFNOTE_PHYS32_ENTRY: u32 = 18;
    kernel.rewind()?;
    let mut head = vec![0; 64 << 10];
    let len = read_up_to(kernel, &mut head)?;
    head.truncate(len);
    let Ok(header) = FileHeader64::<Endianness>::parse(&*head) else { return Ok(false) };
    let Ok(endian) = header.endian() else { return Ok(false) };
    let Ok(segments) = header.program_headers(endian, &*head) else { return Ok(false) };
    for segment in segments.iter().filter(|segment| segment.p_type(endian) == PT_NOTE) {
        let len = segment.p_filesz(endian).min(64 << 10);
        kernel.seek(SeekFrom::Start(segment.p_offset(endian)))?;
        let mut notes = vec![0; len as usize];
        let found = read_up_to(kernel, &mut notes)?;
        notes.truncate(found);
        let align = segment.p_align(endian);
        let Ok(mut notes) = object::read::elf::NoteIterator::<FileHeader64<Endianness>>::new(endian, align, &notes)
        else {
            continue;
        };
        while let Ok(Some(note)) = notes.next() {
            if note.name() == b"Xen" && note.n_type(endian).0 == XEN_ELFNOTE_PHYS32_ENTRY {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
