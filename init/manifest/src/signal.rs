//! Signals by name, as manifests, the API and reasons write them.

/// The signals that have a name in kOS, with their Linux numbers (the same on x86-64 and ARM).
const SIGNALS: [(&str, i32); 21] = [
    ("SIGHUP", 1),
    ("SIGINT", 2),
    ("SIGQUIT", 3),
    ("SIGILL", 4),
    ("SIGTRAP", 5),
    ("SIGABRT", 6),
    ("SIGBUS", 7),
    ("SIGFPE", 8),
    ("SIGKILL", 9),
    ("SIGUSR1", 10),
    ("SIGSEGV", 11),
    ("SIGUSR2", 12),
    ("SIGPIPE", 13),
    ("SIGALRM", 14),
    ("SIGTERM", 15),
    ("SIGCHLD", 17),
    ("SIGCONT", 18),
    ("SIGSTOP", 19),
    ("SIGXCPU", 24),
    ("SIGXFSZ", 25),
    ("SIGSYS", 31),
];

/// The name of a signal; `signal 34` for one without.
pub fn name(number: i32) -> String {
    SIGNALS
        .iter()
        .find(|(_, known)| *known == number)
        .map_or_else(
            || format!("signal {number}"),
            |(name, _)| (*name).to_owned(),
        )
}

/// The number of a signal by its name, with or without `SIG`.
pub fn number(name: &str) -> Option<i32> {
    SIGNALS
        .iter()
        .find(|(known, _)| *known == name || known.strip_prefix("SIG") == Some(name))
        .map(|(_, number)| *number)
}

/// All names, for an error that says what is allowed.
pub fn names() -> impl Iterator<Item = &'static str> {
    SIGNALS.iter().map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        assert_eq!(
            (name(9).as_str(), number("SIGKILL"), number("KILL")),
            ("SIGKILL", Some(9), Some(9))
        );
        assert_eq!((name(34).as_str(), number("SIGNOT")), ("signal 34", None));
    }
}
