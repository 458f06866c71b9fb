//! Manifests named by `--config`: a file, or standard input, with one or more VMs in it.

use crate::report::UsageError;
use anyhow::Context;
use ignite_api::codec::{MAX_INPUT_LEN, Object, decode, decode_vms_over};
use ignite_api::{Vm, VmSpec};
use std::io::Read;
use std::path::Path;

/// The VMs of a manifest over the configured defaults; at least one.
pub fn read_vms(path: &Path, defaults: &VmSpec) -> anyhow::Result<Vec<Vm>> {
    let failed = || format!("could not read manifest {}", shown(path));
    let text = read(path).with_context(failed)?;
    let vms = decode_vms_over(&text, defaults).with_context(failed)?;
    if vms.is_empty() {
        return Err(anyhow::anyhow!("there is no document in it").context(failed()));
    }
    Ok(vms)
}

/// What names each VM of a manifest: its uid, else its name.
pub fn read_vm_names(path: &Path) -> anyhow::Result<Vec<String>> {
    let failed = || format!("could not read manifest {}", shown(path));
    let objects = decode(&read(path).with_context(failed)?).with_context(failed)?;
    let name = |object: &Object| {
        let Object::Vm(vm) = object else {
            return Err(UsageError(format!("{} holds a {}, which is no VM", shown(path), object.kind())));
        };
        match (&vm.metadata.uid, vm.metadata.name.as_str()) {
            (Some(uid), _) => Ok(uid.to_string()),
            (None, "") => Err(UsageError("API resource config must have Name or UID".into())),
            (None, name) => Ok(name.to_owned()),
        }
    };
    objects.iter().map(|object| name(object).map_err(anyhow::Error::from)).collect()
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    // One byte more than is allowed shows that it is too long.
    let limit = MAX_INPUT_LEN as u64 + 1;
    match path == Path::new("-") {
        true => std::io::stdin().lock().take(limit).read_to_end(&mut text)?,
        false => std::fs::File::open(path)?.take(limit).read_to_end(&mut text)?,
    };
    Ok(text)
}

fn shown(path: &Path) -> std::path::Display<'_> {
    if path == Path::new("-") { Path::new("standard input").display() } else { path.display() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: ignite.weave.works/v1alpha4\nkind: VM\n";

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn several_documents_are_several_vms_over_the_same_defaults() {
        let text = format!("{HEAD}metadata: {{name: a}}\nspec: {{cpus: 2}}\n---\n---\n{HEAD}metadata: {{name: b}}\n");
        let defaults = VmSpec { cpus: 4, ..VmSpec::default() };
        let vms = read_vms(file(&text).path(), &defaults).unwrap();
        let found: Vec<_> = vms.iter().map(|vm| (vm.metadata.name.as_str(), vm.spec.cpus)).collect();
        assert_eq!(found, [("a", 2), ("b", 4)]);
        assert_eq!(read_vm_names(file(&text).path()).unwrap(), ["a", "b"]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let text = format!("{HEAD}metadata: {{name: a}}\n---\n{HEAD}spec:\n  memroy: 1GB\n");
        let file = file(&text);
        let error = format!("{:#}", read_vms(file.path(), &VmSpec::default()).unwrap_err());
        assert!(error.contains("line 8, column 3") && error.contains("did you mean `memory`?"), "{error}");
        let error = format!("{:#}", read_vm_names(file.path()).unwrap_err());
        assert!(error.contains("line 8, column 3"), "{error}");
    }

    #[test]
    fn rm_wants_vms_with_a_name_or_uid() {
        for (text, expected) in [
            (format!("{HEAD}metadata: {{name: n, uid: 0123456789abcdef}}\n"), Ok("0123456789abcdef")),
            (format!("{HEAD}spec: {{}}\n"), Err("API resource config must have Name or UID")),
            (HEAD.replace("VM", "Image"), Err("holds a Image, which is no VM")),
        ] {
            match (read_vm_names(file(&text).path()), expected) {
                (Ok(names), Ok(expected)) => assert_eq!(names, [expected]),
                (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }

    #[test]
    fn an_empty_manifest_is_an_error_and_a_huge_one_is_not_read() {
        let error = format!("{:#}", read_vms(file("# nothing\n").path(), &VmSpec::default()).unwrap_err());
        assert!(error.contains("no document"), "{error}");
        let huge = "#".repeat(MAX_INPUT_LEN + 10);
        assert!(read_vms(file(&huge).path(), &VmSpec::default()).is_err());
    }
}
