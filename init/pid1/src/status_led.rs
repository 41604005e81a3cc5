//! The board's status LED: blinking slowly while the box boots, steady when it is ready, blinking
//! fast when somebody should look at its console. What fails here is told and changes nothing.

use std::path::PathBuf;

use kos_sys::led::{Light, show};

use crate::console::Console;

/// Half a second on, half a second off: something is going on.
const BOOTING: Light = Light::Blinking(500);
/// Five times a second, which nobody takes for the other one.
const PROBLEM: Light = Light::Blinking(100);

/// The LED, on boards that have one.
pub struct StatusLed {
    name: Option<String>,
    leds: PathBuf,
    console: Console,
}

impl StatusLed {
    /// The LED of this name, showing nothing yet.
    pub fn new(name: Option<String>, leds: PathBuf, console: &Console) -> Self {
        StatusLed {
            name,
            leds,
            console: console.clone(),
        }
    }

    /// The box boots.
    pub fn booting(&self) {
        self.show(BOOTING);
    }

    /// The boot is over; `well` when there is nothing to look at.
    pub fn booted(&self, well: bool) {
        self.show(if well { Light::Steady } else { PROBLEM });
    }

    fn show(&self, light: Light) {
        let Some(name) = &self.name else { return };
        if let Err(error) = show(&self.leds, name, light) {
            self.console
                .say(4, &format!("the status LED: {}", error.full()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_led_shows_how_the_box_is_and_its_absence_is_told_once_each() {
        let leds = tempfile::tempdir().unwrap();
        let led = leds.path().join("ACT");
        std::fs::create_dir(&led).unwrap();
        for file in ["trigger", "delay_on", "delay_off"] {
            std::fs::write(led.join(file), "").unwrap();
        }
        let read = |file: &str| std::fs::read_to_string(led.join(file)).unwrap();
        let console = Console::silent();
        let new = |name: Option<&str>| {
            let name = name.map(str::to_owned);
            StatusLed::new(name, leds.path().to_owned(), &console)
        };
        new(Some("ACT")).booted(false);
        assert_eq!(
            (read("trigger"), read("delay_on")),
            ("timer".into(), "100".into())
        );
        new(None).booting();
        assert_eq!(console.log().lines().len(), 0);
        new(Some("PWR")).booting();
        assert!(console.log().lines()[0].contains("PWR"));
    }
}
