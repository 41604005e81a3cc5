//! What a request can mean: a call of the box's own API, or none.

use kos_sdk::percent::escape;
use serde_json::{Map, Value, json};

/// Every kind of call. Its number is the model's: the order is a part of the file's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Nothing that the box does.
    None,
    /// Every service.
    Services,
    /// One service.
    Service,
    /// What a service is told to be.
    Manifest,
    /// Lines of the log.
    Logs,
    /// How much memory there is.
    Memory,
    /// How much of the disk is free.
    Disk,
    /// How long the box has been up.
    Uptime,
    /// Its addresses.
    Network,
    /// Its version.
    Version,
    /// All that is known of the machine.
    System,
    /// Earlier boots and how they ended.
    Boots,
    /// The models there are.
    Models,
    /// The models in memory.
    Loaded,
    /// Who is paired.
    Sessions,
    /// Starts a service.
    Start,
    /// Stops it.
    Stop,
    /// Stops and starts it.
    Restart,
    /// Lets it stand still.
    Freeze,
    /// Lets it go on.
    Thaw,
    /// Stops it and keeps it from running.
    Quarantine,
    /// Lets it be started again.
    Release,
    /// Reads the manifests again.
    Reload,
    /// Restarts the machine.
    Reboot,
    /// Turns it off.
    Poweroff,
}

impl Kind {
    /// All, in the order of their numbers.
    pub const ALL: [Kind; 25] = [
        Kind::None,
        Kind::Services,
        Kind::Service,
        Kind::Manifest,
        Kind::Logs,
        Kind::Memory,
        Kind::Disk,
        Kind::Uptime,
        Kind::Network,
        Kind::Version,
        Kind::System,
        Kind::Boots,
        Kind::Models,
        Kind::Loaded,
        Kind::Sessions,
        Kind::Start,
        Kind::Stop,
        Kind::Restart,
        Kind::Freeze,
        Kind::Thaw,
        Kind::Quarantine,
        Kind::Release,
        Kind::Reload,
        Kind::Reboot,
        Kind::Poweroff,
    ];

    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::None => "none",
            Kind::Services => "services",
            Kind::Service => "service",
            Kind::Manifest => "manifest",
            Kind::Logs => "logs",
            Kind::Memory => "memory",
            Kind::Disk => "disk",
            Kind::Uptime => "uptime",
            Kind::Network => "network",
            Kind::Version => "version",
            Kind::System => "system",
            Kind::Boots => "boots",
            Kind::Models => "models",
            Kind::Loaded => "loaded",
            Kind::Sessions => "sessions",
            Kind::Start => "start",
            Kind::Stop => "stop",
            Kind::Restart => "restart",
            Kind::Freeze => "freeze",
            Kind::Thaw => "thaw",
            Kind::Quarantine => "quarantine",
            Kind::Release => "release",
            Kind::Reload => "reload",
            Kind::Reboot => "reboot",
            Kind::Poweroff => "poweroff",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether it is about one service, which must be named.
    #[must_use]
    pub fn needs_service(self) -> bool {
        matches!(self, Kind::Service | Kind::Manifest) || self.acts_on_service()
    }

    fn acts_on_service(self) -> bool {
        matches!(
            self,
            Kind::Start
                | Kind::Stop
                | Kind::Restart
                | Kind::Freeze
                | Kind::Thaw
                | Kind::Quarantine
                | Kind::Release
        )
    }

    /// Whether it changes something, so that a person must confirm it.
    #[must_use]
    pub fn changes(self) -> bool {
        self.acts_on_service() || matches!(self, Kind::Reload | Kind::Reboot | Kind::Poweroff)
    }
}

/// A time in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Since {
    /// So long ago, as the log's own filter writes it: `-15m`.
    Ago(String),
    /// `today`, `yesterday`, `last-night` or `this-morning`, which a clock must turn into hours.
    Day(&'static str),
}

impl Since {
    /// As it is written.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Since::Ago(text) => text,
            Since::Day(name) => name,
        }
    }
}

/// A call with its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Which one.
    pub kind: Kind,
    /// The service it is about, as the request wrote it.
    pub service: Option<String>,
    /// Least severe level of log lines, as syslog counts.
    pub level: Option<u8>,
    /// First time of log lines.
    pub since: Option<Since>,
    /// Text that log lines must hold.
    pub search: Option<String>,
    /// Most log lines.
    pub limit: Option<u32>,
}

/// Levels by number, as the log's filter names them.
pub const LEVELS: [&str; 8] = [
    "emerg", "alert", "crit", "err", "warning", "notice", "info", "debug",
];

impl Call {
    /// One without arguments.
    #[must_use]
    pub fn of(kind: Kind) -> Self {
        Call {
            kind,
            service: None,
            level: None,
            since: None,
            search: None,
            limit: None,
        }
    }

