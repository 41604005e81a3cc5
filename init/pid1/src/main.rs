//! PID 1 of kOS: it boots the machine, supervises its services, and takes the machine down.
//!
//! Three rules hold for everything in this crate. It never panics its way out: one funnel, here,
//! takes every fatal error to "say why, stop what can be stopped, write the disks, restart". It
//! never blocks on a service: every wait is one of many in a single-threaded loop. It never grows
//! without bound: every queue, ring and table has a size.
//!
//! Start reading at [`run`], then `boot.rs` (what happens before the first service), `task.rs`
//! (the owner of one service) and `lifecycle.rs` (its states).

mod boot;
mod boot_partition;
mod cgroup_watch;
mod cmdline;
mod conditions;
mod console;
mod control;
mod credentials;
mod data;
mod descriptor;
mod directories;
mod disk;
mod filters;
mod group;
mod kept;
mod lifecycle;
mod logs;
mod manifests;
mod news;
mod notify;
mod pairing;
mod phases;
mod place;
mod power;
mod probe;
mod process;
mod quota;
mod reaper;
mod record;
mod reset;
mod ring;
mod schedule;
mod shutdown;
mod spec;
mod stable_hash;
mod status_led;
mod supervisor;
mod system;
mod task;
mod watchdog;

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use kos_manifest::control::PhaseRecord;
use tokio::sync::watch;

use crate::boot::Booted;
use crate::cgroup_watch::CgroupWatch;
use crate::console::Console;
use crate::filters::Filters;
use crate::logs::Log;
use crate::news::Newsroom;
use crate::phases::Phases;
use crate::power::Signals;
use crate::reaper::Reaper;
use crate::record::{Reason, Records};
use crate::shutdown::{End, Phase, Requests, Road};
use crate::status_led::StatusLed;
use crate::supervisor::{Shared, Supervisor, Wishes};
use crate::system::System;
use crate::watchdog::Keeper;

/// A box that fails again and again at once leaves time to read why.
const PAUSE_BEFORE_FATAL_RESTART: Duration = Duration::from_secs(10);

/// A step of growing the data partition that is under way when the box goes down is waited for: it
/// takes a blink, or its disk does not answer any more.
const LAST_STEP: Duration = Duration::from_secs(5);

/// Descriptors of PID 1: a running service has six, and its sockets and rules beside them, and there
/// may be a thousand services.
const OPEN_FILES: u64 = 65_536;

/// Slow work on files that is done at once; more of it waits.
const BLOCKING_THREADS: usize = 4;
/// How long a thread stays that has nothing to do.
const IDLE_THREAD: Duration = Duration::from_secs(1);

fn main() {
    if std::process::id() != 1 {
        eprintln!("kos-init is the first process of a kOS image; it does nothing elsewhere.");
        std::process::exit(2);
    }
    kos_sys::allocator::keep_one_heap();
    let console = Console::silent();
    let frame = Frame {
        records: Records::new(&console),
        watchdog: Keeper::new(&console),
        requests: Arc::new(Requests::new(Newsroom::default())),
        console,
    };
    let for_panics = frame.clone();
    std::panic::set_hook(Box::new(move |panic| {
        let Frame {
            console, requests, ..
        } = &for_panics;
        console.say(2, &format!("panic in PID 1: {panic}"));
        // A task that panics is caught by the event loop, and what it owned is nobody's.
        requests.request(
            End::Reboot,
            Reason::fatal(format!("PID 1 panicked: {panic}")),
        );
    }));
    // The funnel: whatever comes out of `run`, the machine goes down in order.
    let (end, road, begun) = match std::panic::catch_unwind(AssertUnwindSafe(|| run(&frame))) {
        Ok(Ok((end, phases))) => (end, Road::Orderly, phases),
        Ok(Err(error)) => frame.fatal(format!("{error:#}")),
        Err(_) => frame.fatal("PID 1 panicked".to_owned()),
    };
    frame.go_down(&end, road, begun);
    // The kernel refused. PID 1 must not return: that would be a kernel panic with no reason.
    loop {
        std::thread::sleep(PAUSE_BEFORE_FATAL_RESTART);
        let _ = kos_sys::power::reboot();
    }
}

