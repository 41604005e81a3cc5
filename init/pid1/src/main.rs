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
mod cmdline;
mod console;
mod control;
mod credentials;
mod data;
mod descriptor;
mod disk;
mod lifecycle;
mod logs;
mod news;
mod notify;
mod pairing;
mod phases;
mod power;
mod process;
mod quota;
mod reaper;
mod reset;
mod ring;
mod shutdown;
mod spec;
mod status_led;
mod supervisor;
mod system;
mod task;

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::watch;

use crate::boot::Booted;
use crate::console::Console;
use crate::logs::Log;
use crate::news::Newsroom;
use crate::power::Signals;
use crate::reaper::Reaper;
use crate::shutdown::End;
use crate::status_led::StatusLed;
use crate::supervisor::{Shared, Supervisor};
use crate::system::System;

/// A box that fails again and again at once leaves time to read why.
const PAUSE_BEFORE_FATAL_RESTART: Duration = Duration::from_secs(10);

/// A step of growing the data partition that is under way when the box goes down is waited for: it
/// takes a blink, or its disk does not answer any more.
const LAST_STEP: Duration = Duration::from_secs(5);

fn main() {
    if std::process::id() != 1 {
        eprintln!("kos-init is the first process of a kOS image; it does nothing elsewhere.");
        std::process::exit(2);
    }
    let console = Console::silent();
    let for_panics = console.clone();
    std::panic::set_hook(Box::new(move |panic| {
        for_panics.say(2, &format!("panic in PID 1: {panic}"));
    }));
    // The funnel: whatever comes out of `run`, the machine goes down in order.
    let end = match std::panic::catch_unwind(AssertUnwindSafe(|| run(&console))) {
        Ok(Ok(end)) => end,
        Ok(Err(error)) => fatal(&console, &format!("{error:#}")),
        Err(_) => fatal(&console, "PID 1 panicked"),
    };
    shutdown::release_disks(&console);
    shutdown::end(&end, &console);
    // The kernel refused. PID 1 must not return: that would be a kernel panic with no reason.
    loop {
        std::thread::sleep(PAUSE_BEFORE_FATAL_RESTART);
        let _ = kos_sys::power::reboot();
    }
}

fn fatal(console: &Console, why: &str) -> End {
    console.open();
    let seconds = PAUSE_BEFORE_FATAL_RESTART.as_secs();
    console.say(2, &format!("fatal: {why}; restarting in {seconds} s"));
    std::thread::sleep(PAUSE_BEFORE_FATAL_RESTART);
    End::Reboot
}

fn run(console: &Console) -> Result<End> {
    let booted = boot::boot(console)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    let end = runtime.block_on(supervise(console.clone(), booted));
    runtime.shutdown_timeout(LAST_STEP);
    end
}

async fn supervise(console: Console, booted: Booted) -> Result<End> {
    // Handlers before the first child: a signal without one would be lost, or kill.
    let signals = Signals::install()?;
    let children = Reaper::signal()?;
    let reaper = Reaper::default();
    let Booted {
        cgroups,
        own_group,
        echo_services,
        board,
        led,
        boot_disk,
        setup_problem,
        data,
        services,
        syscall_sets,
        version,
        hostname,
        named_by_owner,
        phases,
    } = booted;
    let news = Newsroom::default();
    let shared = Arc::new(Shared {
        console: console.clone(),
        reaper: reaper.clone(),
        cgroups,
        syscall_sets,
        changes: watch::Sender::new(1),
        echo_services,
        shutdown: shutdown::Requests::new(news.clone()),
        news,
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
        kernel: kernel.clone(),
        reaper: reaper.clone(),
        console: console.clone(),
        hostname: Mutex::new(hostname),
        named_by_owner,
        ready_ms: AtomicU64::new(0),
    });
    tokio::spawn(reaper.run(children));
    tokio::spawn(signals.run(shared.clone()));
    tokio::spawn(follow_kernel(console.clone(), kernel));
    power::watch_buttons(&shared);
    let supervisor = Arc::new(Supervisor::new(&services, shared.clone()));
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
    tokio::spawn(finish_growing(system.clone()));
    tokio::spawn(announce_ready(supervisor.clone(), system, led));
    let (end, reason) = shared.shutdown.requested().await;
    console.say(6, &format!("going down: {reason}"));
    shutdown::stop_services(&supervisor, &reason).await;
    Ok(end)
}

async fn announce_ready(supervisor: Arc<Supervisor>, system: Arc<System>, led: StatusLed) {
    tokio::select! {
        () = supervisor.settled() => {}
        // Services that stop settle, too; that is not being ready.
        _ = supervisor.shared().shutdown.requested() => return,
    }
    let now = kos_sys::clock::boottime_milliseconds();
    system.ready_ms.store(now, Ordering::Relaxed);
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
