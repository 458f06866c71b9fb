//! Every end-to-end test: a table of names and functions, run by `ignite_e2e::runner`.

mod behaviour;

use ignite_e2e::Test;
use std::process::ExitCode;

/// Rows of the table, named by their path; `[REASON]` after a name says why it runs on QEMU only.
macro_rules! tests {
    ($($module:ident: $($test:ident $([$reason:expr])?)+;)+) => {
        &[$($(Test {
            name: concat!(stringify!($module), "::", stringify!($test)),
            run: || behaviour::$module::$test().into_report(),
            qemu_only: tests!(@reason $($reason)?),
        },)+)+]
    };
    (@reason) => { None };
    (@reason $reason:expr) => { Some($reason) };
}

const BY_QUEUE: &str = "a Pod's tap is handed over as an open queue, and Firecracker opens taps by name only";

/// Long ones first, so that none is left alone at the end. `x` boots n VMs where a line says so; most need none.
const TESTS: &[Test] = tests! {
    network:
        vms_and_a_container_of_one_bridge_reach_each_other_and_the_world
        the_same_with_the_iptables_of_old
        a_vm_is_in_two_networks_of_the_administrators_own;
    network_docker:
        a_vm_joins_the_containers_of_a_docker_engine;
    network_user:
        a_user_without_capabilities_publishes_ports_and_gets_out
        a_user_without_capabilities_has_a_tap_in_a_namespace_of_the_vms_own;
    pod:
        the_containers_of_a_pod_give_its_address_to_the_guest_and_keep_its_exit_code [BY_QUEUE];
    pod_image:
        a_pod_of_the_node_image_runs_its_vm_and_kubectl_exec_lands_in_the_guest [BY_QUEUE]
        the_operators_image_holds_all_it_needs;
    network_soak:
        cycles_of_start_stop_kill_and_crash_leave_nothing_and_give_no_address_twice;
    health:
        a_vm_becomes_healthy_and_unhealthy_when_its_file_goes_and_everyone_is_told;
    healing:
        a_dependent_waits_for_health_and_who_loses_it_is_started_again;
    ignited:
        what_is_pushed_runs_over_ssh_and_over_https
        only_signed_commits_are_taken
        a_directory_is_kept_by_whoever_comes_next
        a_manifest_of_weave_ignite_means_what_it_meant;
    gitops:
        a_webhook_with_the_right_secret_has_every_repository_looked_at
        killed_at_any_moment_it_goes_on_and_leaves_nothing_half_made;
    secrets:
        a_value_kept_outside_reaches_the_guest_and_nothing_else;
    stack:
        a_stack_from_git_starts_in_order_answers_and_heals
        five_hundred_manifests_survive_a_kill_and_then_nothing_is_written;
    machine:
        a_machine_keeps_its_files_and_ends_cleanly
        a_guest_that_powers_off_or_reboots_ends_as_documented;
    ssh:
        ssh_needs_no_network_and_knows_the_vm_by_the_key_it_was_given;
    crash:
        eight_vms_started_at_once_all_run
        nothing_is_left_when_the_cli_is_killed_during_run
        nothing_is_left_when_the_supervisor_is_killed_during_run
        nothing_is_left_when_the_vmm_is_killed_during_run
        a_killed_import_leaves_nothing_and_can_be_repeated
        killing_the_cli_of_a_running_task_leaves_the_task_running
        killing_the_supervisor_of_a_running_vm_is_told_by_ps
        killing_the_vmm_of_a_running_vm_is_told_by_ps
        killing_the_supervisor_or_the_vmm_during_a_stop_is_a_stop;
    restart:
        always_comes_back_after_its_vmm_or_its_supervisor_is_killed_until_it_is_stopped
        on_failure_gives_up_after_its_retries;
    limits:
        a_vmm_over_its_memory_or_its_threads_is_stopped_says_why_and_disturbs_nobody ["the threads are those of QEMU's disks; Firecracker's have none"]
        without_control_groups_a_vm_runs_and_says_so_and_a_strict_one_does_not;
    machine_options:
        what_cannot_be_given_is_refused_with_what_to_type_and_a_vm_goes_on_without_it;
    tasks:
        the_exit_code_of_the_command_is_that_of_run
        stdin_reaches_the_command_and_comes_back_exactly
        a_task_has_the_environment_user_directory_and_streams_asked_for
        the_entrypoint_can_be_replaced
        what_cannot_be_run_exits_as_in_docker
        a_terminal_is_a_real_one
        a_signal_to_run_reaches_the_command
        redis_serves_its_port_without_an_init
        cpus_memory_disk_and_network_are_those_asked_for
        a_private_root_disk_is_a_plain_ext4
        a_task_in_the_background_can_be_followed_attached_and_awaited
        a_stopped_task_keeps_its_files_and_starts_again
        a_task_that_ignores_sigterm_is_killed_in_time;
    events:
        a_life_is_told_from_create_to_destroy;
    pause:
        a_paused_vm_is_shown_refuses_what_needs_its_guest_and_goes_on_with_the_right_time;
    exec:
        the_exit_code_is_the_commands
        what_cannot_be_run_exits_as_in_docker
        streams_are_separate_and_binary_clean
        environment_user_and_directory_are_those_asked_for
        a_terminal_has_a_size_that_follows_and_ctrl_c
        many_at_once_do_not_mix
        some_megabytes_arrive_unchanged;
    copy:
        a_large_file_is_the_same_both_ways
        a_tree_keeps_its_modes_and_links_both_ways
        a_tar_stream_goes_both_ways
        what_cannot_be_copied_is_explained_and_leaves_nothing;
    manifests:
        manifests_of_every_version_run_and_are_inspected_back
        a_bad_manifest_is_refused_with_its_line_by_every_command;
    weave:
        every_line_with_a_vm_does_what_it_did
        every_line_without_a_boot_does_what_it_did
        every_command_and_flag_of_the_list_is_typed;
    layers:
        the_guests_tree_is_what_umoci_unpacks;
    kernels:
        a_kernel_of_every_wrapping_boots
        a_kernel_that_is_too_bare_is_refused_before_boot
        an_initrd_of_ones_own_comes_before_ours;
    sources:
        every_source_of_an_image_gives_the_same_base_disk
        four_processes_fetch_each_blob_once
        a_mirror_is_asked_first_and_the_registry_when_it_is_down
        a_flipped_bit_is_found_and_archives_carry_several_images
        the_platform_that_is_asked_for_is_imported_and_a_foreign_one_is_not_run
        an_archive_is_loaded_however_it_is_packed_and_wherever_it_is;
    killed_imports:
        an_import_killed_ten_times_goes_on_with_what_was_verified;
    login:
        a_password_is_tried_kept_for_pulls_and_forgotten
        a_registry_with_a_token_server_is_logged_in_to;
    full_disk:
        an_import_that_fills_the_disk_says_so_and_leaves_the_store_as_it_was;
    registry:
        an_image_of_a_registry_runs
        a_password_is_taken_from_docker_config
        a_cut_download_is_resumed
        a_moving_tag_is_seen
        a_vm_keeps_its_base_when_the_tag_moves
        a_registry_that_lies_about_content_is_refused
        a_pull_that_is_stopped_leaves_nothing;
    volumes:
        a_disk_is_made_outlives_its_vm_and_has_one_writer
        disks_are_as_slow_as_they_are_told_to_be;
    change:
        stats_agree_with_the_guest_and_what_runs_is_updated_and_renamed;
    objects:
        a_created_vm_is_listed_inspected_and_removed
        a_name_is_given_once
        ps_lists_what_runs_unless_asked_for_all
        an_image_in_use_is_not_removed
        prune_removes_what_no_vm_uses
        a_kernel_in_use_is_not_removed
        images_come_from_archives_and_standard_input
        a_host_without_a_kernel_is_told_what_to_type;
    prompt:
        bash_zsh_and_fish_offer_the_vms_that_a_command_makes_sense_for
        colours_are_for_terminals;
    commands:
        wrong_input_is_explained_with_a_hint
        usage_errors_of_run_exit_with_125
        help_and_version_are_on_standard_output
        doctor_says_what_this_host_can_do
        a_hostile_archive_is_refused_and_leaves_nothing
        units_are_what_systemd_understands;
};

/// A test either panics, or gives nothing, or the reason why it could not be tried.
trait IntoReport {
    fn into_report(self) -> ignite_e2e::Report;
}

impl IntoReport for () {
    fn into_report(self) -> ignite_e2e::Report {
        Ok(())
    }
}

impl IntoReport for ignite_e2e::Report {
    fn into_report(self) -> ignite_e2e::Report {
        self
    }
}

fn main() -> ExitCode {
    ignite_e2e::runner::main(TESTS, behaviour::exec::end_shared_vm)
}
