//! Logging: one line per event on standard output, with the severity prefix that PID 1 reads.
//!
//! PID 1 stamps the time, so lines carry none. `$KOS_LOG` sets the level (`error`, `warn`,
//! `info`, `debug`, `trace`); it is `info` otherwise.

use std::fmt;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Starts logging. Call it once, first thing in `main`.
pub fn init() {
    let level = std::env::var("KOS_LOG")
        .ok()
        .and_then(|text| text.parse::<Level>().ok())
        .unwrap_or(Level::INFO);
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .event_format(Prefixed)
        .finish();
    // The only failure is a second call; the first one's subscriber goes on.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// `<6>message key=value`: the prefix is syslog's severity, as systemd reads it.
struct Prefixed;

impl<S, N> FormatEvent<S, N> for Prefixed
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let severity = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        write!(writer, "<{severity}>")?;
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}
