//! Walks through the diagram, and a long random walk that must never leave it.

use std::time::Duration;

use kos_manifest::service::{Readiness, Restart, RestartPolicy, StepProgram, Stop};

use super::transitions::TRANSITIONS;
use super::*;

fn policy(policy: RestartPolicy, kind: ReadinessKind) -> Policy {
    Policy {
        restart: Restart {
            policy,
            delay: Duration::from_millis(200),
            max_delay: Duration::from_secs(1),
            start_limit: 3,
            start_window: Duration::from_secs(60),
        },
        readiness: Readiness {
            kind,
            address: None,
            path: "/".to_owned(),
            timeout: Duration::from_secs(5),
        },
        stop: Stop {
            signal: 15,
            timeout: Duration::from_secs(2),
        },
        essential: false,
        pre_start: Vec::new(),
        post_stop: Vec::new(),
    }
}

fn machine(restart: RestartPolicy, kind: ReadinessKind) -> Lifecycle {
    Lifecycle::new(policy(restart, kind))
}

fn step(program: &str, seconds: u64) -> StepProgram {
    StepProgram {
        program: program.into(),
        args: Vec::new(),
        timeout: Duration::from_secs(seconds),
    }
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
    life.policy.essential = true;
    life.step(Event::Start, 0);
    life.step(Event::DependenciesReady, 0);
    assert!(life.step(exited(1), 1).contains(&Action::GiveUp));
}

fn ready() -> Lifecycle {
    let mut life = started();
    life.step(Event::Notified, 0);
    assert_eq!(life.state(), State::Ready);
    life
}

fn freeze(for_ms: Option<u64>) -> Event {
    Event::Freeze {
        reason: "frozen".to_owned(),
        for_ms,
    }
}

#[test]
fn steps_run_one_after_the_other_around_the_program() {
    let mut life = machine(RestartPolicy::Never, ReadinessKind::None);
    life.policy.pre_start = vec![step("/bin/a", 1), step("/bin/b", 2)];
    life.policy.post_stop = vec![step("/bin/c", 3)];
    life.step(Event::Start, 0);
    assert_eq!(
        life.step(Event::DependenciesReady, 0),
        [Action::RunPreStart(0), Action::ArmTimer(1000)]
    );
    assert_eq!(
        life.step(exited(0), 1),
        [Action::RunPreStart(1), Action::ArmTimer(2000)]
    );
    assert_eq!(
        life.step(exited(0), 2),
        [Action::Spawn, Action::ArmTimer(5000)]
    );
    life.step(Event::Executing, 3);
    assert_eq!(
        life.step(exited(0), 4),
        [Action::RunPostStop(0), Action::ArmTimer(3000)]
    );
    assert_eq!(life.state(), State::Stopping);
    let told = "post-stop step 1 (/bin/c): exited with code 9".to_owned();
    assert_eq!(
        life.step(exited(9), 5),
        [Action::Tell(told), Action::DisarmTimer]
    );
    assert_eq!(
        (life.state(), life.reason()),
        (State::Stopped, "exited with code 0")
    );
}

#[test]
fn a_step_before_the_start_that_fails_or_hangs_is_a_failed_start() {
    let mut life = machine(RestartPolicy::Always, ReadinessKind::None);
    life.policy.pre_start = vec![step("/bin/a", 1)];
    life.step(Event::Start, 0);
    life.step(Event::DependenciesReady, 0);
    life.step(exited(4), 1);
    assert_eq!(
        (life.state(), life.reason()),
        (
            State::Backoff,
            "pre-start step 1 (/bin/a): exited with code 4"
        )
    );
    life.step(Event::Timer, 201);
    life.step(Event::DependenciesReady, 201);
    assert_eq!(
        life.step(Event::Timer, 1201),
        [Action::Kill, Action::ArmTimer(2000)]
    );
    life.step(exited(0), 1202);
    assert_eq!(life.state(), State::Backoff);
    assert!(life.reason().contains("not done within 1 s"));
}

