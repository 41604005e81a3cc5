//! `cargo xtask flash`: an image to a card, a stick or a disk, with the owner's settings on it.
//!
//! Everything that can be wrong is found before the first byte is written. A disk that is in use is
//! never written, whatever the options say; one that cannot be unplugged only with `--force`.

mod copy;
mod device;
mod probe;
mod settings;
mod source;

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::Serialize;

use crate::board::Board;
use crate::hostpackages::find_program;
use crate::stage::{Stage, Stages};
use crate::workspace::Workspace;
use copy::Target;
use device::{Disk, Transport};
use settings::{Settings, SettingsArgs};
use source::Source;

/// Writes a board's image to a disk and reads it back.
#[derive(Debug, Args)]
pub struct FlashArgs {
    /// The disk, such as /dev/sdb.
    #[arg(required_unless_present = "to", conflicts_with = "to")]
    device: Option<PathBuf>,
    /// Which board's image.
    #[arg(long, required_unless_present = "image")]
    board: Option<String>,
    /// This image instead: a kos-BOARD.img.zst, or unpacked.
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// Write to a file, which a virtual machine can start from.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// How large that file is, such as 8G; otherwise as large as the image.
    #[arg(long, requires = "to", value_parser = crate::datadisk::parse_size)]
    size: Option<u64>,
    /// What the box is told.
    #[command(flatten)]
    settings: SettingsArgs,
    /// Also write to a disk that is not removable, or over a file that is there.
    #[arg(long)]
    force: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Say it as JSON.
    #[arg(long)]
    json: bool,
}

/// What is going to happen.
#[derive(Debug, Serialize)]
struct Plan {
    image: PathBuf,
    image_bytes: u64,
    target: PathBuf,
    target_bytes: u64,
    /// The disk as it is now; nothing for a file.
    disk: Option<Disk>,
    /// Names of files that are put on the first partition.
    settings: Vec<String>,
    /// Why it must not happen.
    refusals: Vec<String>,
}

/// The `flash` command.
pub fn run(workspace: &Workspace, stages: &mut Stages, args: &FlashArgs) -> Result<()> {
    let settings = args.settings.read()?;
    let plan = Plan::make(workspace, args, &settings)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&plan)?);
    } else {
        print!("{}", plan.text());
    }
    if !plan.refusals.is_empty() {
        bail!(
            "{} is not written: {}",
            plan.target.display(),
            plan.refusals.join("; ")
        );
    }
    if args.dry_run {
        return Ok(());
    }
    if plan.disk.is_some() && !args.yes {
        confirm(&plan.target)?;
    }
    stages.run(&format!("flash {}", plan.target.display()), |stage| {
        plan.execute(&settings, stage)
    })?;
    if plan.disk.is_some() {
        reread_partitions(&plan.target);
    }
    if !args.json {
        print!("{}", next_steps(&plan, &settings));
    }
    Ok(())
}

impl Plan {
    fn make(workspace: &Workspace, args: &FlashArgs, settings: &Settings) -> Result<Plan> {
        let image = image_of(workspace, args)?;
        let image_bytes = Source::size_of(&image)?;
        let mut refusals = Vec::new();
        let (target, target_bytes, disk) = match (&args.to, &args.device) {
            (Some(file), _) => {
                if let Ok(there) = file.symlink_metadata() {
                    ensure!(
                        there.is_file(),
                        "--to {}: it is there and is no file",
                        file.display()
                    );
                    if !args.force {
                        refusals.push("the file is there; --force writes over it".to_owned());
                    }
                }
                (file.clone(), args.size.unwrap_or(image_bytes), None)
            }
            (None, Some(device)) => {
                let disk = Disk::of(device)?;
                refusals.extend(refusals_of(&disk, args.force));
                (disk.device.clone(), disk.bytes, Some(disk))
            }
            (None, None) => bail!("neither a disk nor --to FILE is given"),
        };
        if target_bytes < image_bytes {
            refusals.push(format!(
                "it has {}, and the image needs {}",
                size(target_bytes),
                size(image_bytes)
            ));
        }
        Ok(Plan {
            image,
            image_bytes,
            target,
            target_bytes,
            disk,
            settings: settings
                .files
                .iter()
                .map(|(name, _)| name.clone())
                .collect(),
            refusals,
        })
    }

