//! Manifests as users have them: what they are read as, and what is said about those that cannot be.
//!
//! `manifests/good/X` is read as the objects in `good/X.golden.json`; `bad/X` cannot be decoded, for the reason in
//! `bad/X.golden`; `invalid/X` can, and is refused by validation. `UPDATE_GOLDEN=1` writes the golden files.

use ignite_api::codec::{self, Object};
use ignite_api::{API_VERSION, Vm, VmSpec, validation};
use proptest::prelude::*;
use std::path::{Path, PathBuf};

fn manifests(folder: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifests").join(folder);
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = entries.filter(|path| !path.to_string_lossy().contains(".golden")).collect();
    paths.sort();
    assert!(!paths.is_empty());
    paths
}

fn assert_golden(manifest: &Path, suffix: &str, found: &str) {
    let golden = PathBuf::from(format!("{}.{suffix}", manifest.display()));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, found).unwrap();
    }
    let expected = std::fs::read_to_string(&golden).unwrap_or_default();
    assert_eq!(found, expected, "{} (UPDATE_GOLDEN=1 accepts what is found)", golden.display());
}

fn json_of(object: &Object) -> String {
    match object {
        Object::Vm(vm) => codec::encode_json(vm.as_ref()),
        Object::Image(image) => codec::encode_json(image.as_ref()),
        Object::Kernel(kernel) => codec::encode_json(kernel.as_ref()),
        Object::Configuration(configuration) => codec::encode_json(configuration.as_ref()),
    }
    .unwrap()
}

fn yaml_of(object: &Object) -> String {
    match object {
        Object::Vm(vm) => codec::encode_yaml(vm.as_ref()),
        Object::Image(image) => codec::encode_yaml(image.as_ref()),
        Object::Kernel(kernel) => codec::encode_yaml(kernel.as_ref()),
        Object::Configuration(configuration) => codec::encode_yaml(configuration.as_ref()),
    }
    .unwrap()
}