#[test]
fn a_freeze_stands_when_the_kernel_says_so_and_a_stop_thaws_first() {
    let mut life = ready();
    assert_eq!(
        life.step(freeze(None), 0),
        [Action::Freeze, Action::ArmTimer(FREEZE_MS)]
    );
    assert_eq!((life.state(), life.is_watched()), (State::Ready, false));
    assert_eq!(life.step(Event::Froze, 1), [Action::DisarmTimer]);
    assert_eq!(life.state(), State::Frozen);
    assert_eq!(
        life.step(Event::Stop("stopped".to_owned()), 2),
        [Action::Thaw, Action::Signal(15), Action::ArmTimer(2000)]
    );
    let mut life = ready();
    life.step(freeze(Some(700)), 0);
    assert_eq!(life.step(Event::Froze, 1), [Action::ArmTimer(700)]);
    assert_eq!(
        life.step(Event::Timer, 701),
        [Action::Thaw, Action::DisarmTimer]
    );
    assert_eq!((life.state(), life.is_watched()), (State::Ready, true));
}

#[test]
fn what_is_killed_while_frozen_leaves_no_frozen_cgroup() {
    let mut life = ready();
    life.step(freeze(None), 0);
    life.step(Event::Froze, 0);
    assert_eq!(life.step(exited(1), 1)[0], Action::Thaw);
    assert_eq!(life.state(), State::Backoff);
}

#[test]
fn a_freeze_that_does_not_come_is_given_up() {
    let mut life = ready();
    life.step(freeze(None), 0);
    assert_eq!(
        life.step(Event::Timer, 5000),
        [Action::Thaw, Action::DisarmTimer]
    );
    assert_eq!(
        (life.state(), life.reason()),
        (State::Ready, "could not be frozen within 5 s")
    );
}

#[test]
fn quarantine_stops_and_holds_until_it_is_released() {
    let mut life = ready();
    life.step(Event::Quarantine("it attacked".to_owned()), 0);
    assert_eq!(life.state(), State::Stopping);
    life.step(Event::Start, 1);
    life.step(Event::Stop("stopped".to_owned()), 1);
    life.step(exited(0), 2);
    assert_eq!(
        (life.state(), life.reason()),
        (State::Quarantined, "it attacked")
    );
    assert!(life.is_quarantined());
    for event in [Event::Start, Event::Restart, Event::Scheduled] {
        assert_eq!(life.step(event, 3), []);
        assert_eq!(life.state(), State::Quarantined);
    }
    life.step(Event::Release, 4);
    assert_eq!(life.state(), State::Stopped);
    life.step(Event::Start, 5);
    assert_eq!(life.state(), State::Starting);
}

#[test]
fn a_missed_watchdog_kills_and_counts() {
    let mut life = ready();
    let missed = Event::WatchdogMissed("silent for longer than 2 s".to_owned());
    assert_eq!(
        life.step(missed.clone(), 1),
        [Action::Kill, Action::ArmTimer(2000)]
    );
    life.step(exited(0), 2);
    assert_eq!(life.state(), State::Backoff);
    assert!(life.last_failure().starts_with("silent for longer"));
    // One that is not ready yet has promised nothing.
    assert_eq!(started().step(missed, 1), []);
}

#[test]
fn what_requires_a_failed_service_fails_with_its_reason() {
    let mut life = ready();
    let failed = Event::DependencyFailed("requires base, which is failed: x".to_owned());
    life.step(failed, 1);
    assert_eq!(life.state(), State::Stopping);
    life.step(exited(0), 2);
    assert_eq!(
        (life.state(), life.reason()),
        (State::Failed, "requires base, which is failed: x")
    );
}

