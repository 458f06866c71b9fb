//! Reading a set: every manifest of a file or of a directory and what is below it. One bad file spoils nothing but itself.

use crate::error::LoadProblem;
use crate::wanted::{Origin, WantedSet, WantedVm};
use ignite_api::codec::{MAX_INPUT_LEN, decode_manifest};
use ignite_api::{Uid, VmSpec, validation};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

/// Most manifests of a set.
pub const MAX_MANIFEST_FILES: usize = 10_000;
/// Deepest directory below a set's root.
const MAX_DEPTH: usize = 16;
/// What a manifest's name ends with, as Weave Ignite had it.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// Reads a file, or every `*.yaml`, `*.yml` and `*.json` of a directory and below it, in the order of their names. What
/// begins with a dot is left out, and so are symbolic links that leave the root.
///
/// Blocks.
pub fn load(root: &Path, defaults: &VmSpec) -> WantedSet {
    let mut set = WantedSet::default();
    let mut files = Vec::new();
    let found = match fs::metadata(root) {
        Ok(metadata) if metadata.is_dir() => collect(root, 0, &mut files),
        Ok(_) => {
            files.push(root.to_owned());
            Ok(())
        }
        Err(error) => Err((root.to_owned(), error)),
    };
    if let Err((path, error)) = found {
        set.is_incomplete = true;
        set.problems.push(problem(&relative(root, &path), None, format!("cannot be read: {error}")));
    }
    files.sort();
    if files.len() > MAX_MANIFEST_FILES {
        set.is_incomplete = true;
        set.problems.push(problem("", None, format!("there are more than {MAX_MANIFEST_FILES} manifests")));
        files.truncate(MAX_MANIFEST_FILES);
    }
    let mut seen = Seen::default();
    for path in files {
        let name = relative(root, &path);
        match read(root, &path) {
            Ok(text) => add(&mut set, &mut seen, &name, &text, defaults),
            Err(error) => {
                set.problems.push(problem(&name, None, format!("cannot be read: {error}")));
                set.broken_files.insert(name);
            }
        }
    }
    set
}

/// Reads one text, under the name it is shown by.
pub fn load_text(name: &str, text: &[u8], defaults: &VmSpec) -> WantedSet {
    let mut set = WantedSet::default();
    add(&mut set, &mut Seen::default(), name, text, defaults);
    set
}

/// A path as it is shown: without control characters, bounded.
pub fn shown_path(path: &Path) -> String {
    printable(&path.to_string_lossy())
}

#[derive(Default)]
struct Seen {
    names: HashMap<String, String>,
    uids: HashMap<Uid, String>,
}

fn collect(dir: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), (PathBuf, io::Error)> {
    let failed = |error| (dir.to_owned(), error);
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (path, name) = (entry.path(), entry.file_name());
        if name.to_string_lossy().starts_with('.') || files.len() > MAX_MANIFEST_FILES {
            continue;
        }
        let kind = entry.file_type().map_err(|error| (path.clone(), error))?;
        if kind.is_dir() {
            if depth < MAX_DEPTH {
                collect(&path, depth + 1, files)?;
            }
        } else if is_manifest(&path) {
            files.push(path);
        }
    }
    Ok(())
}

fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|found| EXTENSIONS.iter().any(|known| found == *known))
}

fn relative(root: &Path, path: &Path) -> String {
    let below = path.strip_prefix(root).unwrap_or(path);
    let shown = if below.components().any(|part| matches!(part, Component::Normal(_))) {
        below
    } else {
        Path::new(path.file_name().unwrap_or_default())
    };
    shown_path(shown)
}