    /// Its name and arguments.
    #[must_use]
    pub fn arguments(&self) -> Map<String, Value> {
        let mut all = Map::new();
        all.insert("call".to_owned(), self.kind.name().into());
        let texts = [
            ("service", self.service.as_deref()),
            (
                "level",
                self.level.map(|level| LEVELS[usize::from(level.min(7))]),
            ),
            ("since", self.since.as_ref().map(Since::name)),
            ("search", self.search.as_deref()),
        ];
        for (key, value) in texts {
            if let Some(value) = value {
                all.insert(key.to_owned(), value.into());
            }
        }
        if let Some(limit) = self.limit {
            all.insert("limit".to_owned(), limit.into());
        }
        all
    }

    /// What the model answers: the call, the request of `/api/v1` that does it, and whether that
    /// changes something.
    #[must_use]
    pub fn answer(&self) -> Value {
        let mut all = self.arguments();
        if let Some(request) = self.request() {
            all.insert("request".to_owned(), request.into());
            all.insert("changes".to_owned(), self.kind.changes().into());
        } else {
            all.insert("because".to_owned(), NOT_UNDERSTOOD.into());
        }
        json!(all)
    }

    /// The HTTP request that does it; none when there is nothing to do.
    #[must_use]
    pub fn request(&self) -> Option<String> {
        let service = || escape(self.service.as_deref().unwrap_or_default());
        Some(match self.kind {
            Kind::None => return None,
            Kind::Services => "GET /api/v1/services".to_owned(),
            Kind::Service => format!("GET /api/v1/services/{}", service()),
            Kind::Manifest => format!("GET /api/v1/services/{}/manifest", service()),
            Kind::Logs => format!("GET /api/v1/logs{}", self.log_query()),
            Kind::Memory
            | Kind::Disk
            | Kind::Uptime
            | Kind::Network
            | Kind::Version
            | Kind::System => "GET /api/v1/system".to_owned(),
            Kind::Boots => "GET /api/v1/boots".to_owned(),
            Kind::Models => "GET /api/tags".to_owned(),
            Kind::Loaded => "GET /api/ps".to_owned(),
            Kind::Sessions => "GET /api/v1/sessions".to_owned(),
            Kind::Reload => "POST /api/v1/reload".to_owned(),
            Kind::Reboot | Kind::Poweroff => {
                format!("POST /api/v1/system/{}", self.kind.name())
            }
            Kind::Start
            | Kind::Stop
            | Kind::Restart
            | Kind::Freeze
            | Kind::Thaw
            | Kind::Quarantine
            | Kind::Release => {
                format!("POST /api/v1/services/{}/{}", service(), self.kind.name())
            }
        })
    }

    /// Days stand in it by name: whoever asks has the clock.
    fn log_query(&self) -> String {
        let mut query = String::new();
        let arguments = self.arguments();
        for key in ["service", "level", "since", "search", "limit"] {
            let text = match arguments.get(key) {
                None => continue,
                Some(Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
            };
            let separator = if query.is_empty() { '?' } else { '&' };
            query.push_str(&format!("{separator}{key}={}", escape(&text)));
        }
        query
    }
}

/// What is said when a request is no call.
const NOT_UNDERSTOOD: &str = "this is none of the things that the operator can do: look at services, logs, memory, \
     disk, uptime, network, version, boots, models and sessions; start, stop, restart, freeze, thaw, quarantine and \
     release a service; reload the manifests; reboot and power off";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_known_by_name_and_number() {
        for (number, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number);
            assert_eq!(Kind::parse(kind.name()), Some(kind));
        }
        assert_eq!(Kind::parse("factory-reset"), None);
    }

    #[test]
    fn a_call_is_a_request_of_the_api() {
        let mut logs = Call::of(Kind::Logs);
        assert_eq!(logs.request().unwrap(), "GET /api/v1/logs");
        logs.service = Some("door-cam-2".into());
        logs.level = Some(3);
        logs.since = Some(Since::Ago("-15m".into()));
        logs.search = Some("no route & more".into());
        logs.limit = Some(20);
        assert_eq!(
            logs.request().unwrap(),
            "GET /api/v1/logs?service=door-cam-2&level=err&since=-15m&search=no%20route%20%26%20more\
             &limit=20"
        );
        let mut restart = Call::of(Kind::Restart);
        restart.service = Some("../x".into());
        assert_eq!(
            restart.request().unwrap(),
            "POST /api/v1/services/..%2Fx/restart"
        );
        assert_eq!(restart.answer()["changes"], true);
        let none = Call::of(Kind::None).answer();
        assert!(none.get("request").is_none() && none["because"].is_string());
    }
}
