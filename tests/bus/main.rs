//! The bus tier: the built poold as a child on a private bus with the real polkitd, driven as anybody would drive it.
//!
//! `cargo test --test bus -- WORD` runs the cases that have the word in `area::name`. Needs root.

// A lock that is poisoned, a path that is no text: in a test these are failures like any other.
#![allow(clippy::unwrap_used)]

mod access;
mod blocked;
mod disk;
mod documents;
mod faults;
mod formats;
mod fs;
mod gluster;
mod hostile;
mod iscsi_direct;
mod kill9;
mod life;
mod live;
mod many;
mod matrix;
mod netfs;
mod planted;
mod poolctl;
mod rbd;
mod secrets;
mod sheepdog;
#[path = "../support/mod.rs"]
mod support;
mod vstorage;
mod wipe;

use std::process::ExitCode;
use support::{caller, runner};

/// What takes longest comes first, as areas run side by side.
const CASES: &[runner::Case] = cases![
    faults::{
        is_killed_at_each_step_of_a_creation,
        is_killed_at_each_step_of_a_copy,
        is_killed_at_each_step_of_an_overwriting,
        a_call_fails_at_each_step_of_a_creation,
        a_call_fails_at_each_step_of_a_copy,
        a_call_fails_at_each_step_of_an_overwriting,
        is_cancelled_at_each_step,
        it_ends_while_qemu_img_works,
        the_disk_is_full,
        the_disk_fails,
        the_client_goes,
    },
    formats::{
        every_format_is_what_the_document_says,
        a_machine_opens_every_volume,
    },
    matrix::{
        dead_servers_cost_their_own_pools_alone,
    },
    kill9::{
        define,
        redefine,
        undefine,
        set_autostart,
        clear_autostart,
        build,
        start,
        stop,
        create_raw,
        create_allocated_raw,
        create_qcow2,
        resize_raw,
        resize_qcow2,
        delete_volume,
        delete_pool,
    },
    rbd::{
        images_serve_from_definition_to_end,
        what_is_wrong_with_a_cluster_is_told_apart,
        one_odd_image_is_one_odd_image,
        a_monitor_is_reached_by_the_old_messenger_and_by_ipv6,
        snapshots_go_with_their_image_when_that_is_asked_for,
        clones_of_an_old_cluster_hold_their_snapshot,
        images_are_thick_or_begin_as_others_are,
        of_many_images_all_are_read_however_long_that_takes,
        a_copy_that_dies_half_way_leaves_no_image,
    },
    many::{
        two_hundred_clients_at_once,
        a_caller_with_too_many_calls_is_told,
        ten_thousand_files_are_all_listed,
    },
    gluster::{
        files_serve_from_definition_to_end,
        a_server_that_is_gone_holds_up_nobody_and_comes_back,
        a_server_that_is_frozen_holds_up_nobody_and_is_stopped_by_force,
        the_client_outlives_the_service_and_is_started_again,
        on_a_volume_that_trusts_no_root_all_is_done_as_who_owns_the_volumes,
        volumes_of_a_server_are_found_and_mounted_as_shares,
    },
    planted::{
        nothing_that_an_image_names_is_opened,
    },
    life::{
        the_first_call_to_the_name_starts_poold,
        a_service_that_is_killed_comes_back_with_everything,
        the_first_connection_to_the_socket_starts_poold,
        pools_marked_autostart_start_once_per_boot,
        an_autostart_that_fails_is_tried_again,
        a_damaged_definition_is_reported_and_left_alone,
    },
    documents::{
        introspection_says_what_the_documents_say,
        busctl_walks_the_tree,
        every_property_answers_with_its_type,
    },
    access::{
        nobody_may_read_and_do_nothing_else,
        a_rule_grants_what_it_names_and_no_more,
        with_all_granted_no_method_is_refused,
        an_agent_that_says_yes_is_asked_once_and_by_name,
        an_agent_that_cancels_changes_nothing,
        a_caller_who_forbids_questions_is_not_asked,
        a_caller_who_leaves_takes_the_question_along,
        a_frozen_polkitd_holds_up_nobody_but_who_asked,
        without_polkitd_only_root_may_change_things,
        the_job_of_another_is_not_ours_to_cancel,
    },
    live::{
        signals_come_before_the_reply,
        a_dropped_file_is_announced_without_a_refresh,
        a_refresh_runs_beside_a_job,
        a_cancelled_job_leaves_nothing,
        of_two_callers_one_wins,
        a_link_in_the_place_of_the_directory_is_not_followed,
        a_directory_removed_or_replaced_is_noticed,
        a_mount_over_the_directory_is_noticed,
        changes_that_come_in_a_burst_are_all_seen,
    },
    blocked::{
        a_pool_that_hangs_is_alone_with_it,
    },
    hostile::{
        wrong_signatures_are_refused,
        odd_documents_are_refused,
        odd_names_are_refused,
        unknown_options_and_objects_are_named,
        system_directories_are_no_targets,
    },
    wipe::{
        every_algorithm_wipes_and_says_what_it_did,
        a_wiped_qcow2_image_is_an_empty_one,
        new_volumes_are_as_their_pool_says,
    },
    poolctl::{
        data_goes_in_and_out,
        volumes_are_copied_within_and_across_pools,
        secrets_are_kept_and_shown_nowhere,
        what_a_machine_uses_is_left_alone,
        an_interrupt_cancels_an_upload,
    },
    fs::{
        what_is_mounted_here_serves_from_definition_to_end,
        data_of_every_kind_is_not_overwritten,
        a_device_in_use_is_never_built_on,
        what_cannot_be_says_why,
        only_its_own_device_is_adopted_and_left,
        who_uses_it_keeps_it_unless_forced,
        an_unmount_behind_our_back_is_seen,
        what_a_mount_hides_is_told,
        a_disk_that_appears_late_is_started_when_it_does,
        a_device_that_can_only_be_read_says_so,
        a_start_that_dies_half_way_leaves_no_mount,
        an_unmount_that_hangs_is_under_way_until_it_ends,
    },
    secrets::{
        a_passphrase_is_seen_nowhere_while_it_is_used,
        only_an_ephemeral_secret_stays_in_memory,
        libvirts_documents_are_taken_in_and_given_back,
        a_crash_leaves_no_core,
    },
    disk::{
        dos,
        gpt,
        mac,
        bsd,
        pc98,
        sun,
        dvh,
        logical_partitions_are_renumbered_when_nobody_minds,
        a_disk_in_use_gets_new_volumes_and_no_new_table,
        what_others_do_to_the_table_is_seen,
        an_encrypted_partition_keeps_its_lock,
    },
    netfs::{
        exports_of_a_server_are_found,
        a_server_that_is_dead_is_given_up_and_holds_up_nobody,
        a_kernel_without_the_file_system_says_so_and_nothing_is_left,
        a_pool_that_is_started_at_boot_waits_for_its_server,
        the_password_of_a_share_is_seen_nowhere_while_it_is_mounted_in_vain,
    },
    iscsi_direct::{
        units_serve_without_the_kernel,
        targets_are_found_and_refusals_told_apart,
        a_portal_may_ask_for_a_password_before_it_tells_of_targets,
    },
    sheepdog::{
        images_serve_from_definition_to_end,
        a_cluster_that_is_gone_is_inaccessible_and_comes_back,
        a_dead_cluster_says_what_the_page_of_dead_servers_says,
    },
    vstorage::{
        a_cluster_serves_files_from_definition_to_end,
        what_is_wrong_with_a_cluster_says_so,
        a_cluster_that_does_not_answer_is_waited_for,
        ploop_volumes_are_directories_with_an_image,
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == caller::ARGUMENT) {
        return match caller::main(&arguments[1..]) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("caller: {error:#}");
                ExitCode::FAILURE
            }
        };
    }
    runner::main("bus", CASES)
}
