//! Maps of sparse files: GNU's old headers and its three PAX forms.

use super::header::parse_number;
use super::reader::TarError;

/// Stretches of one sparse file that a header may list; each costs 16 bytes while the file is read.
pub(super) const MAX_STRETCHES: usize = 1 << 18;

/// Bytes of a sparse file that are stored, ascending and apart; everything between is a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub offset: u64,
    pub len: u64,
}

/// Checks a map: ascending, not overlapping, inside `size`, and `stored` bytes long in all. Empty stretches, with which
/// writers mark the end of a file, are left out.
pub(super) fn check_map(numbers: &[i64], size: u64, stored: u64) -> Result<Vec<Stretch>, TarError> {
    let bad = || TarError::Malformed("the map of a sparse file");
    if !numbers.len().is_multiple_of(2) || numbers.len() / 2 > MAX_STRETCHES {
        return Err(bad());
    }
    let mut map: Vec<Stretch> = Vec::new();
    let (mut end, mut total) = (0u64, 0u64);
    for pair in numbers.chunks_exact(2) {
        let offset = u64::try_from(pair[0]).map_err(|_| bad())?;
        let len = u64::try_from(pair[1]).map_err(|_| bad())?;
        if offset < end {
            return Err(bad());
        }
        end = offset.checked_add(len).filter(|&end| end <= size).ok_or_else(bad)?;
        total += len;
        if len > 0 {
            map.push(Stretch { offset, len });
        }
    }
    if total != stored { Err(bad()) } else { Ok(map) }
}

/// Adds the used ones of a run of 24-byte entries of an old GNU header.
pub(super) fn read_gnu_entries(entries: &[u8], numbers: &mut Vec<i64>) -> Result<(), TarError> {
    for entry in entries.chunks_exact(24) {
        if entry[0] == 0 {
            break;
        }
        for field in [&entry[..12], &entry[12..]] {
            numbers.push(parse_number(field).ok_or(TarError::Malformed("the map of a sparse file"))?);
        }
    }
    Ok(())
}
