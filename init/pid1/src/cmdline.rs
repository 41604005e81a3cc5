//! The kernel arguments that are PID 1's.

/// `kos.…` arguments, validated; what is wrong is kept to be told.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    /// `kos.data=serial:ID`: the serial number of the disk that `/data` is on.
    pub data_serial: Option<String>,
    /// `kos.console=services`: what services write is shown on the machine's console, too.
    pub echo_services: bool,
    /// One sentence for each argument that was not understood.
    pub complaints: Vec<String>,
}

/// Longest serial number: what virtio-blk can carry.
const MAX_SERIAL: usize = 20;

impl Arguments {
    /// Takes `/proc/cmdline` apart. Arguments without `kos.` are the kernel's.
    pub fn parse(line: &str) -> Self {
        let mut arguments = Arguments::default();
        for word in line.split_ascii_whitespace() {
            let Some(word) = word.strip_prefix("kos.") else {
                continue;
            };
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            match (key, value.split_once(':')) {
                ("data", Some(("serial", serial))) if is_serial(serial) => {
                    arguments.data_serial = Some(serial.to_owned());
                }
                ("console", None) if value == "services" => arguments.echo_services = true,
                ("console", _) => arguments.complaints.push(format!(
                    "kernel argument kos.console: found '{value}', allowed: services"
                )),
                ("data", _) => arguments.complaints.push(format!(
                    "kernel argument kos.data: found '{value}', allowed: serial:ID, with at most \
                     {MAX_SERIAL} letters, digits, dashes, dots or underscores"
                )),
                _ => arguments.complaints.push(format!(
                    "kernel argument kos.{key}: unknown, allowed: kos.data"
                )),
            }
        }
        arguments
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
    }

    #[test]
    fn what_is_wrong_is_told_and_not_guessed() {
        for line in [
            "kos.data=label:x",
            "kos.data=serial:../x",
            "kos.data",
            "kos.dta=serial:x",
        ] {
            let arguments = Arguments::parse(line);
            assert_eq!(arguments.data_serial, None, "{line}");
            assert!(arguments.complaints[0].contains("allowed"), "{line}");
        }
    }
}
