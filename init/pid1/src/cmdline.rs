//! The kernel arguments that are PID 1's.

use std::time::Duration;

use kos_manifest::guid::Guid;

/// `kos.…` arguments, validated; what is wrong is kept to be told.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    /// `kos.data=serial:ID`: the serial number of the disk that is `/data`, whole.
    pub data_serial: Option<String>,
    /// `kos.disk=GUID`: the disk that the box boots from, by the GUID of its partition table.
    pub disk: Option<Guid>,
    /// `kos.reset=data`: the data partition is made empty, in each boot that is told so.
    pub reset: bool,
    /// `kos.console=services`: what services write is shown on the machine's console, too.
    pub echo_services: bool,
    /// `kos.break=hang-init:SECONDS`: PID 1 hangs for ever, so long after its services were told to
    /// start. For trying out the watchdog; nothing but the kernel's command line can ask for it.
    pub hang_init: Option<Duration>,
    /// `kos.watchdog=off`: the hardware watchdog is not started. For a debugger that stops the whole
    /// machine, and for emulators whose watchdog resets as soon as it is started.
    pub no_watchdog: bool,
    /// One sentence for each argument that was not understood.
    pub complaints: Vec<String>,
}

/// Longest serial number: what virtio-blk can carry.
const MAX_SERIAL: usize = 20;

/// Who wants to break a box later than in an hour can do it later.
const MAX_BREAK_SECONDS: u64 = 3600;

impl Arguments {
    /// Takes `/proc/cmdline` apart. Arguments without `kos.` are the kernel's.
    pub fn parse(line: &str) -> Self {
        let mut arguments = Arguments::default();
        for word in line.split_ascii_whitespace() {
            if let Some(word) = word.strip_prefix("kos.") {
                let (key, value) = word.split_once('=').unwrap_or((word, ""));
                if let Err(complaint) = arguments.take(key, value) {
                    arguments.complaints.push(complaint);
                }
            }
        }
        arguments
    }

    fn take(&mut self, key: &str, value: &str) -> Result<(), String> {
        let wrong = |allowed: &str| {
            Err(format!(
                "kernel argument kos.{key}: found '{value}', allowed: {allowed}"
            ))
        };
        match key {
            "data" => match value.strip_prefix("serial:") {
                Some(serial) if is_serial(serial) => self.data_serial = Some(serial.to_owned()),
                _ => {
                    return wrong(
                        "serial:ID, with at most 20 letters, digits, dashes, dots or underscores",
                    );
                }
            },
            "disk" => match value.parse() {
                Ok(guid) if guid != Guid::ZERO => self.disk = Some(guid),
                _ => return wrong("the GUID of a disk's partition table"),
            },
            "reset" if value == "data" => self.reset = true,
            "reset" => return wrong("data"),
            "break" => match value.strip_prefix("hang-init:").map(str::parse) {
                Some(Ok(seconds)) if seconds <= MAX_BREAK_SECONDS => {
                    self.hang_init = Some(Duration::from_secs(seconds));
                }
                _ => return wrong("hang-init:SECONDS, with at most 3600 seconds"),
            },
            "watchdog" if value == "off" => self.no_watchdog = true,
            "watchdog" => return wrong("off"),
            "console" if value == "services" => self.echo_services = true,
            "console" => return wrong("services"),
            _ => {
                return Err(format!(
                    "kernel argument kos.{key}: unknown, allowed: kos.data, kos.disk, kos.reset, \
                     kos.console, kos.watchdog, kos.break"
                ));
            }
        }
        Ok(())
    }
}

fn is_serial(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=MAX_SERIAL).contains(&text.len()) && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_is_named_by_its_serial_number() {
        let arguments = Arguments::parse("console=ttyS0 quiet kos.data=serial:kos-data panic=10\n");
        assert_eq!(arguments.data_serial.as_deref(), Some("kos-data"));
        assert!(!arguments.echo_services && arguments.complaints.is_empty());
        assert!(Arguments::parse("kos.console=services").echo_services);
        assert!(Arguments::parse("kos.watchdog=off").no_watchdog && !arguments.no_watchdog);
    }

    #[test]
    fn a_disk_is_named_by_its_guid_and_a_reset_is_asked_for() {
        let line = "kos.disk=C12A7328-F81F-11D2-BA4B-00A0C93EC93B kos.reset=data";
        let arguments = Arguments::parse(line);
        let guid = arguments.disk.unwrap().to_string();
        assert_eq!(guid, "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
        assert!(arguments.reset && arguments.complaints.is_empty());
        assert!(!Arguments::parse(&line.replace("data", "all")).reset);
    }

    #[test]
    fn the_box_can_be_told_to_break() {
        let arguments = Arguments::parse("kos.break=hang-init:5");
        assert_eq!(arguments.hang_init, Some(Duration::from_secs(5)));
        assert_eq!(Arguments::parse("break=hang-init:5").hang_init, None);
    }

    #[test]
    fn what_is_wrong_is_told_and_not_guessed() {
        for line in [
            "kos.data=label:x",
            "kos.data=serial:../x",
            "kos.data",
            "kos.dta=serial:x",
            "kos.disk=vda",
            "kos.disk=00000000-0000-0000-0000-000000000000",
            "kos.reset=all",
            "kos.console",
            "kos.watchdog=on",
            "kos.break=hang-init",
            "kos.break=hang-init:3601",
            "kos.break=panic:3",
        ] {
            let arguments = Arguments::parse(line);
            assert_eq!(
                (&arguments.data_serial, arguments.disk),
                (&None, None),
                "{line}"
            );
            assert!(!arguments.reset && !arguments.echo_services, "{line}");
            assert!(!arguments.no_watchdog, "{line}");
            assert_eq!(arguments.hang_init, None, "{line}");
            assert!(arguments.complaints[0].contains("allowed"), "{line}");
        }
    }
}
