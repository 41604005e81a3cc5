//! LEDs of a board, in `/sys/class/leds`.

use std::path::Path;

use crate::error::SysError;
use crate::kernel_file;

/// How an LED shines. The kernel keeps it so by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Light {
    /// All the time.
    Steady,
    /// On and off, each for so many milliseconds.
    Blinking(u32),
}

/// Makes the LED of this name shine.
///
/// # Errors
/// The board has none of this name, or the kernel lacks the trigger.
pub fn show(leds: &Path, name: &str, light: Light) -> Result<(), SysError> {
    let led = leds.join(name);
    match light {
        Light::Steady => kernel_file::write(&led.join("trigger"), "default-on"),
        Light::Blinking(milliseconds) => {
            kernel_file::write(&led.join("trigger"), "timer")?;
            // Both files exist only since the line above.
            let time = milliseconds.to_string();
            kernel_file::write(&led.join("delay_on"), &time)?;
            kernel_file::write(&led.join("delay_off"), &time)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_light_is_a_trigger_and_its_times() {
        let root = tempfile::tempdir().unwrap();
        let led = root.path().join("ACT");
        std::fs::create_dir(&led).unwrap();
        for file in ["trigger", "delay_on", "delay_off"] {
            std::fs::write(led.join(file), "").unwrap();
        }
        let read = |file: &str| std::fs::read_to_string(led.join(file)).unwrap();
        show(root.path(), "ACT", Light::Blinking(500)).unwrap();
        assert_eq!(
            (read("trigger"), read("delay_off")),
            ("timer".into(), "500".into())
        );
        std::fs::write(led.join("trigger"), "").unwrap();
        show(root.path(), "ACT", Light::Steady).unwrap();
        assert_eq!(read("trigger"), "default-on");
        let error = show(root.path(), "PWR", Light::Steady).unwrap_err();
        assert!(error.full().contains("PWR/trigger"));
    }
}
