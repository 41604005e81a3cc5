//! The way down, phase by phase, without going there.

use anyhow::bail;

use super::*;
use crate::console::Console;

#[test]
fn the_disks_are_let_go_when_nothing_runs_any_more() {
    let plan = plan(&End::Reboot, Road::Orderly);
    let at = |phase| plan.iter().position(|other| *other == phase).unwrap();
    assert_eq!(plan[0], Phase::Services);
    assert!(at(Phase::Kill) < at(Phase::Sync));
    assert!(at(Phase::Record) < at(Phase::Data));
    assert_eq!(plan.last(), Some(&Phase::LastWord));
    assert!(!plan.contains(&Phase::Reset));
}

#[test]
fn a_fatal_error_takes_the_same_road_but_its_first_step() {
    let orderly = plan(&End::Reboot, Road::Orderly);
    let fatal = plan(&End::Reboot, Road::Fatal);
    assert_eq!(fatal[0], Phase::Terminate);
    assert_eq!(fatal[1..], orderly[1..]);
}

#[test]
fn a_phase_that_fails_keeps_none_of_the_others_from_being_done() {
    let console = Console::silent();
    let mut phases = Phases::new(&console);
    let plan = plan(&End::PowerOff, Road::Orderly);
    let mut done = Vec::new();
    walk(&plan, &mut phases, |phase, so_far| {
        assert_eq!(so_far.len(), done.len());
        done.push(phase);
        if phase == Phase::Sync {
            bail!("the disk is gone");
        }
        Ok(())
    });
    assert_eq!(done, plan);
    let records = phases.finish();
    assert_eq!(records[2].name, "sync");
    assert_eq!(records[2].error, "the disk is gone");
}

#[test]
fn only_the_first_request_counts_and_only_kills_after_it() {
    let requests = Requests::new(Newsroom::default());
    requests.killed("early", "before");
    assert!(!requests.is_requested());
    assert!(requests.request(End::Reboot, Reason::operator("api", "asked for")));
    assert!(!requests.request(End::PowerOff, Reason::fatal("late")));
    requests.killed("stubborn", "not gone within 5 s");
    requests.killed("stubborn", "still there");
    let killed = requests.all_killed();
    assert_eq!(killed.len(), 1);
    assert_eq!(killed[0].reason, "not gone within 5 s");
}
