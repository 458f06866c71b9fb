//! Where a copy goes: Docker's rules for targets that exist and that do not.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What a path is, with symbolic links followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing.
    Missing,
    /// Anything but a directory.
    File,
    /// A directory.
    Directory,
}

/// What is copied.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// Its own name; absent: only its contents are meant (`DIR/.`, `/`).
    pub(crate) name: Option<OsString>,
    /// It is a directory.
    pub(crate) is_directory: bool,
}

/// Where it goes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Placement {
    /// An existing directory.
    pub(crate) directory: PathBuf,
    /// The name it gets there; absent: its contents go straight into the directory.
    pub(crate) name: Option<OsString>,
}

/// The name of a source; none where only the contents are meant.
pub(crate) fn source_name(path: &Path) -> Option<OsString> {
    let bytes = path.as_os_str().as_bytes();
    if bytes == b"." || bytes.ends_with(b"/.") {
        return None;
    }
    path.file_name().map(OsStr::to_owned)
}

/// True where a path can only mean a directory, so that a symbolic link there is followed.
pub(crate) fn means_directory(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    bytes.ends_with(b"/") || bytes.ends_with(b"/.") || path.file_name().is_none()
}

/// The directory that holds a path.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

/// Decides where a copy goes; `above` is what holds the target. An error is one line.
pub(crate) fn place(source: &Source, target: &Path, found: Found, above: Found) -> Result<Placement, String> {
    let shown = target.display();
    let own_name = || Placement { directory: parent(target).to_owned(), name: target.file_name().map(OsStr::to_owned) };
    match (found, source.is_directory) {
        (Found::Directory, _) => Ok(Placement { directory: target.to_owned(), name: source.name.clone() }),
        (Found::File, true) => Err(format!("cannot overwrite non-directory {shown} with a directory")),
        (Found::File, false) if means_directory(target) => Err(format!("{shown} is not a directory")),
        (Found::File, false) => Ok(own_name()),
        (Found::Missing, false) if means_directory(target) => Err(format!("the directory {shown} does not exist")),
        (Found::Missing, _) => match above {
            Found::Directory => Ok(own_name()),
            Found::File => Err(format!("{} is not a directory", parent(target).display())),
            Found::Missing => Err(format!("the directory {} does not exist", parent(target).display())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Found::{Directory, File, Missing};

    #[test]
    fn targets_are_chosen_as_docker_does() {
        let into = |directory: &str, name: Option<&str>| Ok((directory.to_owned(), name.map(str::to_owned)));
        let no = |text: &str| Err(text.to_owned());
        for (source, is_directory, target, found, above, expected) in [
            ("/s/f", false, "/d", Directory, Directory, into("/d", Some("f"))),
            ("/s/f", false, "/d/", Directory, Directory, into("/d/", Some("f"))),
            ("/s/f", false, "/d/g", File, Directory, into("/d", Some("g"))),
            ("/s/f", false, "/d/g", Missing, Directory, into("/d", Some("g"))),
            ("/s/f", false, "g", Missing, Directory, into(".", Some("g"))),
            ("/s/f", false, "/d/g/", File, Directory, no("/d/g/ is not a directory")),
            ("/s/f", false, "/d/g/", Missing, Directory, no("the directory /d/g/ does not exist")),
            ("/s/f", false, "/x/g", Missing, Missing, no("the directory /x does not exist")),
            ("/s/f", false, "/x/g", Missing, File, no("/x is not a directory")),
            ("/s/t", true, "/d", Directory, Directory, into("/d", Some("t"))),
            ("/s/t/", true, "/d", Directory, Directory, into("/d", Some("t"))),
            ("/s/t/.", true, "/d", Directory, Directory, into("/d", None)),
            (".", true, "/d", Directory, Directory, into("/d", None)),
            ("/", true, "/d", Directory, Directory, into("/d", None)),
            ("/s/t", true, "/d/new", Missing, Directory, into("/d", Some("new"))),
            ("/s/t/.", true, "/d/new/", Missing, Directory, into("/d", Some("new"))),
            ("/s/t", true, "/x/new", Missing, Missing, no("the directory /x does not exist")),
            ("/s/t", true, "/d/g", File, Directory, no("cannot overwrite non-directory /d/g with a directory")),
        ] {
            let given = Source { name: source_name(Path::new(source)), is_directory };
            let placed = place(&given, Path::new(target), found, above)
                .map(|p| (p.directory.display().to_string(), p.name.map(|n| n.into_string().unwrap())));
            assert_eq!(placed, expected, "{source} -> {target} ({found:?})");
        }
    }
}
