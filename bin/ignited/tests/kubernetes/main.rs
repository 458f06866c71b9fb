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
mod deploy;
mod fake;
mod operator_leads;
mod operator_process;
mod operator_sets;
mod operator_vms;
mod operator_watch;
mod place;
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
            Box::new(|cluster: &Cluster| cluster.block_on($module::$test(cluster)).into_report()) as Run,
        ),)+)+]
    };
}

const NO_SERVER: &str =
    "no API server: scripts/fetch-kube-apiserver builds one, or IGNITE_TEST_KUBECONFIG names a cluster for tests";

/// What a test says when it could not be done here: the reason, printed beside its name.
type Report = Result<(), String>;

type Run = Box<dyn Fn(&Cluster) -> Report + Send>;

/// Most tests can be done wherever there is a cluster.
trait IntoReport {
    fn into_report(self) -> Report;
}

impl IntoReport for () {
    fn into_report(self) -> Report {
        Ok(())
    }
}

impl IntoReport for Report {
    fn into_report(self) -> Report {
        self
    }
}

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
        deploy:
            what_is_applied_twice_is_changed_once
            helm_installs_upgrades_and_removes_the_chart
            the_operators_rights_are_those_it_uses
            owners_are_kept_by_right;
        pods:
            what_is_rendered_is_taken_by_the_server_and_kept;
        fake:
            it_answers_as_the_real_server;
        operator_vms:
            a_vm_becomes_a_pod_and_tells_of_it
            a_changed_spec_takes_a_new_pod_when_the_old_one_has_gone
            a_pod_deleted_under_its_vm_is_made_again
            a_vm_that_is_not_to_run_is_stopped_and_started_again
            a_silent_node_gets_no_second_guest_beside_it
            a_silent_node_is_given_up_where_that_is_asked_for
            a_pod_of_another_with_its_name_is_left_alone
            a_deleted_vm_waits_for_its_guest
            what_is_no_vm_says_why
            what_does_not_change_is_not_written
            what_a_quota_refuses_is_said_and_not_asked_for_in_a_loop;
        operator_sets:
            a_set_follows_its_scale
            a_new_template_rolls_through_the_set
            stand_ins_keep_the_set_ready_while_it_rolls;
        operator_leads:
            of_two_operators_one_works_and_the_other_takes_over
            who_loses_the_lease_ends
            an_operator_killed_half_way_leaves_nothing_behind
            two_operators_without_a_lease_make_nothing_twice;
        operator_watch:
            what_the_server_has_forgotten_is_found_by_a_new_list
            a_server_that_is_away_ends_only_who_holds_the_lease;
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
            Ok(Some(cluster)) => Ok(match run(&cluster) {
                Ok(()) => Completion::Completed,
                Err(reason) => Completion::ignored_with(reason),
            }),
            Ok(None) => Ok(Completion::ignored_with(NO_SERVER)),
            Err(why) => Err(why.into()),
        })
    };
    let conclusion = libtest_mimic::run(&arguments, tests.into_iter().map(trial).collect());
    conclusion.exit_code()
}
