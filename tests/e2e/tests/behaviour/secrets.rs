//! Values that manifests only name.

use ignite_e2e::Host;
use ignite_e2e::images::busybox;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const SECRET: &str = "Tr0ub4dor";

/// Files below a directory that have the text in them.
fn with_text(dir: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_small_file = entry.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() < 1 << 20);
        if path.is_dir() {
            found.extend(with_text(&path, text));
        } else if is_small_file && fs::read(&path).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(text)) {
            found.push(path.display().to_string());
        }
    }
    found
}

fn is_private(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 == 0)
}

pub fn a_value_kept_outside_reaches_the_guest_and_nothing_else() {
    let host = Host::new();
    let manifest = host.file(
        "app.yaml",
        format!(
            "apiVersion: ignite.weave.works/v1alpha4\nkind: VM\nmetadata: {{name: app}}\nspec:\n  image: {{oci: \"{}\"}}\n  \
             memory: 128MB\n  diskSize: 64MB\n  network: {{mode: none}}\n  args: [sh, -c, 'echo \"$PASSWORD\" >/seen; exec sleep 10000']\n  \
             env: [{{name: PASSWORD, valueFrom: {{file: db/password}}}}]\n  \
             files:\n  - {{path: /etc/app.key, valueFrom: {{file: db/password}}}}\n  - {{path: /etc/app.conf, content: \"a=1\"}}\n",
            busybox()
        ),
    );
    let secret = host.file("secrets/db/password", format!("{SECRET}\n"));
    let secrets = host.path("secrets");
    let does = |words: &[&str]| {
        let call = host.ignite(words.iter().copied()).env("IGNITE_SECRETS_DIR", &secrets);
        call.args([manifest.as_path()]).finish()
    };
    let mode = |bits| fs::set_permissions(&secret, Permissions::from_mode(bits)).expect("mode");
    mode(0o640);
    let refused = does(&["apply", "-f"]);
    assert_ne!(refused.code, 0);
    let said = format!("{}{}", refused.text(), refused.errors());
    assert!(said.contains("mode 0640") && said.contains("chmod 600") && !said.contains(SECRET), "{said}");
    mode(0o600);
    does(&["apply", "-f"]).succeeds();
    let guest = |words: &[&str]| {
        let call = host.ignite(["exec", "app"]).env("IGNITE_SECRETS_DIR", &secrets).args(words.iter().copied());
        call.finish().succeeds().text()
    };
    assert_eq!(guest(&["cat", "/etc/app.key"]), format!("{SECRET}\n"));
    assert_eq!(guest(&["stat", "-c", "%a %u", "/etc/app.key", "/etc/app.conf"]), "600 0\n644 0\n");
    assert_eq!(guest(&["sh", "-c", "cat /seen; echo $PASSWORD"]), format!("{SECRET}\n{SECRET}\n"));
    // What a supervisor is told lies in the run directory, for its user alone, while the VM lives.
    let held: Vec<_> =
        with_text(&host.path(""), SECRET).into_iter().filter(|path| !path.ends_with("db/password")).collect();
    assert!(held.iter().all(|path| path.ends_with("/launch.json") && is_private(Path::new(path))), "{held:?}");
    let inspected = host.does(["inspect", "app"]).succeeds().text();
    assert!(inspected.contains("db/password") && !inspected.contains(SECRET), "{inspected}");

    does(&["diff", "-f"]).exits(0);
    fs::write(&secret, "another\n").expect("file");
    let told = does(&["diff", "-f"]);
    told.exits(1);
    let told = told.text();
    assert!(told.contains("restarted, its disk stays") && told.contains("db/password"), "{told}");
    assert!(!told.contains("another"), "{told}");
    does(&["apply", "-f"]).succeeds();
    assert_eq!(guest(&["sh", "-c", "cat /seen; echo $PASSWORD"]), "another\nanother\n");
    host.ignite(["rm", "-f", "app"]).finish().succeeds();
}
