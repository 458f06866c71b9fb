//! What is installed into a cluster, `deploy/`, without a cluster: types, a linter, Helm, and the program's own flags.
//!
//! `IGNITE_TEST_KUBERNETES_TOOLS=DIR` names a directory with `helm`, `kubectl` and `kubernetes-validate`
//! (`scripts/fetch-kubernetes-tools` makes one); what needs them is skipped without, and says so.

mod chart;
mod manifests;
mod tools;