/// What is there before the boot and after the event loop: what a fatal error is told with.
#[derive(Clone)]
struct Frame {
    console: Console,
    records: Records,
    watchdog: Keeper,
    requests: Arc<Requests>,
}

impl Frame {
    fn fatal(&self, why: String) -> (End, Road, Vec<PhaseRecord>) {
        self.console.open();
        let seconds = PAUSE_BEFORE_FATAL_RESTART.as_secs();
        self.console
            .say(2, &format!("fatal: {why}; restarting in {seconds} s"));
        self.watchdog.phase();
        self.records.going_down(&Reason::fatal(why));
        std::thread::sleep(PAUSE_BEFORE_FATAL_RESTART);
        (End::Reboot, Road::Fatal, Vec::new())
    }

    fn go_down(&self, end: &End, road: Road, begun: Vec<PhaseRecord>) {
        let mut plan = shutdown::plan(end, road);
        if road == Road::Orderly {
            // The event loop has done the first.
            plan.remove(0);
        }
        let machine = shutdown::Machine {
            console: &self.console,
            records: &self.records,
            requests: &self.requests,
            end,
        };
        let mut phases = Phases::new(&self.console)
            .watched(&self.watchdog)
            .after(begun);
        shutdown::walk(&plan, &mut phases, |phase, so_far| {
            machine.act(phase, so_far)
        });
        shutdown::end(end, &self.console);
    }
}

fn run(frame: &Frame) -> Result<(End, Vec<PhaseRecord>)> {
    let booted = boot::boot(&frame.console, &frame.records, &frame.watchdog)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // For slow files: a handful at a time, and none is kept for what comes once in a while.
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_keep_alive(IDLE_THREAD)
        .build()
        .context("cannot start the event loop")?;
    let end = runtime.block_on(supervise(frame.clone(), booted));
    runtime.shutdown_timeout(LAST_STEP);
    end
}

