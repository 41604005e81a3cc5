//! Walks through the diagram, and a long random walk that must never leave it.

use std::time::Duration;

use super::*;

fn machine(policy: RestartPolicy, kind: ReadinessKind) -> Lifecycle {
    Lifecycle::new(
        Restart {
            policy,
            delay: Duration::from_millis(200),
            max_delay: Duration::from_secs(1),
            start_limit: 3,
            start_window: Duration::from_secs(60),
        },
        Readiness {
            kind,
            timeout: Duration::from_secs(5),
        },
        Stop {
            signal: 15,
            timeout: Duration::from_secs(2),
        },
        false,
    )
}

fn exited(code: i32) -> Event {
    Event::Ended(Ending {
        reason: format!("exited with code {code}"),
        code: Some(code),
    })
}

fn started() -> Lifecycle {
    let mut life = machine(RestartPolicy::Always, ReadinessKind::Notify);
    life.step(Event::Start, 0);
    assert_eq!(
        life.step(Event::DependenciesReady, 0),
        [Action::Spawn, Action::ArmTimer(5000)]
    );
    life
}

#[test]
fn a_service_becomes_ready_when_it_says_so() {
    let mut life = started();
    life.step(Event::Executing, 1);
    assert_eq!(life.state(), State::Starting);
    assert_eq!(life.step(Event::Notified, 2), [Action::DisarmTimer]);
    assert_eq!(life.state(), State::Ready);
}

#[test]
fn without_a_sign_it_is_ready_when_it_runs() {
    let mut life = machine(RestartPolicy::Always, ReadinessKind::None);
    life.step(Event::Start, 0);
    life.step(Event::DependenciesReady, 0);
    life.step(Event::Executing, 1);
    assert_eq!(life.state(), State::Ready);
}

#[test]
fn crashes_are_delayed_in_steps_and_then_final() {
    let mut life = started();
    assert_eq!(life.step(exited(3), 1), [Action::ArmTimer(200)]);
    assert_eq!(
        (life.state(), life.reason()),
        (State::Backoff, "exited with code 3")
    );
    life.step(Event::Timer, 201);
    life.step(Event::DependenciesReady, 201);
    assert_eq!(life.step(exited(3), 202), [Action::ArmTimer(400)]);
    life.step(Event::Timer, 602);
    life.step(Event::DependenciesReady, 602);
    assert_eq!(life.step(exited(3), 603), [Action::ArmTimer(800)]);
    life.step(Event::Timer, 1403);
    life.step(Event::DependenciesReady, 1403);
    assert_eq!(life.state(), State::Failed);
    assert_eq!(
        life.reason(),
        "start limit reached: 3 starts in 60 s; last: exited with code 3"
    );
    assert_eq!(life.restarts(), 3);
}

#[test]
fn a_service_that_held_out_begins_at_the_first_delay() {
    let mut life = started();
    life.step(exited(3), 1);
    life.step(Event::Timer, 201);
    life.step(Event::DependenciesReady, 201);
    life.step(exited(3), 202);
    life.step(Event::Timer, 602);
    life.step(Event::DependenciesReady, 100_000);
    assert_eq!(life.step(exited(3), 200_000), [Action::ArmTimer(200)]);
}

#[test]
fn code_125_is_final_under_each_policy() {
    for policy in [
        RestartPolicy::Always,
        RestartPolicy::OnFailure,
        RestartPolicy::Never,
    ] {
        let mut life = machine(policy, ReadinessKind::None);
        life.step(Event::Start, 0);
        life.step(Event::DependenciesReady, 0);
        life.step(exited(125), 1);
        assert_eq!(life.state(), State::Failed, "{policy:?}");
        assert!(life.reason().contains("not to be restarted"));
    }
}

#[test]
fn policies_decide_about_a_clean_exit() {
    for (policy, state) in [
        (RestartPolicy::Always, State::Backoff),
        (RestartPolicy::OnFailure, State::Stopped),
        (RestartPolicy::Never, State::Stopped),
    ] {
        let mut life = machine(policy, ReadinessKind::None);
        life.step(Event::Start, 0);
        life.step(Event::DependenciesReady, 0);
        life.step(exited(0), 1);
        assert_eq!(life.state(), state, "{policy:?}");
    }
}

#[test]
fn a_stop_is_asked_for_then_forced_then_rests() {
    let mut life = started();
    let actions = life.step(Event::Stop("stopped by the operator".to_owned()), 1);
    assert_eq!(actions, [Action::Signal(15), Action::ArmTimer(2000)]);
    assert_eq!(life.step(Event::Timer, 2001), [Action::Kill]);
    life.step(
        Event::Ended(Ending {
            reason: "killed by SIGKILL".to_owned(),
            code: None,
        }),
        2002,
    );
    assert_eq!(life.state(), State::Stopped);
    assert_eq!(
        life.reason(),
        "stopped by the operator; not gone within 2 s; killed by SIGKILL"
    );
    assert_eq!(life.restarts(), 0);
}

#[test]
fn a_service_that_is_not_ready_in_time_is_stopped_and_counted() {
    let mut life = started();
    let actions = life.step(Event::Timer, 5000);
    assert_eq!(actions, [Action::Signal(15), Action::ArmTimer(2000)]);
    life.step(exited(0), 5001);
    assert_eq!(life.state(), State::Backoff);
    assert!(life.last_failure().contains("not ready within 5 s"));
}

#[test]
fn an_essential_service_that_fails_for_good_gives_up_the_box() {
    let mut life = machine(RestartPolicy::Never, ReadinessKind::None);
    life.essential = true;
    life.step(Event::Start, 0);
    life.step(Event::DependenciesReady, 0);
    assert!(life.step(exited(1), 1).contains(&Action::GiveUp));
}

#[test]
fn no_sequence_of_events_makes_two_processes_or_a_dead_end() {
    // A small linear congruential generator: the walk is the same each time.
    let mut seed: u64 = 1;
    let mut random = |below: u64| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for kind in [ReadinessKind::Notify, ReadinessKind::None] {
        let mut life = machine(RestartPolicy::Always, kind);
        let mut process = false;
        let mut timer = false;
        for now in 0..200_000 {
            let event = match random(12) {
                0 => Event::Start,
                1 => Event::Stop("stopped".to_owned()),
                2 => Event::Restart,
                3 | 4 => Event::DependenciesReady,
                5 => Event::DependencyFailed("gone".to_owned()),
                6 => Event::Executing,
                7 => Event::Notified,
                8 if process => exited(i32::try_from(random(3)).unwrap()),
                9 if process => exited(125),
                10 | 11 if timer => Event::Timer,
                _ => continue,
            };
            process &= !matches!(event, Event::Ended(_));
            for action in life.step(event.clone(), now * 100) {
                match action {
                    Action::Spawn => {
                        assert!(!process, "a second process after {event:?}");
                        process = true;
                    }
                    Action::Signal(_) | Action::Kill => assert!(process, "{event:?}"),
                    Action::ArmTimer(_) => timer = true,
                    Action::DisarmTimer => timer = false,
                    Action::GiveUp => {}
                }
            }
            let must_have_process = matches!(
                life.phase,
                Phase::Launching | Phase::Ready | Phase::Stopping(_)
            );
            assert_eq!(
                process, must_have_process,
                "{:?} after {event:?}",
                life.phase
            );
            let needs_timer = matches!(
                life.phase,
                Phase::Launching | Phase::Stopping(_) | Phase::Backoff
            );
            assert!(
                timer || !needs_timer,
                "{:?} after {event:?}: nothing leads on",
                life.phase
            );
            assert!(!life.reason.is_empty());
        }
    }
}
