//! Files of `deploy/`, and the programs that read them.

use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The directory that is installed from.
pub const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy");
/// The chart.
pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/helm/ignite");

/// `helm`, `kubectl` and the linter.
pub struct Tools(PathBuf);

impl Tools {
    /// Where the environment says; a test that gets none has said that it is skipped.
    #[expect(clippy::print_stdout, reason = "a skipped test says why")]
    pub fn of_environment() -> Option<Tools> {
        let given = std::env::var_os("IGNITE_TEST_KUBERNETES_TOOLS").filter(|dir| !dir.is_empty());
        if given.is_none() {
            println!("skipped: no helm and no linter: scripts/fetch-kubernetes-tools fetches them");
        }
        given.map(|dir| Tools(dir.into()))
    }

    /// What a tool answers, or what it complains of.
    pub fn call(&self, name: &str, arguments: &[&str], stdin: &str) -> Result<String, String> {
        let home = tempfile::tempdir().expect("a directory");
        let mut command = Command::new(self.0.join(name));
        // No cluster of the user's, and no configuration.
        command.args(arguments).env("HOME", home.path()).env("KUBECONFIG", "/dev/null");
        command.env_remove("XDG_CONFIG_HOME").env_remove("XDG_CACHE_HOME").env_remove("XDG_DATA_HOME");
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        child.stdin.take().expect("a pipe").write_all(stdin.as_bytes()).ok();
        let output = child.wait_with_output().expect("it ends");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(format!("{}{}", text(&output.stdout), text(&output.stderr))),
        }
    }

    /// The objects of a directory with a kustomization.
    pub fn kustomize(&self, directory: &str) -> Vec<Value> {
        documents(&self.call("kubectl", &["kustomize", &format!("{DEPLOY}/{directory}")], "").expect(directory))
    }

    /// The objects of the chart with these values, `KEY=VALUE`.
    pub fn chart(&self, values: &[&str]) -> Result<Vec<Value>, String> {
        let mut arguments = vec!["template", "ignite", CHART, "--namespace=ignite-system"];
        arguments.extend(values.iter().flat_map(|value| ["--set", value]));
        self.call("helm", &arguments, "").map(|text| documents(&text))
    }

    /// Holds objects against Kubernetes' schemas of each of `versions`, fields that do not exist refused.
    pub fn lint(&self, what: &str, objects: &[Value], versions: &[&str]) {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("objects.yaml");
        let text: Vec<String> = objects.iter().map(Value::to_string).collect();
        std::fs::write(&file, text.join("\n---\n")).expect("a file");
        for version in versions {
            let arguments = ["--strict", "-k", version, file.to_str().expect("a path")];
            let said = self.call("kubernetes-validate", &arguments, "");
            let said = said.unwrap_or_else(|why| panic!("{what}, Kubernetes {version}: {why}"));
            let passed = said.lines().filter(|line| line.contains("passed for resource")).count();
            assert_eq!(passed, objects.len(), "{what}, Kubernetes {version}: {said}");
        }
    }
}

/// The documents of a YAML file.
pub fn documents(text: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    all.into_iter().filter(|one| !one.is_null()).collect()
}

/// Every file of `deploy/` whose name ends so.
pub fn files(ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![PathBuf::from(DEPLOY)];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => directories.push(path),
                false if path.to_string_lossy().ends_with(ending) => found.push(path),
                false => {}
            }
        }
    }
    found.sort();
    found
}

/// A file's content.
pub fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path.as_ref()).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

/// The object of this kind whose name ends so.
pub fn object<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let is_it = |one: &&Value| {
        one["kind"] == kind && one["metadata"]["name"].as_str().is_some_and(|found| found.ends_with(name))
    };
    objects.iter().find(is_it).unwrap_or_else(|| panic!("there is no {kind} {name}"))
}

/// A list of texts.
pub fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|one| one.as_str().expect("a text").to_owned()).collect()
}