    fn text(&self) -> String {
        let mut text = format!(
            "image   {} ({})\ntarget  {}, {}",
            self.image.display(),
            size(self.image_bytes),
            self.target.display(),
            size(self.target_bytes)
        );
        if let Some(disk) = &self.disk {
            let model = disk.model.as_deref().unwrap_or("of unknown make");
            let serial = disk.serial.as_deref().unwrap_or("unknown");
            text.push_str(&format!(
                ", {model}, serial {serial}, {}, {}\n",
                transport(disk.transport),
                if disk.removable {
                    "removable"
                } else {
                    "not removable"
                }
            ));
            if disk.contents.is_empty() {
                text.push_str("now     nothing that is known\n");
            }
            for part in &disk.contents {
                let holds = part.holds.unwrap_or("unknown");
                text.push_str(&format!(
                    "now     {}  {}  {holds}",
                    part.name,
                    size(part.bytes)
                ));
                for place in &part.mounted {
                    text.push_str(&format!(", mounted at {place}"));
                }
                text.push('\n');
            }
        } else {
            text.push_str(", a file\n");
        }
        for name in &self.settings {
            text.push_str(&format!("adds    {name}\n"));
        }
        text
    }

    fn execute(&self, settings: &Settings, stage: &Stage) -> Result<()> {
        let mut source = Source::unpack(&self.image, stage)?;
        source.personalise(settings)?;
        let target = match &self.disk {
            Some(_) => Target::disk(&self.target, self.target_bytes)?,
            None => Target::file(&self.target, self.target_bytes)?,
        };
        target.write(&source, stage)?;
        target.verify(&self.target, &source, stage)?;
        target.finish(&self.target, &source)?;
        stage.summary(format!("{} written and verified", size(source.bytes())));
        Ok(())
    }
}

fn image_of(workspace: &Workspace, args: &FlashArgs) -> Result<PathBuf> {
    if let Some(image) = &args.image {
        return Ok(image.clone());
    }
    let name = args.board.as_deref().context("--board is missing")?;
    let board = Board::read(workspace, name)?;
    ensure!(
        board.disk.is_some(),
        "the board {name} starts without a disk: cargo xtask run --board {name}"
    );
    let image = workspace.out()?.join(format!("kos-{name}.img.zst"));
    ensure!(
        image.is_file(),
        "there is no {}; first: cargo xtask image --board {name}",
        workspace.shown(&image)
    );
    Ok(image)
}

fn refusals_of(disk: &Disk, force: bool) -> Vec<String> {
    let mut refusals = disk.refusals.clone();
    if !disk.removable && !force {
        refusals.push(format!(
            "it is not removable ({}); --force writes it nevertheless",
            transport(disk.transport)
        ));
    }
    refusals
}

/// Asks for the disk's name: a "y" is typed too easily.
fn confirm(device: &Path) -> Result<()> {
    let name = device.file_name().unwrap_or_default().to_string_lossy();
    ensure!(
        std::io::stdin().is_terminal(),
        "nobody can be asked here; --yes writes without a question"
    );
    eprint!(
        "Everything on {} will be lost. To go on, type {name}: ",
        device.display()
    );
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    ensure!(
        is_name_of(answer.trim(), device, &name),
        "not confirmed; nothing was written"
    );
    Ok(())
}

fn is_name_of(answer: &str, device: &Path, name: &str) -> bool {
    answer == name || Path::new(answer) == device
}

/// So that this machine sees the new partitions; a disk that is pulled out needs it not.
fn reread_partitions(device: &Path) {
    let Some(program) = find_program("blockdev") else {
        return;
    };
    let output = Command::new(program).arg("--rereadpt").arg(device).output();
    if !output.is_ok_and(|output| output.status.success()) {
        eprintln!(
            "this machine still sees the old partitions of {}; unplug it and plug it in again",
            device.display()
        );
    }
}

fn next_steps(plan: &Plan, settings: &Settings) -> String {
    let mut text = String::from("\nNext:\n");
    let start = match plan.disk {
        Some(_) => "put it into the board, connect the network, and switch on",
        None => "start a virtual machine with the file as its disk",
    };
    text.push_str(&format!("  - {start};\n"));
    let values = &settings.values;
    let address = values.network.as_ref().and_then(|network| network.address);
    let host = match address {
        Some(address) => address.address.to_string(),
        None => "ADDRESS".to_owned(),
    };
    if address.is_none() {
        text.push_str(
            "  - the box gets its ADDRESS by DHCP, and the router's list of devices has it;\n",
        );
    }
    text.push_str(&format!("  - open http://{host}/ in a browser and pair "));
    text.push_str(match values.owner_key {
        Some(_) => "with the pairing code on its screen,\n    or with your key: ",
        None => "with the pairing code on its screen and serial line.\n",
    });
    if values.owner_key.is_some() {
        text.push_str(&format!("cargo xtask pair --host {host} --identity KEY\n"));
    }
    text
}

fn transport(transport: Transport) -> &'static str {
    match transport {
        Transport::Usb => "USB",
        Transport::SdCard => "SD card",
        Transport::Emmc => "eMMC",
        Transport::Nvme => "NVMe",
        Transport::Ata => "SATA",
        Transport::Virtio => "virtio",
        Transport::Loop => "a loop device",
        Transport::Other => "an unknown bus",
    }
}

/// A size as a disk's label says it: powers of ten.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests;