async fn supervise(frame: Frame, booted: Booted) -> Result<(End, Vec<PhaseRecord>)> {
    let Frame {
        console,
        records,
        watchdog,
        requests,
    } = frame;
    // Handlers before the first child: a signal without one would be lost, or kill.
    let signals = Signals::install()?;
    let children = Reaper::signal()?;
    let reaper = Reaper::default();
    let Booted {
        cgroups,
        own_group,
        echo_services,
        hang_init,
        board,
        led,
        boot_disk,
        setup_problem,
        data,
        services,
        manifests,
        credentials,
        place,
        version,
        hostname,
        named_by_owner,
        phases,
    } = booted;
    let shared = Arc::new(Shared {
        console: console.clone(),
        reaper: reaper.clone(),
        cgroups,
        watch: CgroupWatch::new()?,
        syscall_sets: manifests.syscall_sets().clone(),
        filters: Filters::default(),
        credentials,
        place,
        null: std::fs::File::open("/dev/null")
            .context("cannot open /dev/null")?
            .into(),
        changes: watch::Sender::new(1),
        devices: watch::Sender::new(0),
        clock: watch::Sender::new(0),
        wishes: Wishes::default(),
        echo_services,
        news: requests.news().clone(),
        shutdown: requests,
    });
    let kernel = console.logs().open(logs::KERNEL);
    let system = Arc::new(System {
        version,
        board,
        boot_disk,
        setup_problem,
        data,
        phases,
        own_group,
        cgroups: shared.cgroups.clone(),
        kernel: kernel.clone(),
        reaper: reaper.clone(),
        console: console.clone(),
        hostname: Mutex::new(hostname),
        named_by_owner,
        ready_ms: AtomicU64::new(0),
        records: records.clone(),
        watchdog: watchdog.clone(),
    });
    records.booted(&system.version, &system.phases);
    tokio::spawn(reaper.run(children));
    tokio::spawn(signals.run(shared.clone()));
    tokio::spawn(follow_kernel(console.clone(), kernel));
    power::watch_buttons(&shared);
    watch_the_box(&shared);
    if let Err(error) = kos_sys::identity::allow_open_files(OPEN_FILES) {
        console.say(4, &format!("few services may run: {}", error.full()));
    }
    let supervisor = Arc::new(Supervisor::new(services, manifests, shared.clone()));
    match control::listen() {
        Ok(listener) => {
            let realm = control::pid1::Pid1 {
                supervisor: supervisor.clone(),
                system: system.clone(),
            };
            tokio::spawn(control::serve(listener, Arc::new(realm)));
        }
        // The services run all the same; the box has lost its handle, and says so.
        Err(error) => console.say(3, &format!("no control interface: {error:#}")),
    }
    supervisor.start_enabled().await;
    tokio::spawn(supervisor.clone().grant_wishes());
    tokio::spawn(watchdog::heartbeat(
        watchdog.clone(),
        records.clone(),
        supervisor.clone(),
    ));
    if let Some(delay) = hang_init {
        tokio::spawn(watchdog::hang_after(console.clone(), delay));
    }
    write_down(&records, Some(&shared));
    tokio::spawn(finish_growing(system.clone()));
    tokio::spawn(announce_ready(supervisor.clone(), system, led));
    let (end, reason) = shared.shutdown.requested().await;
    console.say(6, &format!("going down: {reason}"));
    records.going_down(&reason);
    write_down(&records, None);
    let mut phases = Phases::new(&console).watched(&watchdog);
    phases
        .wait(Phase::Services.name(), async {
            shutdown::stop_services(&supervisor, &reason.to_string()).await;
            Ok(())
        })
        .await;
    Ok((end, phases.finish()))
}

/// Writes this boot's record down beside everything else: a disk may take its time.
fn write_down(records: &Records, then_tell: Option<&Arc<Shared>>) {
    let (records, shared) = (records.clone(), then_tell.cloned());
    tokio::spawn(async move {
        // Lost only with the event loop itself, whose end writes it once more.
        let _ = tokio::task::spawn_blocking(move || records.save()).await;
        if let Some(shared) = shared {
            shared.changed();
        }
    });
}

/// What wakes services beside their own processes: limits, devices, the clock.
fn watch_the_box(shared: &Arc<Shared>) {
    let console = || shared.console.clone();
    tokio::spawn(shared.watch.clone().run(console()));
    tokio::spawn(conditions::watch_devices(shared.devices.clone(), console()));
    tokio::spawn(schedule::watch_clock(shared.clock.clone(), console()));
}

async fn announce_ready(supervisor: Arc<Supervisor>, system: Arc<System>, led: StatusLed) {
    tokio::select! {
        () = supervisor.settled() => {}
        // Services that stop settle, too; that is not being ready.
        _ = supervisor.shared().shutdown.requested() => return,
    }
    let now = kos_sys::clock::boottime_milliseconds();
    // Reading the manifests and the starts took memory that nothing needs any more.
    kos_sys::allocator::give_back();
    system.ready_ms.store(now, Ordering::Relaxed);
    system.records.ready(now);
    write_down(&system.records, None);
    led.booted(system.is_well() && supervisor.none_failed());
    supervisor.shared().changed();
    supervisor
        .shared()
        .console
        .say(6, &format!("ready after {now} ms"));
}

async fn finish_growing(system: Arc<System>) {
    data::finish_growing(&system.data, &system.console).await;
}

async fn follow_kernel(console: Console, log: Log) {
    if let Err(error) = logs::intake::follow_kernel(log).await {
        console.say(4, &format!("the kernel's messages cannot be read: {error}"));
    }
}
