//! Chaos: random acts on ten services, with a seed. At the end each is in the state that its policy
//! says, and PID 1 holds what it held before: no zombie, cgroup, mount, descriptor or memory more.
//!
//! `cargo xtask soak chaos` does a thousand acts; every test run does a few with the same code.

use anyhow::{Context, Result, ensure};
use kos_tests::chance::Chance;
use kos_tests::{Boot, DataDisk, Guest, Image, environment, measured};
use serde_json::{Value, json};

/// Under TCG, on an idle host, a second has about twenty.
const ACTS: u64 = 150;
const SEED: u64 = 20_261_124;
/// Resident memory of PID 1 at the end, in percent of what it was: what issue 4 asks.
const MOST_PERCENT: u64 = 110;

/// Whose manifest comes and goes with reloads: the owner's.
const GUEST: &str = "chaos-guest";
const SERVICES: [&str; 10] = [
    "chaos-always@a",
    "chaos-always@b",
    "chaos-always@c",
    "chaos-always@d",
    "chaos-failing@e",
    "chaos-failing@f",
    "chaos-failing@g",
    "chaos-never@h",
    "chaos-never@i",
    GUEST,
];

#[test]
fn after_random_acts_every_service_is_as_its_policy_says_and_nothing_leaks() -> Result<()> {
    let acts = environment::number("KOS_CHAOS_ACTS", ACTS)?;
    let seed = environment::number("KOS_SEED", SEED)?;
    let disk = DataDisk::create()?;
    let guest = Boot::new("chaos", Image::Test).disk(&disk).start()?;
    let mut chaos = Chaos::begin(&guest, seed)?;
    let before = chaos.quiet()?;
    for number in 0..acts {
        chaos
            .act()
            .with_context(|| format!("act {number} of {acts} with seed {seed}"))?;
    }
    chaos.all_as_their_policies_say()?;
    let after = chaos.quiet()?;
    let told = format!(
        "{acts} acts with seed {seed}, {:?}; PID 1 before {before:?}, after {after:?}",
        chaos.counts
    );
    measured(&told);
    ensure!(after.groups == before.groups, "cgroups: {told}");
    ensure!(after.mounts == before.mounts, "mounts: {told}");
    ensure!(
        after.descriptors == before.descriptors,
        "descriptors: {told}"
    );
    ensure!(
        after.resident * 100 <= before.resident * MOST_PERCENT,
        "memory: {told}"
    );
    guest.power_off()
}

/// What PID 1 holds when nothing is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Holdings {
    resident: u64,
    descriptors: u64,
    mounts: u64,
    groups: u64,
}

/// What is done, and how often it was.
#[derive(Debug, Default)]
struct Counts {
    killed: u32,
    out_of_memory: u32,
    frozen: u32,
    thawed: u32,
    stopped: u32,
    started: u32,
    restarted: u32,
    reloaded: u32,
    flooded: u32,
    /// Refused as the service was in no state for it.
    refused: u32,
}

struct Chaos<'a> {
    guest: &'a Guest,
    chance: Chance,
    counts: Counts,
    /// Whether somebody last asked for it to run.
    wanted: [bool; SERVICES.len()],
    guests_memory: u32,
}

impl<'a> Chaos<'a> {
    /// All ten run, and their logs are full: a log's ring takes its memory once.
    fn begin(guest: &'a Guest, seed: u64) -> Result<Self> {
        let mut chaos = Chaos {
            guest,
            chance: Chance::new(seed),
            counts: Counts::default(),
            wanted: [true; SERVICES.len()],
            guests_memory: 16,
        };
        chaos.reload()?;
        for name in SERVICES {
            guest.api().start(name)?;
        }
        chaos.all_ready()?;
        for name in SERVICES {
            chaos.signal(name, "SIGUSR2")?;
        }
        Ok(chaos)
    }

