//! The operator and its custom resources against a real API server, from outside: `kubectl`, the API, `ignited operator`.
//!
//! ```text
//!  IGNITE_TEST_KUBECONFIG=FILE        a cluster for tests: it gets the custom resources, and namespaces that are removed
//!  IGNITE_TEST_KUBE_APISERVER=FILE    this server with an etcd, on loopback   (scripts/fetch-kube-apiserver builds one)
//! ```
//!
//! With neither, every test is skipped and says so. There is no kubelet and no scheduler: tests play them.

mod cluster;
mod crds;
mod pods;
mod rest;
mod server;

use cluster::Cluster;
use libtest_mimic::{Arguments, Completion, Trial};
use std::process::ExitCode;
use std::sync::Arc;

/// Rows of the table, named by their path.
macro_rules! tests {
    ($($module:ident: $($test:ident)+;)+) => {
        vec![$($((
            concat!(stringify!($module), "::", stringify!($test)),
            Box::new(|cluster: &Cluster| cluster.block_on($module::$test(cluster))) as Run,
        ),)+)+]
    };
}

const NO_SERVER: &str =
    "no API server: scripts/fetch-kube-apiserver builds one, or IGNITE_TEST_KUBECONFIG names a cluster for tests";

type Run = Box<dyn Fn(&Cluster) + Send>;

fn tests() -> Vec<(&'static str, Run)> {
    tests! {
        crds:
            the_schemas_are_structural_and_established
            what_is_left_out_gets_its_default
            what_cannot_be_a_vm_is_refused_with_its_field
            kubectl_refuses_a_field_that_does_not_exist
            the_columns_are_those_of_kubectl_get
            the_status_is_a_subresource_of_its_own
            a_set_is_scaled_like_a_deployment;
        pods:
            what_is_rendered_is_taken_by_the_server_and_kept;
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let tests = tests();
    let is_wanted = |name: &str| !arguments.is_filtered_out(&Trial::test(name, || Ok(())));
    let cluster = if arguments.list || !tests.iter().any(|(name, _)| is_wanted(name)) {
        Ok(None)
    } else {
        Cluster::of_environment().map(|cluster| cluster.map(Arc::new))
    };
    let trial = |(name, run): (&'static str, Run)| {
        let cluster = cluster.clone();
        Trial::ignorable_test(name, move || match cluster {
            Ok(Some(cluster)) => {
                run(&cluster);
                Ok(Completion::Completed)
            }
            Ok(None) => Ok(Completion::ignored_with(NO_SERVER)),
            Err(why) => Err(why.into()),
        })
    };
    let conclusion = libtest_mimic::run(&arguments, tests.into_iter().map(trial).collect());
    conclusion.exit_code()
}