#[test]
fn good_manifests_are_read_and_written_as_v1alpha4() {
    for path in manifests("good") {
        let objects =
            codec::decode(&std::fs::read(&path).unwrap()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_golden(&path, "golden.json", &objects.iter().map(json_of).collect::<String>());
        for object in &objects {
            for text in [json_of(object), yaml_of(object)] {
                assert!(text.contains(API_VERSION) && text.ends_with('\n'));
                assert_eq!(codec::decode(text.as_bytes()).expect(&text), std::slice::from_ref(object), "{text}");
            }
            if let Object::Vm(vm) = object {
                // The store reads what it wrote without the codec.
                assert_eq!(serde_json::from_str::<Vm>(&json_of(object)).unwrap(), **vm);
            }
            assert!(!object.kind().is_empty() && object.metadata().name != "-");
        }
    }
}

#[test]
fn bad_manifests_are_refused_with_place_field_and_reason() {
    for path in manifests("bad") {
        let error = codec::decode(&std::fs::read(&path).unwrap()).expect_err(&path.display().to_string());
        let text = error.to_string();
        assert!(text.chars().count() < 1200 && !text.chars().any(char::is_control), "{text:?}");
        assert_golden(&path, "golden", &format!("{text}\n"));
    }
}

#[test]
fn invalid_manifests_are_refused_with_every_field_error() {
    for path in manifests("invalid") {
        let objects =
            codec::decode(&std::fs::read(&path).unwrap()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let outcome = match &objects[..] {
            [Object::Vm(vm)] => validation::validate_vm(vm),
            [Object::Configuration(configuration)] => validation::validate_configuration(configuration),
            _ => panic!("one VM or Configuration is expected in {}", path.display()),
        };
        let errors = outcome.expect_err(&path.display().to_string());
        let text: String = errors.0.iter().map(|error| format!("{error}\n")).collect();
        assert!(!text.replace('\n', "").chars().any(char::is_control), "{text:?}");
        assert_golden(&path, "golden", &text);
    }
}

#[test]
fn good_manifests_with_name_and_image_are_valid() {
    for path in manifests("good") {
        for object in codec::decode(&std::fs::read(&path).unwrap()).unwrap() {
            match object {
                Object::Vm(mut vm) => {
                    if vm.metadata.name.is_empty() {
                        vm.metadata.name = "given".to_owned();
                    }
                    validation::validate_vm(&vm).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                }
                Object::Configuration(configuration) => {
                    validation::validate_configuration(&configuration)
                        .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                }
                Object::Image(_) | Object::Kernel(_) => {}
            }
        }
    }
}

#[test]
fn several_errors_are_one_line_in_brackets() {
    let vm = Vm::new(ignite_api::ObjectMeta::default(), VmSpec { cpus: 0, ..VmSpec::default() });
    assert_eq!(
        validation::validate_vm(&vm).unwrap_err().to_string(),
        "[metadata.name: Required value: a VM has a name, spec.image.oci: Required value: an image to run, \
         spec.cpus: Invalid value: 0: must be between 1 and 32]"
    );
}

#[test]
fn one_object_means_one() {
    let vm = "apiVersion: ignite.weave.works/v1alpha4\nkind: VM\n";
    let configuration = vm.replace("VM", "Configuration");
    for (text, expected) in [
        ("", "it holds no object: apiVersion and kind are expected"),
        ("# nothing\n---\n", "it holds no object: apiVersion and kind are expected"),
        (&format!("{vm}---\n{vm}"), "line 3, column 1: one object is expected, and here a second one begins"),
        (&configuration, "line 1, column 1: kind: a VM is expected, this is a Configuration"),
    ] {
        assert_eq!(codec::decode_vm(text.as_bytes()).unwrap_err().to_string(), expected);
    }
    assert!(codec::decode_vm(vm.as_bytes()).is_ok());
    assert!(codec::decode_configuration(configuration.as_bytes()).is_ok());
    assert!(codec::decode_configuration(vm.as_bytes()).is_err());
}

#[test]
fn a_stored_vm_keeps_the_shape_old_readers_expect() {
    let vm = codec::decode_vm(b"apiVersion: ignite.weave.works/v1alpha4\nkind: VM\n").unwrap();
    let json: serde_json::Value = serde_json::from_str(&codec::encode_json(&vm).unwrap()).unwrap();
    let empty = serde_json::json!({});
    assert_eq!((&json["spec"]["network"], &json["spec"]["storage"]), (&empty, &empty));
    assert_eq!(json["status"]["running"], false);
    assert_eq!(json["spec"]["memory"], "512MB");
    assert_eq!(json["spec"]["diskSize"], "4GB");
    assert_eq!(json["spec"]["cpus"], 1);
}

proptest! {
    #[test]
    fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = codec::decode(&bytes);
    }

    #[test]
    fn mangled_manifests_never_panic_and_their_errors_are_one_line(
        index: proptest::sample::Index, at: proptest::sample::Index, garbage in "\\PC{0,6}|[\\[\\]{}:,&*!|>'\"%@`#\\n\\t -]{0,6}"
    ) {
        let paths = manifests("good");
        let mut text = std::fs::read_to_string(&paths[index.index(paths.len())]).unwrap();
        let mut position = at.index(text.len());
        while !text.is_char_boundary(position) {
            position -= 1;
        }
        text.insert_str(position, &garbage);
        match codec::decode(text.as_bytes()) {
            Ok(objects) => for object in objects {
                if let Object::Vm(vm) = object {
                    let _ = validation::validate_vm(&vm);
                }
            },
            Err(error) => prop_assert!(!error.to_string().chars().any(char::is_control), "{error:?}"),
        }
    }

    #[test]
    fn every_text_reads_back_from_yaml_and_json(texts in proptest::collection::vec("\\PC{0,20}|yes|null|~|0123|1e3|- a|a: b|#x| a |\\n|a\\nb\\n", 1..4)) {
        let spec = VmSpec { args: Some(texts), ..VmSpec::default() };
        let vm = Vm::new(ignite_api::ObjectMeta { name: "a".to_owned(), ..Default::default() }, spec);
        for text in [codec::encode_json(&vm).unwrap(), codec::encode_yaml(&vm).unwrap()] {
            prop_assert_eq!(&codec::decode_vm(text.as_bytes()).expect(&text), &vm, "{}", text);
        }
    }
}

/// Every field a VM has and Weave Ignite's v1alpha4 had not is explained in COMPATIBILITY.md.
#[test]
fn every_field_of_ours_is_documented() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../COMPATIBILITY.md");
    let page = std::fs::read_to_string(page).unwrap();
    for (section, theirs) in [
        ("spec", "image kernel sandbox cpus memory diskSize network storage copyFiles ssh"),
        ("status", "running runtime startTime network image kernel idPrefix"),
        ("spec.network", "ports"),
    ] {
        let unknown =
            section.split('.').rev().fold("{unheardOf: 1}".to_owned(), |inner, name| format!("{{{name}: {inner}}}"));
        let fields = &unknown[1..unknown.len() - 1];
        let manifest = format!("apiVersion: {API_VERSION}\nkind: VM\n{fields}\n");
        let codec::DecodeProblem::UnknownField { known, .. } = codec::decode(manifest.as_bytes()).unwrap_err().problem
        else {
            panic!("{manifest}");
        };
        for field in known.iter().filter(|field| !theirs.split(' ').any(|name| name == **field)) {
            assert!(page.contains(&format!("| `{section}.{field}` |")), "{section}.{field} is not in COMPATIBILITY.md");
        }
    }
}