    fn act(&mut self) -> Result<()> {
        let index = self.chance.within(0..SERVICES.len());
        let name = SERVICES[index];
        match self.chance.within(0..20) {
            0..5 => {
                self.counts.killed += 1;
                self.signal(name, "SIGKILL")
            }
            5..7 => {
                self.counts.out_of_memory += 1;
                self.signal(name, "SIGUSR1")
            }
            7..9 => {
                self.counts.flooded += 1;
                self.signal(name, "SIGUSR2")
            }
            9..11 => {
                self.counts.frozen += 1;
                self.ask(name, "freeze", None)
            }
            11..13 => {
                self.counts.thawed += 1;
                self.ask(name, "thaw", None)
            }
            13..15 => {
                self.counts.stopped += 1;
                self.wanted[index] = false;
                self.ask(name, "stop", None)
            }
            15..18 => {
                self.counts.started += 1;
                self.wanted[index] = true;
                self.ask(name, "start", None)
            }
            18 => {
                self.counts.restarted += 1;
                self.wanted[index] = true;
                self.ask(name, "restart", None)
            }
            _ => {
                self.counts.reloaded += 1;
                self.reload()
            }
        }
    }

    fn signal(&mut self, name: &str, signal: &str) -> Result<()> {
        self.ask(name, "kill", Some(json!({ "signal": signal })))
    }

    /// Asks for something that the service may be in no state for.
    fn ask(&mut self, name: &str, action: &str, body: Option<Value>) -> Result<()> {
        let path = format!("/api/v1/services/{name}/{action}");
        let answer = self.guest.api().request("POST", &path, body)?;
        if answer.status == 409 {
            self.counts.refused += 1;
            return Ok(());
        }
        answer.success().map(drop)
    }

    /// Another limit for the owner's service, or the same manifests once more.
    fn reload(&mut self) -> Result<()> {
        if self.chance.coin() && self.counts.reloaded > 0 {
            return self.guest.api().post("/api/v1/reload").map(drop);
        }
        self.guests_memory = 40 - self.guests_memory;
        let text = format!(
            "name = \"{GUEST}\"\ndescription = \"Test: bears chaos, and its manifest changes\"\n\
             program = \"/bin/test-chaos\"\nuid = 20010\nenabled = false\n\n\
             [restart]\ndelay = \"10ms\"\nmax-delay = \"1s\"\nstart-limit = 100\n\
             start-window = \"1s\"\n\n[limits]\nmemory = \"{}M\"\n\n\
             [sandbox]\nsyscalls = [\"default\", \"processes\"]\n",
            self.guests_memory
        );
        let path = format!("/api/v1/services/{GUEST}/manifest");
        self.guest.api().put_text(&path, &text)?.success().map(drop)
    }

    /// What was wanted is, what was not is not, and those that nobody starts again may have failed.
    fn all_as_their_policies_say(&mut self) -> Result<()> {
        for name in SERVICES {
            self.ask(name, "thaw", None)?;
        }
        for (name, wanted) in SERVICES.iter().zip(self.wanted) {
            let is_final = |state: &str| match (wanted, name.starts_with("chaos-never")) {
                (false, _) => state == "stopped",
                (true, false) => state == "ready",
                (true, true) => state == "ready" || state == "failed",
            };
            let seen = self
                .guest
                .wait_service(name, |seen| is_final(&seen.state))
                .with_context(|| format!("{name}, wanted: {wanted}"))?;
            // SIGUSR1 and SIGUSR2 kill a program that does not wait for them yet.
            let told = seen.reason.contains("by SIG") || seen.reason.contains("memory");
            ensure!(seen.state != "failed" || told, "{seen:?}");
        }
        // The same ten as in the beginning.
        for name in SERVICES {
            self.guest.api().start(name)?;
        }
        self.all_ready()
    }

    fn all_ready(&self) -> Result<()> {
        for name in SERVICES {
            self.guest
                .wait_service(name, |seen| seen.state == "ready")?;
        }
        Ok(())
    }

    /// What PID 1 holds, once it holds the same twice and nobody waits to be collected.
    fn quiet(&self) -> Result<Holdings> {
        let mut last = None;
        let system = self.guest.wait_system(|system| {
            let now = held_by(system).ok();
            let same = now.is_some() && now == last;
            last = now;
            same && system["processes"]["zombies"] == 0
        })?;
        held_by(&system)
    }
}

fn held_by(system: &Value) -> Result<Holdings> {
    let init = &system["init"];
    let number = |key: &str| {
        init[key]
            .as_u64()
            .with_context(|| format!("no number '{key}' in {init}"))
    };
    Ok(Holdings {
        resident: number("resident")?,
        descriptors: number("descriptors")?,
        mounts: number("mounts")?,
        groups: number("groups")?,
    })
}
