//! Signals by name, as manifests, the API and reasons write them.

/// The signals that have a name, in the order of their numbers from 1 (x86-64 and ARM, signal(7)).
const NAMES: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];

/// The name of a signal; `signal 34` for one without.
pub fn name(number: i32) -> String {
    number
        .checked_sub(1)
        .and_then(|index| NAMES.get(usize::try_from(index).ok()?))
        .map_or_else(|| format!("signal {number}"), |name| (*name).to_owned())
}

/// The number of a signal by its name, with or without `SIG`.
pub fn number(name: &str) -> Option<i32> {
    NAMES
        .iter()
        .zip(1..)
        .find(|(known, _)| **known == name || known.strip_prefix("SIG") == Some(name))
        .map(|(_, number)| number)
}

/// All names, for an error that says what is allowed.
pub fn names() -> impl Iterator<Item = &'static str> {
    NAMES.into_iter()
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
        assert_eq!((name(0).as_str(), number("SYS")), ("signal 0", Some(31)));
    }
}