/// What is no regular file, or leads out of the root, is refused: a manifest may come from people we do not know.
fn read(root: &Path, path: &Path) -> io::Result<Vec<u8>> {
    let real = fs::canonicalize(path)?;
    if path != root && !real.starts_with(fs::canonicalize(root)?) {
        return Err(io::Error::other("it is a link that leads out of the directory"));
    }
    // Not to hang on a pipe: looked at before it is opened.
    if !fs::metadata(&real)?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut text = Vec::new();
    // One byte more than is allowed shows that it is too long.
    File::open(&real)?.take(MAX_INPUT_LEN as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
}

/// A file counts as a whole: half of a file that someone is writing must not decide anything.
fn add(set: &mut WantedSet, seen: &mut Seen, name: &str, text: &[u8], defaults: &VmSpec) {
    let mut problems = Vec::new();
    let mut vms = Vec::new();
    match decode_manifest(text, defaults) {
        Ok(manifests) => {
            for manifest in manifests {
                let line = Some(manifest.line);
                if manifest.vm.metadata.name.is_empty() {
                    problems.push(problem(
                        name,
                        line,
                        "metadata.name: Required value: a VM of a set has a name".into(),
                    ));
                    continue;
                }
                if let Err(error) = validation::validate_vm(&manifest.vm) {
                    problems.push(problem(name, line, error.to_string()));
                    continue;
                }
                let origin = Origin { file: name.to_owned(), line: manifest.line };
                vms.push(WantedVm { vm: manifest.vm, is_running_wanted: manifest.is_running_wanted, origin });
            }
        }
        Err(error) => {
            let line = Some(error.line).filter(|line| *line > 0);
            problems.push(problem(name, line, error.to_string()));
        }
    }
    for wanted in &vms {
        let taken_by = seen.names.get(wanted.name()).map(|at| ("name", at));
        let taken_by = taken_by.or_else(|| Some(("uid", seen.uids.get(wanted.vm.metadata.uid.as_ref()?)?)));
        if let Some((what, at)) = taken_by {
            let message = format!("metadata.{what}: {} is in {at} already", wanted.name());
            problems.push(problem(name, Some(wanted.origin.line), message));
        }
        let at = format!("{name}:{}", wanted.origin.line);
        seen.names.entry(wanted.name().to_owned()).or_insert_with(|| at.clone());
        if let Some(uid) = &wanted.vm.metadata.uid {
            seen.uids.entry(uid.clone()).or_insert(at);
        }
    }
    if problems.is_empty() {
        set.vms.extend(vms);
    } else {
        set.broken_files.insert(name.to_owned());
        set.problems.extend(problems);
    }
}

fn problem(file: &str, line: Option<u64>, message: String) -> LoadProblem {
    LoadProblem { file: file.to_owned(), line, message: printable(&message) }
}

fn printable(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(2000).collect();
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm(name: &str, rest: &str) -> String {
        format!(
            "apiVersion: ignite.weave.works/v1alpha4\nkind: VM\nmetadata: {{name: {name}}}\nspec: {{image: {{oci: busybox}}{rest}}}\n"
        )
    }

    fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    fn names(set: &WantedSet) -> Vec<(&str, &str, u64)> {
        set.vms.iter().map(|w| (w.name(), w.origin.file.as_str(), w.origin.line)).collect()
    }

    #[test]
    fn manifests_are_found_below_a_directory_in_the_order_of_their_names() {
        let two = format!("{}---\n{}", vm("b", ""), vm("c", ""));
        let files = [
            ("z.yml", &*vm("z", "")),
            ("sub/two.yaml", &two),
            ("a.yaml", &vm("a", "")),
            ("README.md", "no manifest"),
            (".hidden.yaml", "broken: ["),
            (".git/config.yaml", "broken: ["),
        ];
        let dir = directory(&files);
        let set = load(dir.path(), &VmSpec::default());
        assert_eq!(
            names(&set),
            [("a", "a.yaml", 1), ("b", "sub/two.yaml", 1), ("c", "sub/two.yaml", 6), ("z", "z.yml", 1)]
        );
        assert!(set.problems.is_empty() && !set.is_incomplete);
        let one = load(&dir.path().join("a.yaml"), &VmSpec { cpus: 2, ..VmSpec::default() });
        assert_eq!((names(&one), one.vms[0].vm.spec.cpus), (vec![("a", "a.yaml", 1)], 2));
    }

    #[test]
    fn a_bad_file_stops_nothing_but_itself_and_is_told_with_its_line() {
        let half = format!("{}---\n{}", vm("b", ""), vm("c", ", memroy: 1GB"));
        let files = [
            ("good.yaml", &*vm("a", "")),
            ("typo.yaml", &half),
            ("invalid.yaml", &vm("d", ", cpus: 99")),
            ("nameless.yaml", &vm("''", "")),
            ("twice.yaml", &vm("a", "")),
        ];
        let set = load(directory(&files).path(), &VmSpec::default());
        assert_eq!(names(&set), [("a", "good.yaml", 1)]);
        let found: Vec<_> = set.problems.iter().map(ToString::to_string).collect();
        for (found, expected) in found.iter().zip([
            "invalid.yaml:1: spec.cpus: Invalid value: 99",
            "nameless.yaml:1: metadata.name: Required value",
            "twice.yaml:1: metadata.name: a is in good.yaml:1 already",
            "typo.yaml:9: line 9, column",
        ]) {
            assert!(found.starts_with(expected), "{found}");
        }
        assert_eq!(found.len(), 4);
        assert_eq!(set.broken_files.len(), 4);
        assert!(!set.is_incomplete);
    }

    #[test]
    fn what_cannot_be_listed_is_incomplete() {
        let set = load(Path::new("/does/not/exist"), &VmSpec::default());
        assert!(set.is_incomplete && set.vms.is_empty());
    }

    #[test]
    fn a_link_out_of_the_directory_and_a_pipe_are_not_read() {
        let outside = directory(&[("secret.yaml", &vm("x", ""))]);
        let dir = directory(&[("a.yaml", &vm("a", ""))]);
        std::os::unix::fs::symlink(outside.path().join("secret.yaml"), dir.path().join("out.yaml")).unwrap();
        std::os::unix::fs::symlink("a.yaml", dir.path().join("same.yaml")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            dir.path().join("pipe.yaml"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        let set = load(dir.path(), &VmSpec::default());
        assert_eq!(names(&set), [("a", "a.yaml", 1)]);
        let broken: Vec<_> = set.broken_files.iter().map(String::as_str).collect();
        assert_eq!(broken, ["out.yaml", "pipe.yaml", "same.yaml"], "the last one names a VM twice");
    }
}