#[test]
fn an_unmet_condition_leaves_it_stopped_until_it_is_met() {
    let mut life = machine(RestartPolicy::Always, ReadinessKind::None);
    life.step(Event::Start, 0);
    life.step(
        Event::ConditionUnmet("there is no /dev/ttyUSB0".to_owned()),
        0,
    );
    assert_eq!(
        (life.state(), life.reason(), life.is_unmet()),
        (State::Stopped, "there is no /dev/ttyUSB0", true)
    );
    life.step(Event::ConditionsMet, 1);
    assert!(life.is_waiting());
    life.step(Event::ConditionUnmet("gone".to_owned()), 2);
    life.step(Event::Stop("stopped".to_owned()), 3);
    life.step(Event::ConditionsMet, 4);
    assert_eq!(life.state(), State::Stopped);
    assert!(!life.is_waiting());
}

#[test]
fn a_timer_starts_what_rests_and_nothing_else() {
    let mut life = ready();
    assert_eq!(life.step(Event::Scheduled, 0), []);
    life.step(exited(125), 1);
    assert_eq!(life.state(), State::Failed);
    life.step(Event::Scheduled, 2);
    assert_eq!(life.state(), State::Starting);
}

#[test]
fn a_program_puts_off_its_deadline_but_not_for_ever() {
    let mut life = started();
    assert_eq!(
        life.step(Event::Extend(8000), 1000),
        [Action::ArmTimer(8000)]
    );
    // Sooner than what is armed is no extension.
    assert_eq!(life.step(Event::Extend(100), 1001), []);
    assert_eq!(
        life.step(Event::Extend(1_000_000), 9000),
        [Action::ArmTimer(11_000)]
    );
    assert_eq!(life.step(Event::Extend(1_000_000), 15_000), []);
}

#[test]
fn a_program_that_says_that_it_stops_is_judged_by_its_end() {
    let mut life = ready();
    assert_eq!(life.step(Event::Leaving, 1), [Action::ArmTimer(2000)]);
    assert_eq!(life.state(), State::Stopping);
    assert_eq!(life.step(Event::Timer, 2001), [Action::Kill]);
    life.step(exited(125), 2002);
    assert_eq!(life.state(), State::Failed);
}

/// A small linear congruential generator: the walk is the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    fn event(&mut self) -> Event {
        let words = |text: &str| text.to_owned();
        match self.below(38) {
            0 => Event::Start,
            1 => Event::Stop(words("stopped")),
            2 => Event::Restart,
            3..=5 => Event::DependenciesReady,
            6 => Event::DependencyFailed(words("gone")),
            7 => Event::Executing,
            8 | 9 => Event::Notified,
            10 => exited(i32::try_from(self.below(3)).unwrap()),
            11 => exited(125),
            12 => Event::Scheduled,
            13 => freeze(None),
            14 => freeze(Some(50)),
            15 => Event::Froze,
            16 => Event::Thaw,
            17 => Event::Quarantine(words("bad")),
            18 => Event::Release,
            19 => Event::ConditionUnmet(words("no device")),
            20 => Event::ConditionsMet,
            21 => [
                Event::Answered,
                Event::Reloading,
                Event::Leaving,
                Event::Extend(10_000),
            ][self.below(4) as usize]
                .clone(),
            22 => Event::WatchdogMissed(words("silent")),
            23 => Event::Unfit(words("pressure")),
            24 => Event::SpawnFailed(words("no memory")),
            // Steps that go well, or nothing ever gets beyond them.
            25..=33 => exited(0),
            34 | 35 => Event::Froze,
            _ => Event::Timer,
        }
    }
}

/// What the rest of PID 1 is to the machine: one process at most, one timer, a frozen cgroup.
#[derive(Default)]
struct World {
    process: bool,
    timer: bool,
    frozen: bool,
}

impl World {
    /// Whether such an event can come in this world.
    fn allows(&self, event: &Event, phase: &Phase) -> bool {
        match event {
            Event::Ended(_) => self.process,
            Event::SpawnFailed(_) => matches!(
                phase,
                Phase::Preparing(_) | Phase::Launching | Phase::Cleaning(..)
            ),
            Event::Timer => self.timer,
            Event::Froze => self.frozen,
            _ => true,
        }
    }

