//! Debian packages: the data archive of a `.deb`, as a layer.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::LayerSource;

use super::decompress::Compression;

const MAGIC: &[u8; 8] = b"!<arch>\n";
const HEADER: usize = 60;
/// Members before the data archive: `debian-binary` and the control archive, perhaps signatures.
const MAX_MEMBERS: usize = 16;

/// A `.deb` file (deb(5)): an `ar` archive whose member `data.tar[.xz|.zst|.gz]` holds the files.
#[derive(Debug)]
pub(super) struct Deb {
    path: PathBuf,
}

impl Deb {
    pub fn new(path: &Path) -> Deb {
        Deb { path: path.into() }
    }
}

impl LayerSource for Deb {
    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        let mut file = File::open(&self.path)?;
        let (offset, len) = find_data(&mut file)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut head = [0; 8];
        let found = super::decompress::read_up_to(&mut file, &mut head)?;
        file.seek(SeekFrom::Start(offset))?;
        Compression::detect(&head[..found]).open(BufReader::with_capacity(128 << 10, file.take(len)))
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }
}

/// Where the data archive lies.
fn find_data(file: &mut (impl Read + Seek)) -> io::Result<(u64, u64)> {
    let malformed = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut magic = [0; MAGIC.len()];
    file.read_exact(&mut magic).map_err(|_| malformed("not a Debian package"))?;
    if &magic != MAGIC {
        return Err(malformed("not a Debian package"));
    }
    let mut offset = MAGIC.len() as u64;
    for _ in 0..MAX_MEMBERS {
        let mut header = [0; HEADER];
        file.read_exact(&mut header).map_err(|_| malformed("the package has no data archive"))?;
        if &header[58..] != b"`\n" {
            return Err(malformed("the package's ar archive is malformed"));
        }
        let len: u64 = std::str::from_utf8(&header[48..58])
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .ok_or_else(|| malformed("the package's ar archive is malformed"))?;
        offset += HEADER as u64;
        if header.starts_with(b"data.tar") {
            return Ok((offset, len));
        }
        offset = offset.checked_add(len + len % 2).ok_or_else(|| malformed("the package's ar archive is malformed"))?;
        file.seek(SeekFrom::Start(offset))?;
    }
    Err(malformed("the package has no data archive"))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    fn member(name: &str, content: &[u8]) -> Vec<u8> {
        let mut bytes =
            format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, "100644", content.len()).into_bytes();
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(2), b'\n');
        bytes
    }

    #[test]
    fn the_data_archive_is_found_behind_the_others() {
        let deb = [
            &MAGIC[..],
            &member("debian-binary", b"2.0\n"),
            &member("control.tar.xz", b"odd"),
            &member("data.tar.xz", b"data"),
        ]
        .concat();
        let (offset, len) = find_data(&mut Cursor::new(&deb)).unwrap();
        assert_eq!(&deb[offset as usize..][..len as usize], b"data");
        assert!(find_data(&mut Cursor::new(&deb[..80])).is_err());
        assert!(find_data(&mut Cursor::new(b"!<arch>\n")).is_err());
    }

    proptest! {
        #[test]
        fn garbage_is_refused_without_panic(tail in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = find_data(&mut Cursor::new([&MAGIC[..], &tail].concat()));
        }
    }
}
