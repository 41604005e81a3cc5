//! `/etc/kos/board.toml`: what PID 1 has to know about the board that it runs on. The image build
//! writes it from `image/boards/`.

use serde::{Deserialize, Serialize};

use crate::error::{ManifestError, parse_toml};
use crate::source::Source;

/// Where it is in the image.
pub const BOARD_INFO: &str = "/etc/kos/board.toml";

/// Longer than any that the image build writes.
const MAX_BYTES: usize = 16 * 1024;

/// The board.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BoardInfo {
    /// Its name, which is its file's below `image/boards/`.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// The processor's architecture, as Rust names it.
    pub arch: String,
    /// What starts the kernel.
    pub firmware: Firmware,
    /// The LED that shows how the box is, by its name in `/sys/class/leds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_led: Option<String>,
    /// The watchdog to use, by its identity in `/sys/class/watchdog/*/identity`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watchdog: Option<String>,
}

/// See [`BoardInfo::firmware`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    /// An emulator that is given kernel and initramfs as files.
    None,
    /// UEFI, with systemd-boot.
    Uefi,
    /// The Raspberry Pi's own.
    RaspberryPi,
    /// U-Boot, reading an extlinux.conf.
    UBoot,
}

impl BoardInfo {
    /// Parses the file.
    ///
    /// # Errors
    /// Bad syntax, an unknown key, a value of the wrong type, or an LED's name that is a path.
    pub fn parse(file: &str, text: &str) -> Result<Self, ManifestError> {
        Source { file, text }.at_most(MAX_BYTES)?;
        let info: BoardInfo = parse_toml(file, text)?;
        if let Some(led) = &info.status_led {
            // The kernel's LED names have colons and dashes in them, and become part of a path.
            let plain = led
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'/');
            if !plain || led.is_empty() || led.starts_with('.') {
                return Err(ManifestError {
                    file: file.to_owned(),
                    place: None,
                    key: "status-led".to_owned(),
                    message: format!("found '{led}', allowed: a name in /sys/class/leds"),
                });
            }
        }
        Ok(info)
    }

    /// The file's text.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("strings and one word are always TOML")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PI: &str = "name = \"rpi4\"\ndescription = \"Raspberry Pi 4, 400, CM4\"\n\
                      arch = \"aarch64\"\nfirmware = \"raspberry-pi\"\nstatus-led = \"ACT\"\n\
                      watchdog = \"Broadcom BCM2835 Watchdog timer\"\n";

    #[test]
    fn a_board_is_read_and_written_back() {
        let info = BoardInfo::parse("board.toml", PI).unwrap();
        assert_eq!(info.firmware, Firmware::RaspberryPi);
        assert_eq!(info.status_led.as_deref(), Some("ACT"));
        assert_eq!(info.to_toml(), PI);
        let bare = PI.lines().take(4).collect::<Vec<_>>().join("\n");
        let info = BoardInfo::parse("board.toml", &bare).unwrap();
        assert_eq!(info.status_led, None);
        assert_eq!(BoardInfo::parse("b", &info.to_toml()).unwrap(), info);
    }

    #[test]
    fn what_is_wrong_is_told_with_what_is_allowed() {
        let refused = |text: &str| {
            BoardInfo::parse("board.toml", text)
                .unwrap_err()
                .to_string()
        };
        let error = refused(&PI.replace("raspberry-pi", "bios"));
        assert!(error.contains("board.toml:4"), "{error}");
        assert!(error.contains("u-boot"), "{error}");
        assert!(refused(&PI.replace("ACT", "../x")).contains("status-led"));
        assert!(refused(&format!("{PI}colour = 1\n")).contains("status-led"));
    }
}