    fn act(&mut self, action: &Action, event: &Event) {
        match action {
            Action::Spawn | Action::RunPreStart(_) | Action::RunPostStop(_) => {
                assert!(!self.process, "a second process after {event:?}");
                assert!(!self.frozen, "born frozen after {event:?}");
                self.process = true;
            }
            Action::Signal(_) => assert!(self.process && !self.frozen, "{event:?}"),
            Action::Kill => assert!(self.process, "{event:?}"),
            Action::Freeze => {
                assert!(self.process, "{event:?}");
                self.frozen = true;
            }
            Action::Thaw => self.frozen = false,
            Action::ArmTimer(_) => self.timer = true,
            Action::DisarmTimer => self.timer = false,
            Action::Tell(_) | Action::GiveUp => {}
        }
    }

    fn holds(&self, life: &Lifecycle, event: &Event) {
        let phase = &life.phase;
        let must_have_process = matches!(
            phase,
            Phase::Preparing(_)
                | Phase::Launching
                | Phase::Ready
                | Phase::Freezing(_)
                | Phase::Frozen(_)
                | Phase::Stopping(_)
                | Phase::Cleaning(..)
        );
        assert_eq!(self.process, must_have_process, "{phase:?} after {event:?}");
        let needs_timer = matches!(
            phase,
            Phase::Preparing(_)
                | Phase::Launching
                | Phase::Freezing(_)
                | Phase::Stopping(_)
                | Phase::Cleaning(..)
                | Phase::Backoff
        );
        assert!(
            self.timer || !needs_timer,
            "{phase:?} after {event:?}: nothing leads on"
        );
        let frozen = matches!(phase, Phase::Freezing(_) | Phase::Frozen(_));
        assert_eq!(self.frozen, frozen, "{phase:?} after {event:?}");
        assert!(!life.reason.is_empty(), "{phase:?} after {event:?}");
    }
}

#[test]
fn no_sequence_of_events_makes_two_processes_or_a_dead_end_or_leaves_the_table() {
    let mut seen = std::collections::BTreeSet::new();
    let mut random = Random(1);
    for (restart, kind) in [
        (RestartPolicy::Always, ReadinessKind::Notify),
        (RestartPolicy::OnFailure, ReadinessKind::None),
        (RestartPolicy::Never, ReadinessKind::Socket),
    ] {
        for steps in [false, true] {
            let mut rules = policy(restart, kind);
            if steps {
                rules.pre_start = vec![step("/bin/a", 1), step("/bin/b", 1)];
                rules.post_stop = vec![step("/bin/c", 1)];
            }
            let mut life = Lifecycle::new(rules);
            let mut world = World::default();
            for now in 0..1_000_000 {
                let event = random.event();
                if !world.allows(&event, &life.phase) {
                    continue;
                }
                world.process &= !matches!(event, Event::Ended(_) | Event::SpawnFailed(_));
                world.timer &= event != Event::Timer;
                let from = life.state();
                for action in life.step(event.clone(), now * 100) {
                    world.act(&action, &event);
                }
                // A timer of what is being stopped has killed, and its work is done.
                if event == Event::Timer
                    && matches!(life.phase, Phase::Stopping(_) | Phase::Cleaning(..))
                {
                    world.timer = true;
                }
                world.holds(&life, &event);
                if life.state() != from {
                    seen.insert((from.as_str(), event.word(), life.state().as_str()));
                }
            }
        }
    }
    let table = TRANSITIONS
        .iter()
        .map(|(from, word, to)| (from.as_str(), *word, to.as_str()))
        .collect();
    let show = |left: &std::collections::BTreeSet<_>, right: &_| -> Vec<String> {
        left.difference(right)
            .map(|(from, word, to): &(&str, &str, &str)| format!("{from} {word} {to}"))
            .collect()
    };
    assert_eq!(show(&seen, &table), [""; 0], "not in the table");
    assert_eq!(show(&table, &seen), [""; 0], "in the table and never seen");
}
